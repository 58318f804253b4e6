//! Who a client is: session affinity, source ranges, and clients whose address the agent does not know.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lb_tests::lab::{
    Options,
    client::{Dial, Http, Protocol, Request},
    place::enter_namespace,
};

use super::{
    fixture::{Cluster, address, full, kernel, outcome, vip, vips},
    write::{ALL, Web, ready, web},
};

const STICKY: u8 = 50;
const SHORT: u8 = 51;
const SWITCHED: u8 = 52;
const RANGED: u8 = 53;
const RANGED6: u8 = 54;
/// Ports of one Service, each a choice of its own: two clients agree on all of them once in four thousand million times.
const PORTS: u16 = 16;
const AFFINITY: &str = "sessionAffinity: ClientIP";
const BALANCER: &str = "198.51.100.53:80";

#[test]
#[ignore = "needs root"]
fn clients_are_told_apart() {
    let node_ports: Vec<String> =
        (0..PORTS).map(|n| format!("{{name: p{n}, port: {}, nodePort: {}}}", 80 + n, 30_500 + n)).collect();
    let objects = [
        sticky(&node_ports.join(", ")).with(&ALL),
        web("short", SHORT).spec(&timeout(3)).many_ports(3 * PORTS).with(&ALL),
        web("switched", SWITCHED).node_port().with(&ALL),
        web("ranged", RANGED)
            .load_balancer("{ip: 198.51.100.53}, {ip: \"2001:db8:1::53\"}")
            .spec(
                "loadBalancerSourceRanges: [10.244.1.21/32, 192.168.0.2/32, 10.244.2.0/24, \"fd00:10:244:1::20/124\"]",
            )
            .with(&[ready("a1")]),
        web("ranged6", RANGED6)
            .load_balancer("{ip: 198.51.100.54}, {ip: \"2001:db8:1::54\"}")
            .spec("loadBalancerSourceRanges: [\"fd00:10:244:1::21/128\"]")
            .with(&[ready("a1")]),
    ]
    .concat();
    let mut cluster = Cluster::up(&objects, &Options::default());
    a_client_keeps_its_backend(&mut cluster);
    clients_differ(&mut cluster);
    one_key_for_all_addresses_of_a_service(&mut cluster);
    affinity_ends_without_new_connections(&mut cluster);
    affinity_is_switched(&mut cluster);
    a_backend_that_goes_is_left(&mut cluster);
    source_ranges_admit(&mut cluster);
    a_client_without_an_address_is_moved_over(&mut cluster);
}

fn sticky(ports: &str) -> Web {
    web("sticky", STICKY).spec(AFFINITY).spec("type: NodePort").ports(ports)
}

fn timeout(seconds: u32) -> String {
    format!("{AFFINITY}, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}")
}

/// Connects to consecutive ports, and returns who answered on each.
fn servers(cluster: &mut Cluster, place: &str, from: std::net::SocketAddr, count: u16) -> Vec<String> {
    let mut found = Vec::new();
    for port in from.port()..from.port() + count {
        let mut to = from;
        to.set_port(port);
        let reply = cluster.at(place).dial(Dial::new(to, Protocol::Tcp, 1)).expect("is possible").remove(0);
        assert!(reply.ok, "{place} -> {to}: {}", reply.outcome());
        found.push(outcome(&reply).to_owned());
    }
    found
}

fn a_client_keeps_its_backend(cluster: &mut Cluster) {
    for place in ["caller-a", "node-a", "caller-b"] {
        for to in vips(STICKY, 80) {
            let tally = cluster.dial_in_turn(place, to, Protocol::Tcp, 40);
            assert_eq!(tally.names().len(), 1, "{place} -> {to}: {tally:?}");
        }
    }
}

fn clients_differ(cluster: &mut Cluster) {
    let [first, second] = ["caller-a", "other-a"].map(|place| servers(cluster, place, vip(STICKY, 80), PORTS));
    assert_ne!(first, second);
    assert!(first.iter().any(|server| *server != first[0]), "ports choose by themselves: {first:?}");
}

