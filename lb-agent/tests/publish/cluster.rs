//! Small clusters in which everything collides: few names, few addresses, every option.

use std::{collections::BTreeSet, net::IpAddr};

use lb_agent::{
    desired::facts::{Facts, LocalAddress},
    model::{
        Event, Kind, Model, Name, Object, ObjectRef,
        addr::{Family, Protocol},
        endpoint::{Endpoint, EndpointPort, EndpointSlice},
        node::Node,
        service::{Algorithm, Service, ServicePort, TrafficPolicy},
    },
};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Event(Event),
    Facts(Facts),
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn name(name: &str) -> Name {
    Name::new("default", name)
}

/// A Service on one ClusterIP with one TCP port.
pub(crate) fn service(called: &str, cluster_ip: &str, port: u16) -> Service {
    Service {
        name: name(called),
        created: None,
        cluster_ips: vec![ip(cluster_ip)],
        external_ips: vec![],
        load_balancer_ips: vec![],
        ports: vec![ServicePort { name: String::new(), port, protocol: Protocol::Tcp, node_port: 0 }],
        external: false,
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        source_ranges: BTreeSet::new(),
        algorithm: None,
        health_check_node_port: 0,
        publish_not_ready_addresses: false,
    }
}

/// A slice of ready endpoints on port 8080.
pub(crate) fn slice(of: &str, addresses: &[&str]) -> EndpointSlice {
    EndpointSlice {
        name: name(&format!("{of}-1")),
        service: name(of),
        family: addresses.first().map_or(Family::V4, |address| Family::of(&ip(address))),
        ports: vec![EndpointPort { name: String::new(), port: 8080, protocol: Protocol::Tcp }],
        endpoints: addresses.iter().map(|address| endpoint(ip(address))).collect(),
        weights: Default::default(),
        triggered: None,
    }
}

pub(crate) fn endpoint(address: IpAddr) -> Endpoint {
    Endpoint {
        address,
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone_hints: BTreeSet::new(),
        node_hints: BTreeSet::new(),
    }
}

pub(crate) fn apply(object: Object) -> Event {
    Event::Apply(object)
}

pub(crate) fn delete_service(called: &str) -> Event {
    Event::Delete(ObjectRef { kind: Kind::Service, name: name(called) })
}

/// Node n1 with the usual addresses, and perhaps a device that holds a ClusterIP.
pub(crate) fn facts(zone: Option<&str>, devices: &[&str]) -> Facts {
    let local = |(device, address): (&str, &str)| LocalAddress { address: ip(address), device: device.to_owned() };
    let own = [("lo", "127.0.0.1"), ("eth0", "192.0.2.1"), ("eth0", "2001:db8::1")];
    Facts {
        node: "n1".to_owned(),
        zone: zone.map(str::to_owned),
        primary: vec![ip("192.0.2.1"), ip("2001:db8::1")],
        local: own.into_iter().chain(devices.iter().map(|address| ("dummy0", *address))).map(local).collect(),
    }
}

const SERVICES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn any_name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(SERVICES.to_vec())
}

fn any_policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}

fn any_ports() -> impl Strategy<Value = Vec<ServicePort>> {
    let port = |name: &str, port, protocol| ServicePort { name: name.to_owned(), port, protocol, node_port: 0 };
    let all = vec![
        port("http", 80, Protocol::Tcp),
        port("dns", 53, Protocol::Udp),
        port("dns-tcp", 53, Protocol::Tcp),
        port("sigtran", 9, Protocol::Sctp),
    ];
    (subsequence(all, 1..=3), vec(prop_oneof![2 => Just(0u16), 1 => 30000u16..30002], 3)).prop_map(
        |(mut ports, node_ports)| {
            ports.iter_mut().zip(node_ports).for_each(|(port, node_port)| port.node_port = node_port);
            ports
        },
    )
}

fn any_ips(all: &[&str], at_least: usize) -> impl Strategy<Value = Vec<IpAddr>> + use<> {
    let all: Vec<IpAddr> = all.iter().map(|text| ip(text)).collect();
    let length = all.len();
    subsequence(all, at_least..=length)
}

fn any_cluster_ips() -> impl Strategy<Value = Vec<IpAddr>> {
    (option::weighted(0.8, 1u8..4), option::weighted(0.4, 1u8..3)).prop_map(|(v4, v6)| {
        let v4 = v4.map(|last| IpAddr::from([10, 96, 0, last]));
        let v6 = v6.map(|last| ip(&format!("fd00:96::{last}")));
        let ips: Vec<IpAddr> = v4.into_iter().chain(v6).collect();
        if ips.is_empty() { vec![ip("10.96.0.9")] } else { ips }
    })
}

