//! Each map full in turn: whoever does not fit is named, everybody else is served, and room cures it.

use std::collections::BTreeSet;

use lb_agent::{
    maps::{Map, memory::MemoryStore},
    model::{Event, Object, service::Service},
};

use crate::{
    cluster::{apply, delete_service, ip, service, slice},
    reader::{self, Answer},
    world::World,
};

const ALL: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];

fn place(called: &str) -> u8 {
    called[1..].parse().unwrap()
}

fn v4(called: &str) -> Service {
    let i = place(called);
    let mut made = service(called, &format!("10.96.0.{i}"), 80);
    made.load_balancer_ips = vec![ip(&format!("203.0.113.{i}"))];
    made.source_ranges = BTreeSet::from(["192.0.2.0/24".parse().unwrap()]);
    made
}

fn v6(called: &str) -> Service {
    let i = place(called);
    let mut made = service(called, &format!("fd00:96::{i}"), 80);
    made.load_balancer_ips = vec![ip(&format!("fd00:1b::{i}"))];
    made.source_ranges = BTreeSet::from(["2001:db8::/32".parse().unwrap()]);
    made
}

fn endpoints(called: &str, family: u8, last: &[u8]) -> Event {
    let i = place(called);
    let address = |last: &u8| if family == 4 { format!("10.244.{i}.{last}") } else { format!("fd00:244:{i}::{last}") };
    let addresses: Vec<String> = last.iter().map(address).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    apply(Object::EndpointSlice(slice(called, &addresses)))
}

/// The services whose ClusterIP leads to these endpoints.
fn served(world: &World<MemoryStore>, last: &[u8]) -> BTreeSet<&'static str> {
    let seen = reader::read(world.maps()).unwrap();
    let whole = |called: &&str| {
        let ip = world.model.services.get(&crate::cluster::name(called)).map(|service| service.cluster_ips[0]);
        seen.frontends.iter().any(|(key, answer)| match answer {
            Answer::Table(table) => Some(key.0) == ip && table.endpoints.len() == last.len(),
            Answer::Refuse | Answer::Drop | Answer::Canary => false,
        })
    };
    ALL.into_iter().filter(whole).collect()
}

fn named(world: &World<MemoryStore>) -> BTreeSet<&'static str> {
    let problems = world.problem_texts();
    assert!(problems.iter().all(|problem| problem.starts_with("MapFull Service default/s")), "{problems:#?}");
    ALL.into_iter()
        .filter(|called| problems.iter().any(|problem| problem.contains(&format!("default/{called}:"))))
        .collect()
}

#[test]
fn whoever_does_not_fit_is_named_and_harms_nobody() {
    // Each service takes two frontends, two backends, one line, two addresses and one range; the node takes the
    // canary's frontend in each family, and its own addresses.
    for (map, family, capacity) in [
        (Map::Frontends4, 4, 1 + 2 * 4),
        (Map::Frontends6, 6, 1 + 2 * 4),
        (Map::Backends4, 4, 1 + 2 * 4),
        (Map::Backends6, 6, 1 + 2 * 4),
        (Map::Arena, 4, 4),
        (Map::Addresses4, 4, 2 + 2 * 4),
        (Map::Addresses6, 6, 2 + 2 * 4),
        (Map::Ranges4, 4, 4),
        (Map::Ranges6, 6, 4),
    ] {
        let mut world = World::new(MemoryStore::new().with_capacity(map, capacity));
        for called in ALL {
            let made = if family == 4 { v4(called) } else { v6(called) };
            world.event(apply(Object::Service(made)));
            world.event(endpoints(called, family, &[1, 2]));
            let outcome = world.step();
            if let Some(epoch) = outcome.grace {
                world.reconciler.passed(epoch);
            }
        }
        let late: BTreeSet<&str> = ["s4", "s5"].into();
        assert_eq!(named(&world), late, "{map}");
        // Ranges and addresses are not what a ClusterIP needs.
        let serves = |called: &&str| {
            matches!(map, Map::Ranges4 | Map::Ranges6 | Map::Addresses4 | Map::Addresses6) || !late.contains(called)
        };
        let want: BTreeSet<&str> = ALL.into_iter().filter(serves).collect();
        assert_eq!(served(&world, &[1, 2]), want, "{map}");

        world.event(delete_service("s1"));
        settle_full(&mut world);
        assert!(named(&world).is_subset(&late), "{map}");
        world.event(delete_service("s0"));
        settle_full(&mut world);
        assert_eq!(named(&world), BTreeSet::new(), "{map}: cured by room");
        assert_eq!(served(&world, &[1, 2]), ["s2", "s3", "s4", "s5"].into(), "{map}");
        assert_eq!(world.dump(), world.dump_from_scratch(), "{map}");
    }
}

/// As the shell does: steps while there is something to do, some failures notwithstanding.
fn settle_full(world: &mut World<MemoryStore>) {
    for _ in 0..4 {
        let outcome = world.step();
        if let Some(epoch) = outcome.grace {
            world.reconciler.passed(epoch);
        }
    }
}

#[test]
fn a_larger_arena_cures() {
    let mut world = World::new(MemoryStore::new().with_capacity(Map::Arena, 1));
    for called in ["s0", "s1"] {
        world.event(apply(Object::Service(v4(called))));
        world.event(endpoints(called, 4, &[1, 2]));
    }
    settle_full(&mut world);
    assert_eq!(
        world.problem_texts(),
        [
            "MapFull Service default/s1: spec.ports[0]: port 80/TCP stays as it was in IPv4: the arena has no 1 free lines in a \
             row (1 of 1 are taken, 0 of them until a grace period ends)"
        ]
    );
    world.reconciler.store_mut().set_capacity(Map::Arena, 2);
    world.reconciler.grow_arena();
    world.settle();
    assert_eq!(served(&world, &[1, 2]), ["s0", "s1"].into());
    assert_eq!(world.problem_texts(), Vec::<String>::new());
}

#[test]
fn a_service_that_does_not_fit_keeps_what_it_has() {
    let mut world = World::new(MemoryStore::new().with_capacity(Map::Backends4, 1 + 4));
    for called in ["s0", "s1"] {
        world.event(apply(Object::Service(v4(called))));
        world.event(endpoints(called, 4, &[1, 2]));
    }
    world.settle();
    world.event(endpoints("s1", 4, &[1, 2, 3]));
    settle_full(&mut world);
    assert_eq!(served(&world, &[1, 2]), ["s0", "s1"].into(), "the old table stays whole");
    assert_eq!(
        world.problem_texts(),
        [
            "MapFull Service default/s1: spec.ports[0]: port 80/TCP stays as it was in IPv4: no IPv4 backend id is free (4 of \
             4 are taken, 0 of them until a grace period ends)"
        ]
    );
    world.event(endpoints("s0", 4, &[1]));
    world.settle();
    assert_eq!(served(&world, &[1, 2, 3]), ["s1"].into(), "room came with the other's backend");
    assert_eq!(world.problem_texts(), Vec::<String>::new());
}
