//! What the configuration changes at the socket. A node has one; each of the two has another.

use std::time::Duration;

use lb_tests::lab::{
    Options,
    agent::AgentOptions,
    client::{Family, Protocol},
};
use nix::sys::signal::Signal;

use super::{
    fixture::{Cluster, address, full, outcome, vip, vips},
    write::{ALL, ready, web},
};

const WEB: u8 = 70;
const DNS: u8 = 71;
const TCP: u16 = 30_000 + WEB as u16;
const SERVERS: [&str; 4] = ["a1", "a2", "b1", "b2"];

#[test]
#[ignore = "needs root"]
fn options_change_what_they_say() {
    let objects = web("web", WEB).node_port().with(&ALL) + &web("dns", DNS).with(&[ready("b1")]);
    let agents = [
        ("node-a", "nodePortAddresses: [primary]\nsocket: {rememberPeer: false}\n"),
        (
            "node-b",
            "nodePortAddresses: [192.168.1.0/24]\ndefaultAlgorithm: maglev\nsocket: {hostNamespaceOnly: true}\n",
        ),
    ];
    let agents = agents.map(|(node, config)| (node.to_owned(), options(config))).into();
    let mut cluster = Cluster::up(&objects, &Options { agents, ..Options::default() });
    primary_addresses_alone_serve_node_ports(&mut cluster);
    a_range_of_addresses_serves_node_ports(&mut cluster);
    pods_are_left_alone_where_the_host_alone_is_served(&mut cluster);
    the_default_algorithm_holds(&mut cluster);
    a_peer_that_is_not_remembered_is_the_backend(&mut cluster);
    cgroups_are_left_alone(&mut cluster);
    an_unknown_cgroup_is_an_error(&mut cluster);
    a_local_cluster_ip_is_translated_on_request(&mut cluster);
}

fn options(config: &str) -> AgentOptions {
    AgentOptions { config: Some(config.to_owned()), ..AgentOptions::default() }
}

fn restart(cluster: &mut Cluster, node: &str, config: &str) {
    cluster.lab.end_agent(node, Signal::SIGTERM).expect("the agent ends");
    let agent = cluster.lab.start_agent_with(node, options(config)).expect("the agent starts");
    agent.wait_ready(Duration::from_secs(120)).expect(node);
}

fn primary_addresses_alone_serve_node_ports(cluster: &mut Cluster) {
    for place in ["caller-a", "node-a", "host-a"] {
        for ip in ["192.168.0.2", "[fd00:192:168::2]", "[::ffff:192.168.0.2]"] {
            cluster.reaches(place, address(&format!("{ip}:{TCP}")), Protocol::Tcp, &SERVERS);
        }
        for ip in ["192.168.1.2", "127.0.0.1", "127.5.6.7", "[::1]", "[::ffff:192.168.1.2]"] {
            cluster.refuses(place, address(&format!("{ip}:{TCP}")), "ECONNREFUSED");
        }
    }
    // What admits no NodePort may be bound.
    let client = cluster.at("node-a");
    for (ip, fine) in [("192.168.1.2", true), ("127.0.0.1", true), ("192.168.0.2", false), ("0.0.0.0", false)] {
        let id = client.open(Family::V4, Protocol::Tcp).expect("is possible");
        let reply = client.bind(id, address(&format!("{ip}:{TCP}"))).expect("is possible");
        assert_eq!(reply.ok, fine, "{ip}: {}", reply.outcome());
        client.close(id).expect("is open");
    }
}

/// The range is one of IPv4, so IPv6 is served on all addresses, as kube-proxy has it.
fn a_range_of_addresses_serves_node_ports(cluster: &mut Cluster) {
    for ip in ["192.168.1.3", "[fd00:192:168::3]", "[::1]"] {
        let to = address(&format!("{ip}:{TCP}"));
        let tally = cluster.dial("node-b", to, Protocol::Tcp, 3);
        assert!(tally.names().iter().all(|name| SERVERS.contains(name)), "{to}: {tally:?}");
    }
    for ip in ["192.168.0.3", "127.0.0.1"] {
        cluster.refuses("node-b", address(&format!("{ip}:{TCP}")), "ECONNREFUSED");
    }
}

fn pods_are_left_alone_where_the_host_alone_is_served(cluster: &mut Cluster) {
    for to in vips(WEB, 80) {
        for place in ["node-b", "host-b"] {
            let tally = cluster.dial(place, to, Protocol::Tcp, 3);
            assert!(tally.names().iter().all(|name| SERVERS.contains(name)), "{place} -> {to}: {tally:?}");
        }
        for place in ["caller-b", "b1"] {
            cluster.loses(place, to);
        }
    }
    let to = vip(WEB, 53);
    let id = cluster.datagrams("caller-b", to);
    let client = cluster.at("caller-b");
    client.connect(id, to).expect("is possible");
    assert_eq!(client.names(id).expect("is open").peer, Some(to));
    client.close(id).expect("is open");
    assert_eq!(cluster.dial_silence("caller-b", to, Protocol::Udp).names(), ["TIMEOUT"]);
    cluster.refuses("caller-b", address(&format!("192.168.1.3:{TCP}")), "ECONNREFUSED");
    // A pod may bind what it likes, the host may not.
    for (place, want) in [("caller-b", true), ("node-b", false)] {
        let client = cluster.at(place);
        let id = client.open(Family::V4, Protocol::Tcp).expect("is possible");
        assert_eq!(client.bind(id, address(&format!("0.0.0.0:{TCP}"))).expect("is possible").ok, want, "{place}");
        client.close(id).expect("is open");
    }
}

