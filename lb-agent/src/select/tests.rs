use std::{collections::BTreeSet, net::Ipv4Addr};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::model::{
    Name,
    addr::Protocol,
    endpoint::{Endpoint, EndpointPort},
};

const HERE: &str = "here";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    zone: Option<String>,
    #[serde(default)]
    external: bool,
    #[serde(default)]
    etp: Policy,
    #[serde(default)]
    itp: Policy,
    endpoints: Vec<At>,
    cluster: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    #[serde(default)]
    draining: Vec<u8>,
    any: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum Policy {
    #[default]
    Cluster,
    Local,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    at: u8,
    on: Option<String>,
    #[serde(default = "yes")]
    ready: bool,
    #[serde(default = "yes")]
    serving: bool,
    #[serde(default)]
    terminating: bool,
    #[serde(default)]
    zones: BTreeSet<String>,
    #[serde(default)]
    nodes: BTreeSet<String>,
    weight: Option<u8>,
}

fn yes() -> bool {
    true
}

impl From<Policy> for TrafficPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Cluster => Self::Cluster,
            Policy::Local => Self::Local,
        }
    }
}

fn service() -> Service {
    Service {
        name: Name::new("default", "web"),
        created: None,
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        external_ips: vec![],
        load_balancer_ips: vec![],
        ports: vec![],
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

fn port(name: &str, protocol: Protocol) -> ServicePort {
    ServicePort { name: name.to_owned(), port: 80, protocol, node_port: 0 }
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn endpoint(last: u8) -> Endpoint {
    Endpoint {
        address: address(last),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone_hints: BTreeSet::new(),
        node_hints: BTreeSet::new(),
    }
}

fn slice(name: &str, ports: &[(&str, u16, Protocol)], endpoints: Vec<Endpoint>) -> EndpointSlice {
    let ports = ports
        .iter()
        .map(|(name, port, protocol)| EndpointPort { name: (*name).to_owned(), port: *port, protocol: *protocol })
        .collect();
    EndpointSlice {
        name: Name::new("default", name),
        service: Name::new("default", "web"),
        family: Family::V4,
        ports,
        endpoints,
        weights: Default::default(),
        triggered: None,
    }
}

/// The last byte of each address.
fn lasts(list: &[Candidate]) -> Vec<u8> {
    list.iter()
        .map(|candidate| match candidate.address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        })
        .collect()
}

fn places(list: &[Candidate]) -> Vec<String> {
    list.iter().map(|c| format!("{}:{}*{}", c.address, c.port, c.weight)).collect()
}

#[test]
fn topology_cases() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../../testdata/topology.yaml")).unwrap();
    assert!(cases.len() > 40, "the file is whole");
    for case in cases {
        let mut service = service();
        service.internal_traffic_policy = case.itp.into();
        service.external_traffic_policy = case.etp.into();
        service.external = case.external;
        let mut port = port("", Protocol::Tcp);
        port.node_port = if case.external { 30080 } else { 0 };
        let endpoints = case
            .endpoints
            .iter()
            .map(|at| Endpoint {
                address: address(at.at),
                ready: at.ready,
                serving: at.serving,
                terminating: at.terminating,
                node: at.on.clone(),
                zone_hints: at.zones.clone(),
                node_hints: at.nodes.clone(),
            })
            .collect();
        let mut slice = slice("web-1", &[("", 8080, Protocol::Tcp)], endpoints);
        slice.weights = case.endpoints.iter().filter_map(|at| Some((address(at.at), at.weight?))).collect();
        let here = Here { node: HERE, zone: case.zone.as_deref() };

        let got = select(&service, &port, Family::V4, [&slice].into_iter(), &here);
        let name = &case.name;
        assert_eq!(got.cluster.as_deref().map(lasts), case.cluster, "{name}: cluster");
        assert_eq!(got.local.as_deref().map(lasts), case.local, "{name}: local");
        assert_eq!(lasts(&got.draining), case.draining, "{name}: draining");
        assert_eq!(got.any_in_cluster, case.any, "{name}: any");
        for candidate in got.cluster.iter().chain(&got.local).flatten() {
            let at = case.endpoints.iter().find(|at| address(at.at) == candidate.address).unwrap();
            assert_eq!(candidate.local, at.on.as_deref() == Some(HERE), "{name}: local flag");
            assert_eq!(candidate.weight, at.weight.unwrap_or(1), "{name}: weight");
        }
    }
}

#[test]
fn ports_match_by_name_and_protocol() {
    let slices = [
        slice("a", &[("http", 8080, Protocol::Tcp), ("dns", 53, Protocol::Udp)], vec![endpoint(1)]),
        slice("b", &[("http", 9090, Protocol::Tcp)], vec![endpoint(2)]),
        slice("c", &[("dns", 5353, Protocol::Tcp), ("", 7, Protocol::Tcp)], vec![endpoint(3)]),
    ];
    let here = Here { node: HERE, zone: None };
    for (name, port, want) in [
        ("named ports differ by slice", port("http", Protocol::Tcp), vec!["10.0.0.1:8080*1", "10.0.0.2:9090*1"]),
        ("a port that only one slice has", port("dns", Protocol::Udp), vec!["10.0.0.1:53*1"]),
        ("the same name with another protocol", port("dns", Protocol::Tcp), vec!["10.0.0.3:5353*1"]),
        ("the unnamed port", port("", Protocol::Tcp), vec!["10.0.0.3:7*1"]),
        ("no slice has it", port("https", Protocol::Tcp), vec![]),
    ] {
        let got = select(&service(), &port, Family::V4, slices.iter(), &here);
        assert_eq!(places(got.cluster.as_deref().unwrap()), want, "{name}");
        assert_eq!(got.any_in_cluster, !want.is_empty(), "{name}");
    }
}

#[test]
fn families_are_chosen_apart() {
    let mut v6 = slice("v6", &[("", 8080, Protocol::Tcp)], vec![endpoint(1)]);
    v6.family = Family::V6;
    v6.endpoints[0].address = "fd00::7".parse().unwrap();
    let v4 = slice("v4", &[("", 8080, Protocol::Tcp)], vec![endpoint(1)]);
    let mut service = service();
    service.internal_traffic_policy = TrafficPolicy::Local;
    service.external_ips = vec!["2001:db8::1".parse().unwrap()];
    service.external = true;
    let here = Here { node: HERE, zone: None };
    let port = port("", Protocol::Tcp);
    let got = select(&service, &port, Family::V6, [&v4, &v6].into_iter(), &here);
    assert_eq!(places(got.cluster.as_deref().unwrap()), ["fd00::7:8080*1"]);
    let got = select(&service, &port, Family::V4, [&v4, &v6].into_iter(), &here);
    assert_eq!(got.cluster, None, "the externalIP is of the other family");
    assert!(got.any_in_cluster);
}

#[test]
fn one_copy_of_each_endpoint_is_kept() {
    let at = |change: fn(&mut Endpoint)| {
        let mut endpoint = endpoint(1);
        change(&mut endpoint);
        vec![endpoint]
    };
    let ports = [("", 8080, Protocol::Tcp)];
    let here = Here { node: HERE, zone: None };
    let terminating: fn(&mut Endpoint) = |e| (e.ready, e.terminating) = (false, true);
    let unready: fn(&mut Endpoint) = |e| (e.ready, e.serving) = (false, false);
    let local: fn(&mut Endpoint) = |e| (e.ready, e.serving, e.node) = (false, false, Some(HERE.to_owned()));
    // (name, one copy and its weight, the other copy and its weight, what the Cluster list holds)
    type Copy = (fn(&mut Endpoint), Option<u8>);
    let cases: [(&str, Copy, Copy, &[&str]); 6] = [
        ("two equal ones", (|_| (), None), (|_| (), None), &["10.0.0.1:8080*1"]),
        ("ready wins", (|_| (), None), (terminating, None), &["10.0.0.1:8080*1"]),
        ("serving wins", (terminating, None), (unready, None), &["10.0.0.1:8080*1"]),
        ("local wins whatever else", (|_| (), None), (local, None), &[]),
        ("a given weight wins", (|_| (), None), (terminating, Some(9)), &["10.0.0.1:8080*9"]),
        ("the smaller weight wins", (|_| (), Some(5)), (|_| (), Some(9)), &["10.0.0.1:8080*5"]),
    ];
    for (name, one, other, want) in cases {
        let [first, second] = [one, other].map(|(change, weight)| {
            let mut slice = slice("s", &ports, at(change));
            slice.weights.extend(weight.map(|weight| (address(1), weight)));
            slice
        });
        let port = port("", Protocol::Tcp);
        let forth = select(&service(), &port, Family::V4, [&first, &second].into_iter(), &here);
        let back = select(&service(), &port, Family::V4, [&second, &first].into_iter(), &here);
        assert_eq!(places(forth.cluster.as_deref().unwrap()), want, "{name}");
        assert_eq!(forth, back, "{name}: order");
    }
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let names = || proptest::collection::btree_set(proptest::sample::select(vec!["a", "b", HERE]), 0..3);
    let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
    (
        0..4u8,
        any::<(bool, bool, bool)>(),
        proptest::option::of(proptest::sample::select(vec![HERE, "far"])),
        names(),
        names(),
    )
        .prop_map(move |(last, (ready, serving, terminating), node, zones, nodes)| Endpoint {
            address: address(last),
            ready,
            serving,
            terminating,
            node: node.map(str::to_owned),
            zone_hints: owned(zones),
            node_hints: owned(nodes),
        })
}

fn any_slice() -> impl Strategy<Value = EndpointSlice> {
    let weights = proptest::collection::btree_map((0..4u8).prop_map(address), 0..3u8, 0..3);
    (proptest::collection::vec(any_endpoint(), 0..5), weights).prop_map(|(endpoints, weights)| {
        let mut slice = slice("s", &[("", 8080, Protocol::Tcp)], endpoints);
        slice.weights = weights;
        slice
    })
}

proptest! {
    #[test]
    fn the_order_of_slices_and_endpoints_does_not_matter(
        (slices, shuffled) in proptest::collection::vec(any_slice(), 0..4)
            .prop_flat_map(|slices| (Just(slices.clone()), Just(slices).prop_shuffle())),
        policies in any::<(bool, bool)>(),
    ) {
        let policy = |local: bool| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let mut service = service();
        service.internal_traffic_policy = policy(policies.0);
        service.external_traffic_policy = policy(policies.1);
        let port = ServicePort { node_port: 30080, ..port("", Protocol::Tcp) };
        let here = Here { node: HERE, zone: Some("a") };
        let mut turned = shuffled;
        turned.iter_mut().for_each(|slice| slice.endpoints.reverse());
        let one = select(&service, &port, Family::V4, slices.iter(), &here);
        let other = select(&service, &port, Family::V4, turned.iter(), &here);
        prop_assert_eq!(&one, &other);

        let cluster = one.cluster.clone().unwrap_or_default();
        let local = one.local.clone().unwrap_or_default();
        prop_assert!(cluster.is_sorted() && local.is_sorted() && one.draining.is_sorted());
        prop_assert!(local.iter().all(|candidate| candidate.local));
        prop_assert!(cluster.iter().chain(&local).all(|candidate| candidate.weight > 0));
        prop_assert_eq!(one.any_in_cluster, !cluster.is_empty(), "an external port always has a Cluster list");
        for candidate in &one.draining {
            prop_assert!(!cluster.contains(candidate) && !local.contains(candidate));
        }
    }
}
