//! What the loop reports.

use std::time::Duration;

use lb_agent::{
    maps::{Map, memory::MemoryStore},
    model::{
        Event, Object,
        addr::Protocol,
        service::{Algorithm, ServicePort, TrafficPolicy},
    },
    reconcile::{Backoff, PATIENCE},
};

use crate::{
    cluster::{apply, delete_service, facts, ip, service, slice},
    reader::{self, Answer},
    world::World,
};

#[test]
fn waits_double_up_to_the_longest() {
    let backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };
    for (failures, want) in [(0, 50), (1, 50), (2, 100), (3, 200), (6, 1000), (u32::MAX, 1000)] {
        assert_eq!(backoff.after(failures), Duration::from_millis(want), "after {failures}");
    }
}

#[test]
fn slices_without_their_service_are_a_problem_if_it_lasts() {
    let mut world = World::new(MemoryStore::new());
    world.event(apply(Object::EndpointSlice(slice("web", &["10.244.0.1"]))));
    world.event(apply(Object::EndpointSlice(slice("late", &["10.244.0.2"]))));
    assert_eq!(world.step().again, Some(PATIENCE));
    assert_eq!(world.problem_texts(), Vec::<String>::new(), "it may be on its way");
    world.now += Duration::from_secs(1);
    world.event(apply(Object::Service(service("web", "10.96.0.1", 80))));
    assert_eq!(world.step().again, Some(PATIENCE - Duration::from_secs(1)));
    world.now += PATIENCE;
    let outcome = world.step();
    assert_eq!(
        outcome.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["Service default/late: EndpointSlices belong to it, but there is no such Service to serve; they wait for it"]
    );
    assert_eq!(outcome.again, None);
    world.event(apply(Object::Service(service("late", "10.96.0.2", 80))));
    world.step();
    assert_eq!(world.problem_texts(), Vec::<String>::new());
}

#[test]
fn the_older_service_has_the_frontend_and_the_other_follows() {
    let arrivals = [["old", "new"], ["new", "old"]];
    for order in arrivals {
        let mut world = World::new(MemoryStore::new());
        for called in order {
            let mut made = service(called, "10.96.0.1", 80);
            made.created = (called == "old").then_some(1);
            let address = if called == "old" { "10.244.0.1" } else { "10.244.0.2" };
            // The port that only one of them has works in any case.
            made.ports.push(ServicePort {
                name: "own".to_owned(),
                port: if called == "old" { 81 } else { 82 },
                protocol: Protocol::Tcp,
                node_port: 0,
            });
            world.event(apply(Object::Service(made)));
            let mut slice = slice(called, &[address]);
            slice.ports.push(lb_agent::model::endpoint::EndpointPort {
                name: "own".to_owned(),
                port: 8081,
                protocol: Protocol::Tcp,
            });
            world.event(apply(Object::EndpointSlice(slice)));
            world.step();
        }
        world.settle();
        let endpoint = |world: &World<MemoryStore>, port: u16| match reader::read(world.maps())
            .unwrap()
            .frontends
            .get(&(ip("10.96.0.1"), port, 6, 0))
        {
            Some(Answer::Table(table)) => Some(table.endpoints[0].0),
            Some(Answer::Refuse | Answer::Drop | Answer::Canary) | None => None,
        };
        assert_eq!(endpoint(&world, 80), Some(ip("10.244.0.1")), "{order:?}");
        assert_eq!(endpoint(&world, 82), Some(ip("10.244.0.2")), "{order:?}");
        assert_eq!(
            world.problem_texts(),
            [
                "Conflict Service default/new: spec.clusterIPs: ClusterIP 10.96.0.1:80/TCP of port default/new:80/TCP belongs to \
                 default/old:80/TCP: older, or first by name"
            ],
            "{order:?}"
        );
        world.event(delete_service("old"));
        world.settle();
        assert_eq!(endpoint(&world, 80), Some(ip("10.244.0.2")), "{order:?}");
        assert_eq!(world.problem_texts(), Vec::<String>::new(), "{order:?}");
    }
}

#[test]
fn what_cannot_be_served_is_named() {
    let mut world = World::new(MemoryStore::new());
    world.facts = facts(None, &["10.96.0.1"]);
    let mut made = service("web", "10.96.0.1", 80);
    made.ports.push(ServicePort { name: "s".to_owned(), port: 9, protocol: Protocol::Sctp, node_port: 0 });
    made.external_ips = vec![ip("fd00:1b::1"), ip("192.0.0.8")];
    world.event(apply(Object::Service(made)));
    world.settle();
    assert_eq!(
        world.problem_texts(),
        [
            "LocalAddress Service default/web: spec.clusterIPs[0]: device dummy0 holds 10.96.0.1: connections to it are left \
             untranslated",
            "OtherFamily Service default/web: spec.externalIPs[0]: fd00:1b::1 is not served: the Service has no IPv6 ClusterIP",
            "Reserved Service default/web: spec.externalIPs[1]: 192.0.0.8 is reserved and not served",
            "Unserved Service default/web: spec.ports[1].protocol: port 9 is not served: SCTP has no cgroup hook, and packets \
             are not translated yet",
        ]
    );
    let seen = reader::read(world.maps()).unwrap();
    assert_eq!(seen.at(ip("10.96.0.1")).count(), 0);
    assert!(!seen.refuses(ip("10.96.0.1")));
    world.facts = facts(None, &[]);
    world.settle();
    let seen = reader::read(world.maps()).unwrap();
    assert_eq!(seen.at(ip("10.96.0.1")).count(), 1, "the device is gone");
    assert!(seen.refuses(ip("10.96.0.1")));
}

