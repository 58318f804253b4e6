//! How long the pure core takes. Measures and prints; asserts nothing about time.

use std::time::{Duration, Instant};

use lb_agent::{
    maps::memory::MemoryStore,
    model::{Model, Object},
    reconcile::Reconciler,
};

use crate::{
    cluster::{apply, facts, service, slice},
    world::World,
};

/// How long this thread has run: other processes of a busy machine do not count.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// That many services with that many endpoints each.
fn cluster(services: u32, endpoints: u32) -> Vec<Object> {
    let mut objects = Vec::new();
    for i in 0..services {
        let called = format!("s{i:05}");
        let cluster_ip = format!("10.{}.{}.{}", 96 + (i >> 16), i >> 8 & 255, i & 255);
        objects.push(Object::Service(service(&called, &cluster_ip, 80)));
        let addresses: Vec<String> = (0..endpoints)
            .map(|j| {
                let n = i * endpoints + j;
                format!("10.{}.{}.{}", 128 + (n >> 16), n >> 8 & 255, n & 255)
            })
            .collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        objects.push(Object::EndpointSlice(slice(&called, &addresses)));
    }
    objects
}

fn store() -> MemoryStore {
    lb_agent::maps::Map::ALL.into_iter().fold(MemoryStore::new(), |store, map| store.with_capacity(map, 1 << 22))
}

#[test]
#[ignore = "measures: run it alone, with --release --nocapture"]
fn speed() {
    for (services, endpoints) in [(1_000, 10), (10_000, 3), (10_000, 10), (100_000, 1)] {
        let objects = cluster(services, endpoints);
        let mut world = World::new(store());
        let mut model = Model::default();
        let started = thread_time();
        let changes = model.apply(lb_agent::model::Event::Reset(objects));
        let modelled = thread_time() - started;
        world.model = model;
        world.reconciler.event(changes);
        let started = thread_time();
        let outcome = world.reconciler.step(&world.model, &world.facts, world.now);
        let cold = thread_time() - started;
        let writes = world.maps().writes();
        assert!(outcome.failures.is_empty());
        if let Some(epoch) = outcome.grace {
            world.reconciler.passed(epoch);
        }
        let mut times = Vec::new();
        let before = world.maps().writes();
        for round in 0..101u8 {
            let changed = format!("10.250.0.{round}");
            let event = apply(Object::EndpointSlice(slice("s00500", &["10.244.0.1", &changed])));
            let started = Instant::now();
            let changes = world.model.apply(event);
            world.reconciler.event(changes);
            let outcome = world.reconciler.step(&world.model, &world.facts, world.now);
            times.push(started.elapsed());
            if let Some(epoch) = outcome.grace {
                world.reconciler.passed(epoch);
            }
        }
        times.sort();
        let per_change = (world.maps().writes() - before) as f64 / 101.0;
        let started = thread_time();
        let mut restarted =
            Reconciler::new(world.maps().clone(), crate::world::settings(), Default::default()).unwrap();
        let read = thread_time() - started;
        restarted.event(Model::default().apply(crate::cluster::relist(&world.model)));
        restarted.synced();
        let started = thread_time();
        let outcome = restarted.step(&world.model, &facts(None, &[]), world.now);
        println!(
            "{services} x {endpoints}: model {modelled:?}, compile and write {cold:?} ({writes} writes), one change \
             {:?} median, {:?} worst, {per_change:.1} writes; restart: read {read:?}, adopt {:?}, {} writes",
            times[50],
            times[100],
            thread_time() - started,
            outcome.plan.len(),
        );
    }
}