fn the_default_algorithm_holds(cluster: &mut Cluster) {
    let table = cluster.lbctl("node-b", &["maglev", "show", "default/web:80"]).expect("there is a table");
    assert_eq!(table["slots"].as_object().map(serde_json::Map::len), Some(4), "{table}");
    let tally = cluster.dial("node-b", vip(WEB, 80), Protocol::Tcp, 20);
    assert_eq!(tally.names().len(), 1, "{tally:?}");
}

/// Sockets show the backend, but for unconnected datagrams, which would not reach their asker otherwise.
fn a_peer_that_is_not_remembered_is_the_backend(cluster: &mut Cluster) {
    let backends = ["10.244.1.11", "10.244.1.12", "10.244.2.11", "10.244.2.12"].map(str::to_owned);
    for (protocol, port, target) in [(Protocol::Tcp, 80, 8080), (Protocol::Udp, 53, 5353)] {
        for to in vips(WEB, port) {
            let client = cluster.at("caller-a");
            let id = client.open(Family::of(&to), protocol).expect("is possible");
            let peer = client.connect(id, to).expect("is possible").peer.expect("the socket is connected");
            assert_eq!(peer.port(), target, "{to}");
            let is_backend =
                peer.ip().to_canonical().is_ipv6() || backends.contains(&peer.ip().to_canonical().to_string());
            assert!(is_backend && peer != to, "{to}: {peer}");
            let reply = match protocol {
                Protocol::Tcp => client.get(id),
                Protocol::Udp => client.ask(id, None),
            };
            assert!(SERVERS.contains(&outcome(&reply.expect("is possible"))), "{to}");
            client.close(id).expect("is open");
        }
    }
    for to in vips(WEB, 53) {
        let id = cluster.datagrams("caller-a", to);
        assert_eq!(cluster.at("caller-a").ask(id, Some(to)).expect("is possible").from, Some(to));
        cluster.at("caller-a").close(id).expect("is open");
    }
}

fn cgroups_are_left_alone(cluster: &mut Cluster) {
    let cgroup = cluster.lab.place(&full("caller-a")).expect("the pod exists").cgroup;
    restart(cluster, "node-a", &format!("socket: {{excludeCgroups: [{}]}}\n", cgroup.display()));
    for to in vips(WEB, 80) {
        cluster.loses("caller-a", to);
        for place in ["other-a", "a1", "node-a"] {
            cluster.reaches(place, to, Protocol::Tcp, &SERVERS);
        }
    }
    cluster.refuses("caller-a", address(&format!("192.168.0.2:{TCP}")), "ECONNREFUSED");
    let direct = address("10.244.2.11:8080");
    cluster.reaches("caller-a", direct, Protocol::Tcp, &["b1"]);
    assert_eq!(cluster.dial_silence("caller-a", vip(WEB, 53), Protocol::Udp).names(), ["TIMEOUT"]);
    // A process below the cgroup, whatever its own one is called.
    let below = cgroup.join("below");
    lb_tests::lab::cgroup::create(&below).expect("a cgroup can be made");
    let mut command = cluster.lab.command(&full("caller-a"), "lb-lab").expect("the pod exists");
    let place =
        lb_tests::lab::place::Place { cgroup: below, ..cluster.lab.place(&full("caller-a")).expect("the pod exists") };
    place.enter(&mut command).expect("the cgroup exists");
    let output =
        command.args(["dial", &vip(WEB, 80).to_string(), "--timeout-ms", "300"]).output().expect("lb-lab starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("TIMEOUT"), "{text}");
    // Without the option it is served again.
    restart(cluster, "node-a", "{}\n");
    cluster.reaches("caller-a", vip(WEB, 80), Protocol::Tcp, &SERVERS);
}

fn an_unknown_cgroup_is_an_error(cluster: &mut Cluster) {
    cluster.lab.end_agent("node-a", Signal::SIGTERM).expect("the agent ends");
    let wrong = options("socket: {excludeCgroups: [/no/such/cgroup]}\n");
    let agent = cluster.lab.start_agent_with("node-a", wrong).expect("the agent starts");
    let error = agent.wait_ready(Duration::from_secs(60)).expect_err("the agent ends").to_string();
    assert!(error.contains("the agent has ended"), "{error}");
    let words = agent.last_words();
    let word = words.lines().last().unwrap_or_default();
    assert!(word.contains("socket.excludeCgroups: /no/such/cgroup: not a cgroup v2 directory"), "{words}");
    // What served the node before still does.
    cluster.reaches("caller-a", vip(WEB, 80), Protocol::Tcp, &SERVERS);
}

fn a_local_cluster_ip_is_translated_on_request(cluster: &mut Cluster) {
    let agent = cluster
        .lab
        .start_agent_with("node-a", options("socket: {translateLocalAddresses: true}\n"))
        .expect("the agent starts");
    agent.wait_ready(Duration::from_secs(120)).expect("node-a");
    let to = vip(DNS, 53);
    cluster.add_device("node-a", "nodelocaldns");
    cluster.run("node-a", &["ip", "addr", "add", &format!("{}/32", to.ip()), "dev", "nodelocaldns"]);
    cluster.settle();
    for place in ["caller-a", "node-a"] {
        for _ in 0..5 {
            cluster.reaches(place, to, Protocol::Udp, &["b1"]);
            cluster.settle();
        }
    }
    let told = cluster.problems("node-a");
    assert!(!told.iter().any(|problem| problem.starts_with("LocalAddress")), "{told:?}");
}