#[test]
fn an_address_of_any_node_is_never_refused() {
    let mut world = World::new(MemoryStore::new());
    let mut made = service("web", "10.96.0.1", 80);
    made.load_balancer_ips = vec![ip("192.0.2.1"), ip("192.0.2.2"), ip("203.0.113.9")];
    world.event(apply(Object::Service(made)));
    world.settle();
    let refused = |world: &World<MemoryStore>| {
        let seen = reader::read(world.maps()).unwrap();
        ["192.0.2.1", "192.0.2.2", "203.0.113.9"].map(|address| seen.refuses(ip(address)))
    };
    assert_eq!(refused(&world), [false, true, true], "a device of this node holds the first");
    let node = lb_agent::model::node::Node {
        name: "n2".to_owned(),
        internal_ips: vec![ip("192.0.2.2")],
        external_ips: vec![],
        pod_cidrs: vec![],
        zone: None,
        leaving: false,
    };
    world.event(Event::Apply(Object::Node(node)));
    world.settle();
    assert_eq!(refused(&world), [false, false, true], "the second is another node's: its SSH goes on");
}

#[test]
fn usage_counts_what_the_maps_hold() {
    let mut world = World::new(MemoryStore::new().with_capacity(Map::Arena, 100));
    world.event(apply(Object::Service(service("web", "10.96.0.1", 80))));
    world.event(apply(Object::EndpointSlice(slice("web", &["10.244.0.1", "10.244.0.2"]))));
    world.settle();
    let usage: Vec<_> = world.reconciler.usage().iter().map(|usage| (usage.map, usage.used)).collect();
    assert_eq!(
        usage,
        [
            (Map::Frontends4, 2),
            (Map::Frontends6, 1),
            (Map::Backends4, 2),
            (Map::Backends6, 0),
            (Map::Arena, 1),
            (Map::Addresses4, 3),
            (Map::Addresses6, 2),
            (Map::Ranges4, 0),
            (Map::Ranges6, 0),
        ]
    );
    assert_eq!(world.reconciler.usage()[4].capacity, 100);
}

#[test]
fn rows_say_what_is_served() {
    let mut world = World::new(MemoryStore::new());
    let mut made = service("web", "10.96.0.1", 80);
    made.ports[0].node_port = 30080;
    made.external = true;
    made.algorithm = Some(Algorithm::Maglev);
    made.affinity_seconds = Some(60);
    made.internal_traffic_policy = TrafficPolicy::Local;
    world.event(apply(Object::Service(made)));
    let mut slice = slice("web", &["10.244.0.1", "10.244.0.2"]);
    slice.endpoints[0].node = Some("n1".to_owned());
    slice.endpoints[1].ready = false;
    slice.endpoints[1].terminating = true;
    world.event(apply(Object::EndpointSlice(slice)));
    world.settle();
    let desired = world.reconciler.desired();
    let services: Vec<_> = desired
        .service_rows(&world.model)
        .iter()
        .map(|row| {
            let backends: Vec<String> = row.backends.iter().map(ToString::to_string).collect();
            format!("{} {} {} {} {}", row.name, row.via.name(), row.address, row.algorithm.name(), backends.join(","))
        })
        .collect();
    assert_eq!(
        services,
        ["web NodePort 0.0.0.0:30080 maglev 10.244.0.1:8080", "web ClusterIP 10.96.0.1:80 maglev 10.244.0.1:8080"]
    );
    let backends: Vec<_> = desired
        .backend_rows(&world.model)
        .iter()
        .map(|row| format!("{} {:?} {} {}", row.address, row.node, row.state.name(), row.services[0].port))
        .collect();
    assert_eq!(backends, ["10.244.0.1:8080 \"n1\" active 80", "10.244.0.2:8080 \"\" terminating 80"]);
    let name = crate::cluster::name("web");
    let table = desired.maglev_table(&world.model, &name, 80, None, None).unwrap();
    assert_eq!((table.size, table.slots["10.244.0.1:8080"]), (251, 251));
    assert_eq!(
        desired.maglev_table(&world.model, &name, 81, None, None).unwrap_err().to_string(),
        "default/web has no port 81 that is served"
    );
}
