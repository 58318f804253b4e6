//! A kernel that fails, and somebody who writes to the maps behind the agent's back.

use lb_agent::{
    apply::Held,
    maps::{Map, MapStore, faulty::FaultyStore, memory::MemoryStore},
    model::Object,
};
use proptest::prelude::*;

use crate::{
    cluster::{any_steps, apply, ip, service, slice},
    reader,
    world::World,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// [`World::step`] holds every step against the reader.
    #[test]
    fn one_write_in_ten_fails_and_the_end_is_the_same(steps in any_steps(1..25), seed in any::<u64>()) {
        let mut world = World::new(FaultyStore::new(MemoryStore::new(), 100, seed));
        for step in &steps {
            world.happen(step);
            let outcome = world.step();
            prop_assert_eq!(outcome.again.is_some() || outcome.failures.is_empty(), true);
            if let Some(epoch) = outcome.grace {
                world.reconciler.passed(epoch);
            }
        }
        world.settle();
        prop_assert_eq!(world.dump(), world.dump_from_scratch());
        let read = Held::read(world.maps()).unwrap();
        prop_assert_eq!(read.state(), world.reconciler.held().state());
    }

    #[test]
    fn half_of_the_writes_fail_over_a_restart(first in any_steps(1..10), second in any_steps(1..10), seed in any::<u64>()) {
        let mut world = World::new(FaultyStore::new(MemoryStore::new(), 500, seed));
        for step in &first {
            world.happen(step);
            world.step();
        }
        let mut restarted = World::unsynced(FaultyStore::new(world.maps().clone(), 500, !seed));
        for step in &second {
            restarted.happen(step);
            restarted.step();
        }
        restarted.reconciler.synced();
        restarted.settle();
        prop_assert_eq!(restarted.dump(), restarted.dump_from_scratch());
    }

    #[test]
    fn what_somebody_else_did_is_undone(
        steps in any_steps(1..15),
        flushed in proptest::sample::subsequence(Map::ALL.to_vec(), 0..=9),
        strange in proptest::collection::vec((proptest::sample::select(Map::ALL.to_vec()), any::<[u8; 16]>()), 0..6),
    ) {
        let mut world = World::new(MemoryStore::new());
        for step in &steps {
            world.happen(step);
            world.settle();
        }
        let want = world.dump();
        let store = world.reconciler.store_mut();
        flushed.iter().for_each(|map| store.flush(*map));
        for (map, bytes) in strange {
            let key: Vec<u8> = bytes.iter().cycle().take(map.key_bytes()).copied().collect();
            let value: Vec<u8> = bytes.iter().rev().cycle().take(map.value_bytes().unwrap_or(64)).copied().collect();
            // A key outside the map is not written.
            let _refused = store.set(map, &key, &value);
        }
        world.reconciler.read_back().unwrap();
        // Torn until it is repaired: the step is not held against the reader.
        world.reconciler.step(&world.model, &world.facts, world.now);
        world.settle();
        prop_assert_eq!(world.dump(), want);
        let read = Held::read(world.maps()).unwrap();
        prop_assert_eq!(read.state(), world.reconciler.held().state());
    }
}

#[test]
fn a_failed_write_names_its_object_and_is_tried_again() {
    let mut world = World::new(FaultyStore::new(MemoryStore::new(), 1000, 1));
    world.event(apply(Object::Service(service("web", "10.96.0.1", 80))));
    world.event(apply(Object::EndpointSlice(slice("web", &["10.244.0.1"]))));
    let first = world.step();
    assert!(reader::read(world.maps()).unwrap().frontends.is_empty());
    let problems = world.problem_texts();
    assert!(
        problems.contains(
            &"MapWrite Service default/web: cannot set IPv4 backend 1 to 10.244.0.1:8080/TCP, flags 0x9: map backends4: \
              update: Resource temporarily unavailable (os error 11)"
                .to_owned()
        ),
        "{problems:#?}"
    );
    let second = world.step();
    assert!(first.again.unwrap() < second.again.unwrap(), "the wait grows");
    world.reconciler.store_mut().set_rate(0);
    let third = world.step();
    assert_eq!((third.failures.len(), third.again, world.problem_texts()), (0, None, vec![]));
    assert!(reader::read(world.maps()).unwrap().at(ip("10.96.0.1")).next().is_some());
}