/// ClusterIP, NodePort, an IPv4 address in an IPv6 socket, host network: one client has one backend.
fn one_key_for_all_addresses_of_a_service(cluster: &mut Cluster) {
    let node_ports = ["192.168.0.2:30500", "192.168.1.2:30500", "[::ffff:192.168.0.2]:30500"].map(address);
    for (places, loopback) in [(&["caller-a"][..], false), (&["node-a", "host-a"], true)] {
        let want = servers(cluster, places[0], vip(STICKY, 80), PORTS);
        for place in places {
            let mapped = vips(STICKY, 80)[2];
            let more = loopback.then(|| address("127.0.0.1:30500"));
            for to in node_ports.into_iter().chain([vip(STICKY, 80), mapped]).chain(more) {
                assert_eq!(servers(cluster, place, to, PORTS), want, "{place} -> {to}");
            }
        }
    }
}

/// Three groups of ports: left alone, connected to again, and used over a connection that stays open. Only a new
/// connection starts the time anew. The timeout is long against what a round of connections takes on this machine.
fn affinity_ends_without_new_connections(cluster: &mut Cluster) {
    let start = Instant::now();
    servers(cluster, "caller-a", vip(SHORT, 80), PORTS);
    let seconds = 3.max((10.0 * start.elapsed().as_secs_f64()).ceil() as u32);
    cluster.apply(&web("short", SHORT).spec(&timeout(seconds)).many_ports(3 * PORTS).alone());
    let timeout = Duration::from_secs(seconds.into());

    let port = |group: u16| vip(SHORT, 80 + group * PORTS);
    let mut held = Vec::new();
    for index in 0..PORTS {
        let mut to = port(2);
        to.set_port(to.port() + index);
        let client = cluster.at("caller-a");
        let id = client.tcp(to).expect("is possible").0;
        let server = outcome(&client.get(id).expect("is possible")).to_owned();
        let hold = Request::Hold { id, every_ms: 500, timeout_ms: 15_000, http: Http::default() };
        client.call(&hold).expect("is possible");
        held.push((id, server));
    }
    let before: Vec<Vec<String>> = (0..2).map(|group| servers(cluster, "caller-a", port(group), PORTS)).collect();
    let start = Instant::now();
    while start.elapsed() < timeout * 3 / 2 {
        std::thread::sleep(timeout / 4);
        assert_eq!(servers(cluster, "caller-a", port(1), PORTS), before[1], "connected to again in time");
    }
    assert_ne!(servers(cluster, "caller-a", port(0), PORTS), before[0], "left alone for longer than the timeout");
    let now = servers(cluster, "caller-a", port(2), PORTS);
    let before: Vec<&String> = held.iter().map(|(_, server)| server).collect();
    assert_ne!(now.iter().collect::<Vec<_>>(), before, "only its connection was used");
    for (id, server) in &held {
        let report = cluster.at("caller-a").call(&Request::Release { id: *id }).expect("is possible");
        assert!(report.ok && outcome(&report) == server, "an open connection stays where it is: {report:?}");
        cluster.at("caller-a").close(*id).expect("is open");
    }
}

fn affinity_is_switched(cluster: &mut Cluster) {
    let targets = [vip(SWITCHED, 80), address(&format!("192.168.0.2:{}", 30_000 + u16::from(SWITCHED)))];
    for on in [false, true, false, true] {
        let service = web("switched", SWITCHED).node_port();
        cluster.apply(&if on { service.spec(AFFINITY) } else { service }.alone());
        for to in targets {
            let tally = cluster.dial_in_turn("caller-a", to, Protocol::Tcp, 30);
            assert_eq!(tally.names().len() == 1, on, "{to}: {tally:?}");
        }
        let tally = cluster.dial_in_turn("caller-a", vip(SWITCHED, 53), Protocol::Udp, 30);
        assert_eq!(tally.names().len() == 1, on, "{tally:?}");
    }
}

fn a_backend_that_goes_is_left(cluster: &mut Cluster) {
    let service = web("switched", SWITCHED).node_port();
    let to = vip(SWITCHED, 80);
    let first = cluster.dial_in_turn("caller-a", to, Protocol::Tcp, 5).names()[0].to_owned();
    let rest: Vec<_> = ["a1", "a2", "b1", "b2"].into_iter().filter(|pod| *pod != first).map(ready).collect();
    cluster.apply(&service.slices(&rest));
    let tally = cluster.dial_in_turn("caller-a", to, Protocol::Tcp, 20);
    assert!(tally.names().len() == 1 && tally.count(&first) == 0, "{tally:?}");
    let second = tally.names()[0].to_owned();
    cluster.apply(&service.slices(&ALL));
    assert_eq!(
        cluster.dial_in_turn("caller-a", to, Protocol::Tcp, 20).names(),
        [second],
        "the old one does not win it back"
    );
}

