//! Which endpoints are used on this node, and how a connection fails that has none.

use lb_tests::lab::{
    Options,
    client::{Family, Protocol, Request},
};

use super::{
    fixture::{AT_ONCE_MS, Cluster, SILENCE_MS, address, kernel, outcome, vip, vips},
    write::{ALL, draining, ready, slice, stopped, unready, web},
};

const EMPTY: u8 = 20;
const FULL: u8 = 21;
const LOCAL: u8 = 22;
const LOCAL_NONE: u8 = 23;
const DRAINING: u8 = 24;
const DRAINING_LOCAL: u8 = 25;
const MIXED: u8 = 26;
const STOPPED: u8 = 27;
const UNREADY: u8 = 28;
const PUBLISHED: u8 = 29;
const HINTED: u8 = 30;
const HALF_HINTED: u8 = 31;
const ONE_ZONE: u8 = 32;
const HOST_LOCAL: u8 = 33;
const MARKED: [u8; 2] = [34, 35];
const PROXIED: u8 = 36;
const SINGLE: u8 = 37;
const BARE: u8 = 38;

#[test]
#[ignore = "needs root"]
fn endpoints_and_their_absence() {
    let host_local = web("host-local", HOST_LOCAL).ports("{name: http, port: 80}").spec("internalTrafficPolicy: Local");
    let local = "internalTrafficPolicy: Local";
    let objects = [
        web("empty", EMPTY).node_port().with(&[]),
        // No slice at all, which is how a Service begins.
        web("bare", BARE).alone(),
        web("full", FULL).with(&ALL),
        web("local", LOCAL)
            .spec(&format!("{local}, externalTrafficPolicy: Local"))
            .node_port()
            .with(&[ready("b1"), ready("b2")]),
        web("local-none", LOCAL_NONE).spec(local).with(&[]),
        web("draining", DRAINING)
            .spec("externalTrafficPolicy: Local")
            .node_port()
            .with(&[draining("a1"), stopped("a2")]),
        web("draining-local", DRAINING_LOCAL).spec(local).with(&[draining("a1"), ready("b1"), draining("b2")]),
        web("mixed", MIXED).with(&[ready("a1"), draining("a2"), unready("b1"), stopped("b2")]),
        web("stopped", STOPPED).node_port().with(&[stopped("a1")]),
        web("unready", UNREADY).with(&[unready("a1")]),
        web("published", PUBLISHED)
            .spec("publishNotReadyAddresses: true")
            .node_port()
            .with(&[unready("a1").published()]),
        web("hinted", HINTED).with(&[
            ready("a1").hinted("zone-a"),
            ready("b1").hinted("zone-b"),
            ready("b2").hinted("zone-b"),
        ]),
        web("half-hinted", HALF_HINTED).with(&[ready("a1").hinted("zone-a"), ready("b1")]),
        web("one-zone", ONE_ZONE).with(&[ready("a1").hinted("zone-a"), ready("a2").hinted("zone-a")]),
        host_local.alone(),
        slice("host-local", "v4", "{name: http, port: 10180}", &[ready("host-a")], None),
        marked("headless", MARKED[0], "service.kubernetes.io/headless: \"\""),
        marked("foreign", MARKED[1], "service.kubernetes.io/service-proxy-name: other"),
        web("proxied", PROXIED).load_balancer("{ip: 198.51.100.36, ipMode: Proxy}").with(&ALL),
        web("single", SINGLE).ports("{name: http, port: 80}").with(&[ready("a1")]),
    ]
    .concat();
    let mut cluster = Cluster::up(&objects, &Options::default());
    nothing_to_connect_to_is_refused(&mut cluster);
    unknown_ports_are_refused(&mut cluster);
    datagrams_are_refused(&mut cluster);
    local_policy_stays_on_the_node(&mut cluster);
    terminating_endpoints_are_the_last_resort(&mut cluster);
    hints_narrow(&mut cluster);
    what_is_not_ours_is_left_alone(&mut cluster);
}

/// A Service with a label, which its controller copies to the slices.
fn marked(name: &'static str, number: u8, label: &str) -> String {
    let owner = format!("kubernetes.io/service-name: {name}");
    let yaml = web(name, number).metadata(&format!("labels: {{{label}}}")).with(&ALL);
    yaml.replace(&owner, &format!("{owner}, {label}"))
}

