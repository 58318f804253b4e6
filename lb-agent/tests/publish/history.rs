//! What history may leave behind: numbers, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use lb_agent::{
    apply::Held,
    desired::state::BackendId,
    maps::{Map, MapStore, memory::MemoryStore},
    model::Object,
    plan::Op,
};
use proptest::prelude::*;

use crate::{
    cluster::{any_steps, apply, ip, relist, service, slice},
    reader::{self, Answer},
    world::World,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_history_gives_what_a_full_compile_gives(steps in any_steps(1..25), together in any::<u64>()) {
        let mut world = World::new(MemoryStore::new());
        for (i, step) in steps.iter().enumerate() {
            world.happen(step);
            if together >> (i % 64) & 1 == 0 {
                let outcome = world.step();
                if let Some(epoch) = outcome.grace {
                    world.reconciler.passed(epoch);
                }
            }
        }
        world.settle();
        prop_assert_eq!(world.dump(), world.dump_from_scratch());
        let read = Held::read(world.maps()).unwrap();
        prop_assert_eq!(read.state(), world.reconciler.held().state(), "the agent knows what the maps hold");
    }

    /// Two services with the same endpoints and no table may change numbers: nobody can see it.
    #[test]
    fn a_restart_changes_nothing_that_is_used(steps in any_steps(1..25)) {
        let mut world = World::new(MemoryStore::new());
        for step in &steps {
            world.happen(step);
            world.settle();
        }
        let mut restarted = World::new(world.maps().clone());
        restarted.facts = world.facts.clone();
        restarted.event(relist(&world.model));
        let outcome = restarted.step();
        let runs = world.reconciler.held().state().runs.values();
        let used: BTreeSet<BackendId> =
            runs.flat_map(|run| run.ids.iter().map(|id| BackendId { family: run.family, id: *id })).collect();
        for op in &outcome.plan {
            let unused = match op {
                Op::SetBackend { id, .. } | Op::SettleBackend { id, .. } | Op::RemoveBackend { id, .. } => !used.contains(id),
                Op::ClearAddress { .. }
                | Op::RemoveFrontend { .. }
                | Op::SetRange { .. }
                | Op::SetTable { .. }
                | Op::SetFrontend { .. }
                | Op::SetAddress { .. }
                | Op::RemoveRange { .. } => false,
            };
            prop_assert!(unused, "{op}");
        }
        restarted.settle();
        prop_assert_eq!(restarted.dump(), world.dump());
    }

    /// Without a grace period that ends, whoever holds an old word, id or run finds what stood there, or nothing.
    #[test]
    fn nothing_is_used_again_before_its_grace_period_ends(steps in any_steps(1..25)) {
        let mut world = World::new(MemoryStore::new());
        let (mut runs, mut backends) = (BTreeMap::new(), BTreeMap::new());
        for step in &steps {
            world.happen(step);
            world.step();
            let arena = world.maps().dump(Map::Arena).unwrap();
            for (line, run) in &runs {
                prop_assert_eq!(arena.get(line), Some(run));
            }
            runs = arena;
            for map in [Map::Backends4, Map::Backends6] {
                for (id, value) in world.maps().dump(map).unwrap() {
                    let identity = [&value[..value.len() - 5], &value[value.len() - 4..]].concat();
                    let before = backends.entry((map, id)).or_insert_with(|| identity.clone());
                    prop_assert_eq!(before, &identity, "all but the flags stays");
                }
            }
        }
    }
}

#[test]
fn one_endpoint_costs_as_many_writes_whatever_the_number_of_services() {
    let mut counts = Vec::new();
    for services in [1, 50] {
        let mut world = World::new(MemoryStore::new());
        for i in 0..services {
            let called = format!("s{i}");
            world.event(apply(Object::Service(service(&called, &format!("10.96.1.{i}"), 80))));
            world.event(apply(Object::EndpointSlice(slice(&called, &["10.244.0.1", "10.244.0.2"]))));
        }
        world.settle();
        let before = world.maps().writes();
        world.event(apply(Object::EndpointSlice(slice("s0", &["10.244.0.1", "10.244.0.3"]))));
        world.settle();
        counts.push(world.maps().writes() - before);
    }
    assert_eq!(counts, [4, 4], "a backend, the run, the frontend, and the old backend");
}

#[test]
fn ids_and_lines_survive_a_change_and_a_restart() {
    let mut world = World::new(MemoryStore::new());
    world.event(apply(Object::Service(service("web", "10.96.0.1", 80))));
    world.event(apply(Object::EndpointSlice(slice("web", &["10.244.0.1", "10.244.0.2"]))));
    world.settle();
    let id_of = |world: &World<MemoryStore>, address: &str| {
        let held = world.reconciler.held().state();
        held.backends
            .iter()
            .find(|(_, backend)| backend.address == ip(address))
            .map(|(id, backend)| (id.id, backend.service))
    };
    let (first, second) = (id_of(&world, "10.244.0.1"), id_of(&world, "10.244.0.2"));
    let mut more = slice("web", &["10.244.0.1", "10.244.0.2", "10.244.0.3"]);
    more.endpoints[1].ready = false;
    more.endpoints[1].terminating = true;
    let mut restarted = World::new(world.maps().clone());
    restarted.event(apply(Object::Service(service("web", "10.96.0.1", 80))));
    restarted.event(apply(Object::EndpointSlice(more)));
    restarted.settle();
    assert_eq!(id_of(&restarted, "10.244.0.1"), first);
    assert_eq!(id_of(&restarted, "10.244.0.2"), second, "it drains under the id that its flows know");
    let third = id_of(&restarted, "10.244.0.3").unwrap();
    assert_eq!(Some(third.1), first.map(|(_, service)| service));
    assert!(![first, second].contains(&Some(third)));
    let seen = reader::read(restarted.maps()).unwrap();
    let Answer::Table(table) = &seen.frontends[&(ip("10.96.0.1"), 80, 6, 0)] else { panic!("{seen:?}") };
    assert_eq!(table.endpoints, [(ip("10.244.0.1"), 8080), (ip("10.244.0.3"), 8080)]);
}
