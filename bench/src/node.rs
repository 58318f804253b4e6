//! Connections through the socket programs against connections without them.
//!
//! One thread owns both ends, so that no wake-up on another CPU is measured, and every connection is closed by RST, so
//! that no port waits. "Without" is the same process outside the cgroup that the programs are attached to.

mod connect;
mod program;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_agent::{
    config::Config,
    datapath::{
        install::Installed,
        node::{self, NodeSettings},
    },
    desired::{Settings, facts::Facts},
    maps::kernel::KernelStore,
    model::{
        Event, Model, Name, Object,
        addr::{Family, Protocol},
        endpoint::{Endpoint, EndpointPort, EndpointSlice},
        service::{Service, ServicePort, TrafficPolicy},
    },
    reconcile::{Backoff, Reconciler},
};
use lb_tests::ground::Ground;

use crate::figure::Figure;

const HOW: &str = "./scripts/bench node";
/// Where every backend listens.
const PORT: u16 = 8080;

/// Measures, and prints the figures.
pub fn measure(quick: bool) -> Result<()> {
    let (rounds, sizes): (usize, &[u32]) = if quick { (5, &[10, 1000]) } else { (15, &[10, 1000, 10_000, 100_000]) };
    let ground = Ground::enter("bench")?;
    ground.isolate()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listen")?;
    let bench = Bench::install(&ground)?;
    for &services in sizes {
        let mut cluster = Cluster::of(&bench, services)?;
        cluster.load_figures(services);
        let ends = connect::Ends { listener: &listener, direct: backend(services - 1, 0), service: vip(services - 1) };
        for figure in connect::ratios(&ground, &ends, services, rounds)? {
            figure.print();
        }
        cluster.change_figure(services, rounds);
    }
    let last = sizes[sizes.len() - 1] - 1;
    for figure in program::hooks(&bench, &ground, &listener, vip(last), rounds)? {
        figure.print();
    }
    Ok(())
}

/// The programs, attached to the ground's cgroup.
pub(crate) struct Bench {
    installed: Installed,
}

impl Bench {
    fn install(ground: &Ground) -> Result<Self> {
        let mut sizes = Config::default().maps.by_name();
        for name in ["arena", "frontends4", "backends4", "addresses4"] {
            sizes.insert(name.to_owned(), 1 << 19);
        }
        let installed = Installed::load(&ground.bpf_dir(), ground.cgroup(), sizes)?;
        installed.attach()?;
        let bench = Self { installed };
        bench.remember(true)?;
        Ok(bench)
    }

    /// Chooses whether translated sockets are kept for getpeername.
    fn remember(&self, remember_peer: bool) -> Result<()> {
        let settings = NodeSettings { remember_peer, ..NodeSettings::default() };
        Ok(node::write_settings(&self.installed.maps()?, &settings)?)
    }
}

/// Services in the maps, as the agent puts them there.
struct Cluster {
    model: Model,
    facts: Facts,
    reconciler: Reconciler<KernelStore>,
    loaded: Duration,
    writes: usize,
}

impl Cluster {
    /// Replaces what the maps hold by so many services with three backends each (one above 10,000).
    fn of(bench: &Bench, services: u32) -> Result<Self> {
        let mut model = Model::default();
        let objects = (0..services).flat_map(|index| [service(index), slice(index, &[0, 1, 2])]).collect();
        let changes = model.apply(Event::Reset(objects));
        let facts = Facts { node: "bench".to_owned(), ..Facts::default() };
        let store = bench.installed.store()?;
        let settings = Settings::from(&Config::default());
        let started = Instant::now();
        let mut reconciler = Reconciler::new(store, settings, Backoff::default())?;
        reconciler.event(changes);
        reconciler.synced();
        let outcome = reconciler.step(&model, &facts, Duration::ZERO);
        ensure!(outcome.failures.is_empty(), "{:?}", outcome.problems);
        Ok(Self { model, facts, reconciler, loaded: started.elapsed(), writes: outcome.plan.len() })
    }

    fn load_figures(&self, services: u32) {
        let took = self.loaded.as_secs_f64() * 1e3;
        Figure::of(format!("load@{services}x3"), "ms", vec![took], HOW).print();
        Figure::of(format!("load.writes@{services}x3"), "count", vec![self.writes as f64], HOW).print();
    }

    /// Takes an endpoint away and gives it back: compile, plan and map writes of one change.
    fn change_figure(&mut self, services: u32, rounds: usize) {
        let (mut took, mut writes) = (Vec::new(), Vec::new());
        for round in 0..rounds * 4 {
            let endpoints: &[u8] = if round % 2 == 0 { &[0, 1] } else { &[0, 1, 2] };
            let event = Event::Apply(slice(services / 2, endpoints));
            let started = Instant::now();
            self.reconciler.event(self.model.apply(event));
            let outcome = self.reconciler.step(&self.model, &self.facts, Duration::ZERO);
            took.push(started.elapsed().as_secs_f64() * 1e6);
            writes.push(outcome.plan.len() as f64);
            if let Some(epoch) = outcome.grace {
                lb_agent::datapath::grace::wait();
                self.reconciler.passed(epoch);
            }
        }
        Figure::of(format!("change@{services}"), "us", took, HOW).print();
        Figure::of(format!("change.writes@{services}"), "count", writes, HOW).print();
    }
}

/// 10.2.x.y:80 and on.
fn vip(index: u32) -> SocketAddrV4 {
    let [_, a, b, c] = (0x0040_0000 + index).to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, a, b, c), 80)
}

/// 10.1xx.y.z:8080.
fn backend(index: u32, endpoint: u8) -> SocketAddrV4 {
    let [_, a, b, c] = (0x0080_0000 + index * 4 + u32::from(endpoint)).to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, a, b, c), PORT)
}

fn name(index: u32) -> Name {
    Name::new("bench", format!("s{index}"))
}

fn service(index: u32) -> Object {
    Object::Service(Service {
        name: name(index),
        created: Some(i128::from(index)),
        cluster_ips: vec![IpAddr::V4(*vip(index).ip())],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort { name: String::new(), port: 80, protocol: Protocol::Tcp, node_port: 0 }],
        external: false,
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        source_ranges: BTreeSet::new(),
        algorithm: None,
        health_check_node_port: 0,
        publish_not_ready_addresses: false,
    })
}

fn slice(index: u32, endpoints: &[u8]) -> Object {
    let endpoint = |endpoint: &u8| Endpoint {
        address: IpAddr::V4(*backend(index, *endpoint).ip()),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone_hints: BTreeSet::new(),
        node_hints: BTreeSet::new(),
    };
    Object::EndpointSlice(EndpointSlice {
        name: Name::new("bench", format!("s{index}-1")),
        service: name(index),
        family: Family::V4,
        ports: vec![EndpointPort { name: String::new(), port: PORT, protocol: Protocol::Tcp }],
        endpoints: endpoints.iter().map(endpoint).collect(),
        weights: BTreeMap::new(),
        triggered: None,
    })
}