fn nothing_to_connect_to_is_refused(cluster: &mut Cluster) {
    let before = cluster.drops("node-a", "NoBackend");
    cluster.refuses("caller-a", vip(EMPTY, 80), "ECONNREFUSED");
    assert_eq!(cluster.drops("node-a", "NoBackend"), before + 3, "each is counted");
    for place in ["caller-a", "node-a", "host-b"] {
        for number in [EMPTY, BARE, STOPPED, UNREADY, LOCAL_NONE] {
            for to in vips(number, 80) {
                cluster.refuses(place, to, "ECONNREFUSED");
            }
        }
        // The NodePort of such a Service too.
        let own = if place == "host-b" { "192.168.0.3" } else { "192.168.0.2" };
        for number in [EMPTY, STOPPED] {
            cluster.refuses(place, address(&format!("{own}:{}", 30_000 + u16::from(number))), "ECONNREFUSED");
        }
    }
}

fn unknown_ports_are_refused(cluster: &mut Cluster) {
    for place in ["caller-a", "node-b"] {
        for to in vips(FULL, 81) {
            cluster.refuses(place, to, "ECONNREFUSED");
        }
        // A port of the other protocol, and the port of the pods.
        cluster.refuses(place, vip(FULL, 53), "ECONNREFUSED");
        cluster.refuses(place, vip(FULL, 8080), "ECONNREFUSED");
    }
}

/// Below 5.18 a hook cannot choose its errno: a connected socket learns of the refusal with its first datagram, as from a
/// remote host, and an unconnected one never hears of it, as nobody does whose datagram a remote host refuses.
fn datagrams_are_refused(cluster: &mut Cluster) {
    let chooses = kernel().chooses_errno();
    for place in ["caller-a", "node-a"] {
        for to in vips(EMPTY, 53).into_iter().chain(vips(SINGLE, 53)) {
            let client = cluster.at(place);
            let id = client.open(Family::of(&to), Protocol::Udp).expect("is possible");
            let mut reply = client.connect(id, to).expect("is possible");
            if !chooses {
                assert_eq!(reply.outcome(), "ok", "{place} -> {to}: connect");
                reply = client.ask(id, None).expect("is possible");
            }
            assert_eq!(reply.outcome(), "ECONNREFUSED", "{place} -> {to}: connected");
            assert!(reply.ms < AT_ONCE_MS, "{place} -> {to}: took {} ms", reply.ms);
            client.close(id).expect("is open");

            let id = client.open(Family::of(&to), Protocol::Udp).expect("is possible");
            let ask = Request::Ask { id, to: Some(to), data: "x".to_owned(), timeout_ms: SILENCE_MS };
            let reply = client.call(&ask).expect("is possible");
            let want = if chooses { "ECONNREFUSED" } else { "TIMEOUT" };
            assert_eq!(reply.outcome(), want, "{place} -> {to}: unconnected");
            client.close(id).expect("is open");
        }
        // Local policy without an endpoint here.
        let (place, want) = ("node-a", kernel().unreachable());
        for to in vips(LOCAL, 53) {
            let client = cluster.at(place);
            let id = client.open(Family::of(&to), Protocol::Udp).expect("is possible");
            assert_eq!(client.ask(id, Some(to)).expect("is possible").outcome(), want, "{place} -> {to}: unconnected");
            assert_eq!(client.connect(id, to).expect("is possible").outcome(), want, "{place} -> {to}: connected");
            client.close(id).expect("is open");
        }
    }
}