fn source_ranges_admit(cluster: &mut Cluster) {
    let unreachable = kernel().unreachable();
    for (place, to, admitted) in [
        ("caller-a", BALANCER, true),
        ("caller-a", "[::ffff:198.51.100.53]:80", true),
        ("caller-a", "[2001:db8:1::53]:80", true),
        ("other-a", BALANCER, false),
        ("other-a", "[::ffff:198.51.100.53]:80", false),
        ("other-a", "[2001:db8:1::53]:80", true),
        ("a2", "[2001:db8:1::53]:80", false),
        ("node-a", BALANCER, true),
        ("host-a", BALANCER, true),
        ("node-a", "[2001:db8:1::53]:80", false),
        ("caller-b", BALANCER, true),
        ("node-b", BALANCER, false),
        // Ranges of one family alone say nothing about the other.
        ("other-a", "198.51.100.54:80", true),
        ("other-a", "[2001:db8:1::54]:80", false),
        ("caller-a", "[2001:db8:1::54]:80", true),
    ] {
        if admitted {
            cluster.reaches(place, address(to), Protocol::Tcp, &["a1"]);
        } else {
            cluster.refuses(place, address(to), unreachable);
        }
    }
    // They are about the balancer's address only.
    for to in [vip(RANGED, 80), address(&format!("192.168.0.2:{}", 30_000 + u16::from(RANGED)))] {
        cluster.reaches("other-a", to, Protocol::Tcp, &["a1"]);
    }
    let id = cluster.datagrams("other-a", address("198.51.100.53:53"));
    let reply = cluster.at("other-a").ask(id, Some(address("198.51.100.53:53"))).expect("is possible");
    assert_eq!(reply.outcome(), unreachable);
    // Wider ranges admit at once.
    let open = web("ranged", RANGED)
        .load_balancer("{ip: 198.51.100.53}, {ip: \"2001:db8:1::53\"}")
        .spec("loadBalancerSourceRanges: [10.0.0.0/8]");
    cluster.apply(&open.alone());
    cluster.reaches("other-a", address(BALANCER), Protocol::Tcp, &["a1"]);
    cluster.refuses("node-a", address(BALANCER), unreachable);
}

/// A process of the node in a namespace that no veth joins to the node and no Pod names: the hooks see it, and the agent
/// does not know its address.
fn a_client_without_an_address_is_moved_over(cluster: &mut Cluster) {
    let ask = |cluster: &Cluster, to: &str| -> String {
        let mut command = cluster.lab.command(&full("caller-a"), "lb-lab").expect("the pod exists");
        let outside = cluster.lab.place("outside").expect("the client exists");
        enter_namespace(&mut command, &outside.namespace).expect("the namespace exists");
        let output = command.args(["dial", to]).output().expect("lb-lab starts");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let all = |cluster: &Cluster| -> BTreeMap<u16, String> {
        let one = |port: u16| {
            let line = ask(cluster, &vip(STICKY, port).to_string());
            assert!(line.starts_with("1 default/"), "{line}");
            (port, line)
        };
        (80..80 + PORTS).map(one).collect()
    };
    let first = all(cluster);
    assert_eq!(all(cluster), first, "it keeps its backends all the same");
    let balancer = "198.51.100.54:80";
    assert!(ask(cluster, balancer).contains("default/a1"), "no range of that family");
    let before = cluster.drops("node-a", "UnknownSource");
    let line = ask(cluster, BALANCER);
    assert!(line.contains(kernel().unreachable()), "{line}");
    assert_eq!(cluster.drops("node-a", "UnknownSource"), before + 1, "it is counted");
    // The agent learns whose address that is.
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: late, annotations: {lab/absent: \"true\"}}\nspec: {nodeName: node-a}\n\
         status: {podIP: 203.0.113.2, podIPs: [{ip: 203.0.113.2}, {ip: \"2001:db8:f::2\"}]}\n---\n",
    );
    let open = web("ranged", RANGED)
        .load_balancer("{ip: 198.51.100.53}, {ip: \"2001:db8:1::53\"}")
        .spec("loadBalancerSourceRanges: [203.0.113.0/24]");
    cluster.apply(&open.alone());
    cluster.eventually("the agent knows the address", |cluster| {
        let line = ask(cluster, BALANCER);
        if line.contains("default/a1") { Ok(()) } else { Err(line) }
    });
    assert_eq!(all(cluster), first, "what it gathered without an address is still its own");
}
