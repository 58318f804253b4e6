//! Publishing under readers that are preempted: no connection ever reaches a backend of another service.
//!
//! Two services change their tables as fast as the maps take it: lines, frontend elements and words are reused all the
//! time, as the agent reuses them (lines after a grace period, elements whenever the kernel likes). Meanwhile more
//! threads than CPUs connect UDP sockets, whose peer is the backend that the program chose.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use lb_agent::{
    arena::Arena,
    datapath::{
        grace,
        install::Installed,
        node::{self, NodeSettings},
    },
    grace::Epoch,
    maps::{Map, MapStore},
};
use lb_ebpf::abi::{
    backend::{Backend, flags},
    frontend::{FrontendKey, Kind, Word, scope},
    run::{self, RunHeader},
};
use lb_tests::ground::Ground;
use zerocopy::IntoBytes;

const READERS: usize = 8;
const DURATION: Duration = Duration::from_secs(5);
const BACKENDS: u32 = 12;
const UDP: u8 = 17;

/// One of the two services: 10.0.N.1:53, backends 10.1.N.x.
#[derive(Clone, Copy)]
struct Service(u8);

impl Service {
    fn vip(self) -> [u8; 4] {
        [10, 0, self.0, 1]
    }

    fn key(self) -> FrontendKey<[u8; 4]> {
        FrontendKey::new(self.vip(), 53, UDP, scope::INTERNAL)
    }

    fn ids(self) -> std::ops::Range<u32> {
        let first = 1 + u32::from(self.0) * BACKENDS;
        first..first + BACKENDS
    }

    fn write_backends(self, store: &mut impl MapStore) {
        for (index, id) in self.ids().enumerate() {
            let backend = Backend {
                address: [10, 1, self.0, index as u8],
                port: 5353u16.to_be_bytes(),
                protocol: UDP,
                flags: flags::CLUSTER | flags::LIVE,
                service: u32::from(self.0 + 1).to_ne_bytes(),
            };
            store.set(Map::Backends4, &id.to_ne_bytes(), backend.as_bytes()).unwrap();
        }
    }

    /// Writes a table of `length` backends to fresh lines and returns the word that names it.
    fn write_run(self, store: &mut impl MapStore, arena: &mut Arena, length: u32) -> Word {
        let line = arena.allocate(run::lines(length)).unwrap();
        let header = RunHeader {
            generation: arena.next_generation(),
            service: u32::from(self.0 + 1),
            length,
            affinity_ticks: 0,
            pool: u32::from(flags::CLUSTER),
            _reserved: [0; 3],
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(self.ids().take(length as usize).flat_map(u32::to_ne_bytes));
        bytes.resize(run::lines(length) as usize * run::LINE_BYTES, 0);
        store.set(Map::Arena, &line.to_ne_bytes(), &bytes).unwrap();
        Word::new(line, Kind::Random, 0, header.generation, self.key().fingerprint())
    }
}

#[test]
#[ignore = "needs root"]
fn no_reader_sees_a_foreign_backend() {
    let ground = Ground::enter("publish").unwrap();
    ground.isolate().unwrap();
    // So few lines that each is used again after a second or two.
    let sizes = BTreeMap::from([("arena".to_owned(), 65_536)]);
    let installed = Installed::load(&ground.bpf_dir(), ground.cgroup(), sizes).unwrap_or_else(|e| panic!("{e}"));
    node::write_settings(&installed.maps().unwrap(), &NodeSettings::default()).unwrap();
    let mut store = installed.store().unwrap();
    let services = [Service(0), Service(1)];
    services.iter().for_each(|service| service.write_backends(&mut store));
    installed.attach().unwrap_or_else(|error| panic!("{error}"));

    let (stop, connects, untranslated) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let updates = thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    for service in services {
                        let vip = Ipv4Addr::from(service.vip());
                        // Refused while the table changes twice under one look: allowed, and rare.
                        if socket.connect(SocketAddrV4::new(vip, 53)).is_err() {
                            continue;
                        }
                        let peer = match socket.peer_addr().unwrap() {
                            std::net::SocketAddr::V4(peer) => *peer.ip(),
                            std::net::SocketAddr::V6(peer) => panic!("{peer}"),
                        };
                        connects.fetch_add(1, Ordering::Relaxed);
                        // Between removal and return of its frontend an address is nobody's.
                        if peer == vip {
                            untranslated.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        let octets = peer.octets();
                        assert_eq!(octets[..3], [10, 1, service.0], "service {vip} led to {peer}");
                    }
                }
            });
        }
        let updates = publish(&mut store, &services);
        stop.store(true, Ordering::Relaxed);
        updates
    });
    let (connects, untranslated) = (connects.into_inner(), untranslated.into_inner());
    let rate = updates / DURATION.as_secs();
    println!(
        "{updates} updates ({rate}/s), {connects} connects by {READERS} threads, {untranslated} between frontends"
    );
    assert!(connects > untranslated * 2, "most connects are translated");
    assert!(connects > 10_000, "the readers ran");
    assert!(updates > 10_000, "the writer ran");
}

/// Publishes for [`DURATION`]; returns the number of words written.
fn publish(store: &mut impl MapStore, services: &[Service; 2]) -> u64 {
    let mut arena = Arena::new(store.capacity(Map::Arena));
    let (ask, asked) = mpsc::channel::<Epoch>();
    let (pass, passed) = mpsc::channel();
    let waiter = thread::spawn(move || {
        while let Ok(epoch) = asked.recv() {
            grace::wait();
            if pass.send(epoch).is_err() {
                return;
            }
        }
    });
    let (mut epoch, mut updates, mut words) = (Epoch::default(), 0u64, [None::<Word>; 2]);
    let end = Instant::now() + DURATION;
    while Instant::now() < end {
        for (index, service) in services.iter().enumerate() {
            let length = 1 + (updates % u64::from(BACKENDS)) as u32;
            let word = service.write_run(store, &mut arena, length);
            // Every eighth time both frontends go first, so that the kernel hands their elements to each other.
            if updates % 8 < 2 && index == 0 {
                for service in services {
                    store.remove(Map::Frontends4, service.key().as_bytes()).unwrap();
                }
            }
            store.set(Map::Frontends4, service.key().as_bytes(), word.as_bytes()).unwrap();
            if let Some(old) = words[index].replace(word) {
                arena.release(old.line(), epoch);
            }
            updates += 1;
        }
        if updates % 512 == 0 {
            ask.send(epoch).unwrap();
            epoch = epoch.next();
        }
        while let Ok(epoch) = passed.try_recv() {
            arena.passed(epoch);
        }
        // The writer outruns the grace periods: it waits for the next one instead of running out of lines.
        if arena.used() > 60_000
            && let Ok(epoch) = passed.recv_timeout(Duration::from_secs(2))
        {
            arena.passed(epoch);
        }
    }
    drop(ask);
    waiter.join().unwrap();
    updates
}