fn any_service() -> impl Strategy<Value = Service> {
    let addresses = (
        any_cluster_ips(),
        any_ips(&["203.0.113.1", "192.0.2.1", "fd00:1b::1"], 0),
        any_ips(&["198.51.100.1", "203.0.113.1"], 0),
    );
    let options = (
        option::weighted(0.2, prop_oneof![Just(1u32), Just(10800)]),
        any_policy(),
        any_policy(),
        option::weighted(
            0.4,
            proptest::sample::select(vec![Algorithm::Random, Algorithm::Maglev, Algorithm::LeastConnections]),
        ),
        subsequence(vec!["10.0.0.0/8", "192.0.2.0/24", "fd00::/16"], 0..=3),
    );
    (any_name(), option::of(0i128..3), any_ports(), addresses, options).prop_map(
        |(called, created, ports, (cluster_ips, load_balancer_ips, external_ips), options)| {
            let (affinity_seconds, internal, external, algorithm, ranges) = options;
            Service {
                name: name(called),
                created,
                external: !external_ips.is_empty() || ports.iter().any(|port| port.node_port != 0),
                cluster_ips,
                external_ips,
                load_balancer_ips,
                ports,
                internal_traffic_policy: internal,
                external_traffic_policy: external,
                affinity_seconds,
                source_ranges: ranges.into_iter().map(|range| range.parse().unwrap()).collect(),
                algorithm,
                health_check_node_port: 0,
                publish_not_ready_addresses: false,
            }
        },
    )
}

fn any_endpoint(family: Family) -> impl Strategy<Value = Endpoint> {
    let address = move |last: u8| match family {
        Family::V4 => IpAddr::from([10, 244, 0, last]),
        Family::V6 => ip(&format!("fd00:244::{last}")),
    };
    let conditions = prop_oneof![
        6 => Just((true, true, false)),
        1 => Just((false, true, true)),
        1 => Just((false, false, true)),
        1 => Just((false, false, false)),
    ];
    (1u8..6, conditions, option::of(prop_oneof![Just("n1"), Just("n2")]), any::<bool>()).prop_map(
        move |(last, (ready, serving, terminating), node, hint)| Endpoint {
            address: address(last),
            ready,
            serving,
            terminating,
            node: node.map(str::to_owned),
            zone_hints: if hint { BTreeSet::from(["z1".to_owned()]) } else { BTreeSet::new() },
            node_hints: BTreeSet::new(),
        },
    )
}

fn any_slice() -> impl Strategy<Value = EndpointSlice> {
    let family = prop_oneof![2 => Just(Family::V4), 1 => Just(Family::V6)];
    family.prop_flat_map(|family| {
        let ports = |http: u16| {
            let port = |name: &str, port, protocol| EndpointPort { name: name.to_owned(), port, protocol };
            vec![
                port("http", http, Protocol::Tcp),
                port("dns", 5353, Protocol::Udp),
                port("dns-tcp", 5353, Protocol::Tcp),
                port("sigtran", 9, Protocol::Sctp),
            ]
        };
        (any_name(), 0..2u8, vec(any_endpoint(family), 0..5), prop_oneof![Just(8080u16), Just(8081)], vec(0u8..4, 5))
            .prop_map(move |(owner, number, endpoints, http, weights)| EndpointSlice {
                name: name(&format!("{owner}-{number}-{family}").to_lowercase()),
                service: name(owner),
                family,
                ports: ports(http),
                weights: endpoints.iter().zip(weights).filter(|(_, w)| *w != 1).map(|(e, w)| (e.address, w)).collect(),
                endpoints,
                triggered: None,
            })
    })
}

fn any_node() -> impl Strategy<Value = Node> {
    (prop_oneof![Just("n1"), Just("n2")], any_ips(&["203.0.113.1", "192.0.2.1"], 0)).prop_map(|(called, ips)| Node {
        name: called.to_owned(),
        internal_ips: ips,
        external_ips: vec![],
        pod_cidrs: vec![],
        zone: None,
        leaving: false,
    })
}

fn any_object() -> impl Strategy<Value = Object> {
    prop_oneof![
        5 => any_service().prop_map(Object::Service),
        8 => any_slice().prop_map(Object::EndpointSlice),
        1 => any_node().prop_map(Object::Node),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => any_object().prop_map(Event::Apply),
        4 => any_object().prop_map(|object| Event::Delete(object.reference())),
        1 => vec(any_object(), 0..6).prop_map(Event::Reset),
    ]
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let devices = subsequence(vec!["10.96.0.1", "203.0.113.1", "fd00:96::1"], 0..=2);
    (option::of(prop_oneof![Just("z1"), Just("z2")]), devices).prop_map(|(zone, devices)| facts(zone, &devices))
}

/// What happens in a cluster's life.
pub(crate) fn any_steps(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    vec(prop_oneof![9 => any_event().prop_map(Step::Event), 1 => any_facts().prop_map(Step::Facts)], length)
}

/// The objects of a model as one relist.
pub(crate) fn relist(model: &Model) -> Event {
    let services = model.services.values().cloned().map(Object::Service);
    let slices = model.slices.values().flat_map(|slices| slices.values().cloned()).map(Object::EndpointSlice);
    let nodes = model.nodes.values().cloned().map(Object::Node);
    Event::Reset(services.chain(slices).chain(nodes).collect())
}