fn local_policy_stays_on_the_node(cluster: &mut Cluster) {
    let unreachable = kernel().unreachable();
    for place in ["caller-b", "node-b", "host-b"] {
        for to in vips(LOCAL, 80) {
            cluster.reaches(place, to, Protocol::Tcp, &["b1", "b2"]);
        }
    }
    for place in ["caller-a", "node-a", "host-a"] {
        for to in vips(LOCAL, 80) {
            cluster.refuses(place, to, unreachable);
        }
    }
    // internalTrafficPolicy is about ClusterIPs only, externalTrafficPolicy about clients outside the cluster.
    let node_port = address(&format!("192.168.0.2:{}", 30_000 + u16::from(LOCAL)));
    cluster.reaches("caller-a", node_port, Protocol::Tcp, &["b1", "b2"]);
    assert!(cluster.drops("node-a", "NoLocalBackend") > 0 && cluster.drops("node-b", "NoLocalBackend") == 0);
    // An endpoint in the node's own network namespace.
    for place in ["caller-a", "node-a", "host-a"] {
        cluster.reaches(place, vip(HOST_LOCAL, 80), Protocol::Tcp, &["host-a"]);
    }
    for place in ["caller-b", "node-b", "host-b"] {
        cluster.refuses(place, vip(HOST_LOCAL, 80), unreachable);
    }
}

fn terminating_endpoints_are_the_last_resort(cluster: &mut Cluster) {
    for place in ["caller-a", "node-b"] {
        for to in vips(DRAINING, 80) {
            cluster.reaches(place, to, Protocol::Tcp, &["a1"]);
        }
        cluster.reaches(place, vip(DRAINING, 53), Protocol::Udp, &["a1"]);
        cluster.reaches(place, vip(MIXED, 80), Protocol::Tcp, &["a1"]);
        cluster.reaches(place, vip(PUBLISHED, 80), Protocol::Tcp, &["a1"]);
        let own = if place == "node-b" { "192.168.0.3" } else { "192.168.0.2" };
        for number in [DRAINING, PUBLISHED] {
            let node_port = address(&format!("{own}:{}", 30_000 + u16::from(number)));
            cluster.reaches(place, node_port, Protocol::Tcp, &["a1"]);
        }
    }
    // Each node falls back by itself: a has only a draining endpoint, b has a ready one beside a draining one.
    for (place, server) in [("caller-a", "a1"), ("node-a", "a1"), ("caller-b", "b1"), ("node-b", "b1")] {
        cluster.reaches(place, vip(DRAINING_LOCAL, 80), Protocol::Tcp, &[server]);
    }
}

fn hints_narrow(cluster: &mut Cluster) {
    for (place, number, servers) in [
        ("caller-a", HINTED, &["a1"][..]),
        ("node-a", HINTED, &["a1"]),
        ("caller-b", HINTED, &["b1", "b2"]),
        ("caller-a", HALF_HINTED, &["a1", "b1"]),
        ("caller-a", ONE_ZONE, &["a1", "a2"]),
        // No hint means this zone: hints are passed over.
        ("caller-b", ONE_ZONE, &["a1", "a2"]),
    ] {
        cluster.reaches(place, vip(number, 80), Protocol::Tcp, servers);
    }
}

/// The fabric loses what no one holds, so a connection that is left alone gets no answer.
fn what_is_not_ours_is_left_alone(cluster: &mut Cluster) {
    let outside = ["10.96.0.250:80", "[fd00:10:96::250]:80", "[::ffff:10.96.0.250]:80"].map(address);
    let foreign = MARKED.into_iter().flat_map(|number| vips(number, 80));
    let proxied = [address("198.51.100.36:80")];
    for to in outside.into_iter().chain(foreign).chain(proxied) {
        cluster.loses("caller-a", to);
    }
    cluster.loses("node-a", vip(MARKED[0], 80));
    // The rest of that Service works.
    cluster.reaches("caller-a", vip(PROXIED, 80), Protocol::Tcp, &["a1", "a2", "b1", "b2"]);
    // A socket that was refused may connect elsewhere afterwards. (Below 5.18 it has been bound to loopback by then.)
    if kernel().chooses_errno() {
        let client = cluster.at("caller-a");
        let id = client.open(Family::V4, Protocol::Udp).expect("is possible");
        assert_eq!(client.connect(id, vip(EMPTY, 53)).expect("is possible").outcome(), "ECONNREFUSED");
        let reply = client.connect(id, vip(DRAINING, 53)).expect("is possible");
        assert_eq!(reply.peer, Some(vip(DRAINING, 53)));
        assert_eq!(outcome(&client.ask(id, None).expect("is possible")), "a1");
    }
}
