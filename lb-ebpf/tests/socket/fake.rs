//! The maps of one family as collections, with a hand on what happens between two reads.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
};

use lb_ebpf::{
    abi::{
        address::Address,
        backend::{Backend, flags},
        drops::Counter,
        flow::{Affinity, Datagram, DatagramKey, Peer},
        frontend::{FrontendKey, Kind, Word, scope},
        run::{self, RunHeader},
    },
    tables::{Client, Replaced, Surroundings, Tables},
};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

type Affinities<A> = BTreeMap<(Result<A, u64>, u32), Affinity>;
type Change<A> = Box<dyn FnOnce(&Fake<A>)>;

pub(crate) struct Fake<A: Address> {
    pub(crate) frontends: RefCell<BTreeMap<FrontendKey<A>, Word>>,
    pub(crate) addresses: RefCell<BTreeMap<A, u32>>,
    pub(crate) arena: RefCell<Vec<u32>>,
    pub(crate) backends: RefCell<BTreeMap<u32, Backend<A>>>,
    pub(crate) active: RefCell<BTreeMap<u32, u64>>,
    pub(crate) ranges: RefCell<Vec<(u32, A)>>,
    pub(crate) affinity: RefCell<Affinities<A>>,
    pub(crate) peers: RefCell<HashMap<u64, Peer<A>>>,
    pub(crate) peers_full: Cell<bool>,
    pub(crate) datagrams: RefCell<BTreeMap<DatagramKey<A>, Datagram<A>>>,
    pub(crate) client: Cell<Client<A>>,
    pub(crate) on_host: Cell<bool>,
    pub(crate) remembers: Cell<bool>,
    pub(crate) cookie: Cell<u64>,
    pub(crate) randoms: RefCell<Vec<u32>>,
    pub(crate) ticks: Cell<u32>,
    pub(crate) counters: RefCell<BTreeMap<Counter, u32>>,
    /// Runs before the n-th read of a frontend, to change tables under the reader.
    pub(crate) before_read: RefCell<Vec<Change<A>>>,
}

impl<A: Address> Fake<A> {
    pub(crate) fn new() -> Self {
        Self {
            frontends: RefCell::default(),
            addresses: RefCell::default(),
            arena: RefCell::new(vec![0; 16 * 1024]),
            backends: RefCell::default(),
            active: RefCell::default(),
            ranges: RefCell::default(),
            affinity: RefCell::default(),
            peers: RefCell::default(),
            peers_full: Cell::new(false),
            datagrams: RefCell::default(),
            client: Cell::new(Client::Known(A::LOOPBACK)),
            on_host: Cell::new(false),
            remembers: Cell::new(true),
            cookie: Cell::new(1),
            randoms: RefCell::default(),
            ticks: Cell::new(1000),
            counters: RefCell::default(),
            before_read: RefCell::default(),
        }
    }

    /// Writes a backend and returns its id.
    pub(crate) fn backend(&self, id: u32, address: A, port: u16, service: u32, pools: u8) -> u32 {
        let backend = Backend {
            address,
            port: port.to_be_bytes(),
            protocol: TCP,
            flags: pools | flags::LIVE,
            service: service.to_ne_bytes(),
        };
        self.backends.borrow_mut().insert(id, backend);
        id
    }

    /// Writes a run at `line`.
    pub(crate) fn run(&self, line: u32, header: RunHeader, ids: &[u32]) {
        let mut arena = self.arena.borrow_mut();
        let at = line as usize * run::LINE_WORDS as usize;
        let words = [header.generation, header.service, header.length, header.affinity_ticks, header.pool, 0, 0, 0];
        arena[at..at + 8].copy_from_slice(&words);
        arena[at + 8..at + 8 + ids.len()].copy_from_slice(ids);
    }

    /// Publishes a frontend.
    pub(crate) fn publish(&self, at: (A, u16, u8), kind: Kind, word_flags: u8, line: u32, generation: u32) {
        let key = FrontendKey::new(at.0, at.1, at.2, scope::INTERNAL);
        let word = Word::new(line, kind, word_flags, generation, key.fingerprint());
        self.frontends.borrow_mut().insert(key, word);
    }

    pub(crate) fn count_of(&self, counter: Counter) -> u32 {
        self.counters.borrow().get(&counter).copied().unwrap_or(0)
    }
}

pub(crate) fn header(generation: u32, service: u32, length: u32, affinity_ticks: u32, pool: u8) -> RunHeader {
    RunHeader { generation, service, length, affinity_ticks, pool: u32::from(pool), _reserved: [0; 3] }
}

impl<A: Address> Tables<A> for Fake<A> {
    fn frontend(&self, key: &FrontendKey<A>) -> Option<Word> {
        let change = {
            let mut changes = self.before_read.borrow_mut();
            if changes.is_empty() { None } else { Some(changes.remove(0)) }
        };
        let word = self.frontends.borrow().get(key).copied();
        // The change lands after the word was loaded: the reader goes on with the old one.
        if let Some(change) = change {
            change(self);
        }
        word
    }

    fn address(&self, address: &A) -> Option<u32> {
        self.addresses.borrow().get(address).copied()
    }

    fn header(&self, line: u32) -> Option<RunHeader> {
        let arena = self.arena.borrow();
        let at = line as usize * run::LINE_WORDS as usize;
        let words = arena.get(at..at + 8)?;
        Some(RunHeader {
            generation: words[0],
            service: words[1],
            length: words[2],
            affinity_ticks: words[3],
            pool: words[4],
            _reserved: [0; 3],
        })
    }

    fn id(&self, line: u32, index: u32) -> Option<u32> {
        let (lines, word) = run::place(index);
        self.arena.borrow().get(((line + lines) * run::LINE_WORDS + word) as usize).copied()
    }

    fn backend(&self, id: u32) -> Option<Backend<A>> {
        self.backends.borrow().get(&id).copied()
    }

    fn active(&self, id: u32) -> u64 {
        self.active.borrow().get(&id).copied().unwrap_or(0)
    }

    fn count(&self, id: u32) {
        *self.active.borrow_mut().entry(id).or_default() += 1;
    }

    fn uncount(&self, id: u32) {
        *self.active.borrow_mut().get_mut(&id).expect("counted before") -= 1;
    }

    fn admits(&self, service: u32, client: &A) -> bool {
        self.ranges.borrow().contains(&(service, *client))
    }

    fn affinity(&self, client: &Client<A>, service: u32) -> Option<Affinity> {
        self.affinity.borrow().get(&(key(client), service)).copied()
    }

    fn set_affinity(&self, client: &Client<A>, service: u32, affinity: Affinity) {
        self.affinity.borrow_mut().insert((key(client), service), affinity);
    }

    fn peer(&self, cookie: u64) -> Option<Peer<A>> {
        self.peers.borrow().get(&cookie).copied()
    }

    fn replace_peer(&self, cookie: u64, peer: &Peer<A>) -> Replaced<A> {
        if self.peers_full.get() {
            return Replaced::Full;
        }
        self.peers.borrow_mut().insert(cookie, *peer).map_or(Replaced::New, Replaced::Old)
    }

    fn remove_peer(&self, cookie: u64) {
        self.peers.borrow_mut().remove(&cookie);
    }

    fn datagram(&self, key: &DatagramKey<A>) -> Option<Datagram<A>> {
        self.datagrams.borrow().get(key).copied()
    }

    fn set_datagram(&self, key: &DatagramKey<A>, datagram: &Datagram<A>) {
        self.datagrams.borrow_mut().insert(*key, *datagram);
    }

    fn sight(&self) {}
}

impl<A: Address> Surroundings<A> for Fake<A> {
    fn on_host(&self) -> bool {
        self.on_host.get()
    }

    fn client(&self) -> Client<A> {
        self.client.get()
    }

    fn cookie(&self) -> u64 {
        self.cookie.get()
    }

    fn random(&self) -> u32 {
        let mut randoms = self.randoms.borrow_mut();
        if randoms.is_empty() { 0 } else { randoms.remove(0) }
    }

    fn ticks(&self) -> u32 {
        self.ticks.get()
    }

    fn remembers(&self) -> bool {
        self.remembers.get()
    }

    fn counter(&self, counter: Counter) {
        *self.counters.borrow_mut().entry(counter).or_default() += 1;
    }
}

fn key<A: Copy>(client: &Client<A>) -> Result<A, u64> {
    match client {
        Client::Known(address) => Ok(*address),
        Client::Stray(cookie) => Err(*cookie),
    }
}
