//! NodePorts, LoadBalancer IPs and externalIPs as the node and its pods dial them, and addresses that devices hold.

use lb_tests::lab::{
    Options,
    client::{Family, Protocol, Request},
};

use super::{
    fixture::{Cluster, address, kernel, outcome, vip},
    write::{Member, ready, web},
};

const WEB: u8 = 80;
const SHARED: u8 = 90;
const FLOATING: u8 = 91;
const DNS: u8 = 92;
const FOREIGN: u8 = 99;
const SERVERS: [&str; 2] = ["a1", "b1"];
const TCP: u16 = 30_000 + WEB as u16;
const UDP: u16 = 31_000 + WEB as u16;
const BACKENDS: [Member; 2] = [ready("a1"), ready("b1")];

#[test]
#[ignore = "needs root"]
fn addresses_of_nodes_and_balancers() {
    let external = "externalIPs: [203.0.113.250, \"2001:db8::cb00:71fa\"]";
    let objects = [
        web("web", WEB)
            .load_balancer("{ip: 198.51.100.80}, {ip: \"2001:db8:1::80\", ipMode: VIP}, {hostname: lb.example}")
            .spec(external)
            .with(&BACKENDS),
        // The balancer's address is the nodes' own.
        web("shared", SHARED).load_balancer("{ip: 192.168.0.2}, {ip: 192.168.0.3}").with(&[ready("a1")]),
        web("floating", FLOATING).load_balancer("{ip: 198.51.100.91}").with(&[ready("a1")]),
        web("dns", DNS).with(&[ready("b1")]),
        web("foreign", FOREIGN).node_port().with(&[ready("a1")]),
    ]
    .concat();
    let mut cluster = Cluster::up(&objects, &Options::default());
    every_address_of_the_node_serves_node_ports(&mut cluster);
    loopback_serves_the_host_alone(&mut cluster);
    other_nodes_node_ports_pass_untouched(&mut cluster);
    addresses_that_come_and_go_are_followed(&mut cluster);
    balancers_and_external_addresses_are_short_cut(&mut cluster);
    shared_addresses_keep_their_other_ports(&mut cluster);
    an_address_that_a_device_takes_is_shared_from_then_on(&mut cluster);
    a_local_cluster_ip_is_left_alone(&mut cluster);
    node_ports_cannot_be_bound(&mut cluster);
}

fn every_address_of_the_node_serves_node_ports(cluster: &mut Cluster) {
    for place in ["caller-a", "node-a", "host-a", "a1"] {
        for ip in ["192.168.0.2", "192.168.1.2", "[fd00:192:168::2]", "[::ffff:192.168.0.2]", "[::ffff:192.168.1.2]"] {
            let to = address(&format!("{ip}:{TCP}"));
            cluster.reaches(place, to, Protocol::Tcp, &SERVERS);
        }
    }
    for place in ["caller-b", "node-b"] {
        for ip in ["192.168.0.3", "192.168.1.3", "[fd00:192:168::3]"] {
            cluster.reaches(place, address(&format!("{ip}:{TCP}")), Protocol::Tcp, &SERVERS);
            cluster.reaches(place, address(&format!("{ip}:{UDP}")), Protocol::Udp, &SERVERS);
        }
    }
    for ip in ["192.168.0.2", "[fd00:192:168::2]", "[::ffff:192.168.0.2]"] {
        // Names and sources are the node's, and the server sees the pod.
        let to = address(&format!("{ip}:{TCP}"));
        let client = cluster.at("caller-a");
        let (id, reply) = client.tcp(to).expect("is possible");
        assert_eq!(reply.peer, Some(to));
        let answer = client.get(id).expect("is possible").answer.expect("a server answers");
        assert!(["10.244.1.21", "fd00:10:244:1::21"].contains(&answer.source.ip().to_string().as_str()), "{answer:?}");
        client.close(id).expect("is open");
        let to = address(&format!("{ip}:{UDP}"));
        let id = client.open(Family::of(&to), Protocol::Udp).expect("is possible");
        assert_eq!(client.ask(id, Some(to)).expect("is possible").from, Some(to));
        client.close(id).expect("is open");
        // The port is one of TCP only, and a port beside it is nobody's.
        cluster.refuses("caller-a", address(&format!("{ip}:{UDP}")), "ECONNREFUSED");
        cluster.refuses("caller-a", address(&format!("{ip}:29999")), "ECONNREFUSED");
    }
}

fn loopback_serves_the_host_alone(cluster: &mut Cluster) {
    let loopback = ["127.0.0.1", "127.5.6.7", "[::1]", "[::ffff:127.0.0.1]"];
    for ip in loopback {
        for place in ["node-a", "host-a", "node-b"] {
            cluster.reaches(place, address(&format!("{ip}:{TCP}")), Protocol::Tcp, &SERVERS);
        }
        cluster.reaches("node-a", address(&format!("{ip}:{UDP}")), Protocol::Udp, &SERVERS);
        // A pod's loopback is its own: nothing listens there.
        cluster.refuses("caller-a", address(&format!("{ip}:{TCP}")), "ECONNREFUSED");
    }
    // What listens on a pod's loopback on that very port is reached by that pod.
    let at = address(&format!("127.0.0.1:{TCP}"));
    let client = cluster.at("caller-a");
    let listener = client.open(Family::V4, Protocol::Tcp).expect("is possible");
    assert_eq!(client.bind(listener, at).expect("is possible").outcome(), "ok");
    assert!(client.call(&Request::Listen { id: listener }).expect("is possible").ok);
    let (id, reply) = client.tcp(at).expect("is possible");
    assert_eq!((reply.outcome(), reply.peer), ("ok", Some(at)));
    client.close(id).expect("is open");
    client.close(listener).expect("is open");
}

/// host-b listens on that NodePort since before any agent ran, in the way of what is not translated.
fn other_nodes_node_ports_pass_untouched(cluster: &mut Cluster) {
    let port = 30_000 + u16::from(FOREIGN);
    for place in ["caller-a", "node-a"] {
        for ip in ["192.168.0.3", "192.168.1.3", "[fd00:192:168::3]", "[::ffff:192.168.0.3]"] {
            cluster.reaches(place, address(&format!("{ip}:{port}")), Protocol::Tcp, &["host-b"]);
        }
        cluster.reaches(place, address(&format!("192.168.0.2:{port}")), Protocol::Tcp, &["a1"]);
        // Where nothing listens, that node's own stack refuses.
        cluster.refuses(place, address(&format!("192.168.0.3:{TCP}")), "ECONNREFUSED");
    }
    for ip in ["192.168.0.3", "192.168.1.3"] {
        cluster.reaches("caller-b", address(&format!("{ip}:{port}")), Protocol::Tcp, &["a1"]);
    }
    let log = cluster.lab.server_log("default/a1").expect("there is a log");
    assert!(log.iter().any(|line| line.contains("source=10.244.2.21:")), "the other node's pod came as itself");
}

fn addresses_that_come_and_go_are_followed(cluster: &mut Cluster) {
    for (ip, text) in [("192.168.77.7", "192.168.77.7"), ("fd00:77::7", "[fd00:77::7]")] {
        let to = address(&format!("{text}:{TCP}"));
        let tally = cluster.dial_silence("caller-a", to, Protocol::Tcp);
        assert!(["TIMEOUT", "EHOSTUNREACH", "ENETUNREACH"].contains(&tally.names()[0]), "{to}: {tally:?}");
        cluster.run("node-a", &["ip", "addr", "add", ip, "dev", "lo"]);
        cluster.eventually(&format!("NodePort on the new {ip}"), |cluster| {
            let tally = cluster.dial_silence("caller-a", to, Protocol::Tcp);
            if SERVERS.contains(&tally.names()[0]) { Ok(()) } else { Err(format!("{tally:?}")) }
        });
        cluster.reaches("node-a", to, Protocol::Tcp, &SERVERS);
        cluster.run("node-a", &["ip", "addr", "del", ip, "dev", "lo"]);
        cluster.eventually(&format!("no NodePort on the old {ip}"), |cluster| {
            let tally = cluster.dial_silence("caller-a", to, Protocol::Tcp);
            if SERVERS.contains(&tally.names()[0]) { Err(format!("{tally:?}")) } else { Ok(()) }
        });
    }
}

fn balancers_and_external_addresses_are_short_cut(cluster: &mut Cluster) {
    let v4 = ["198.51.100.80", "203.0.113.250", "[::ffff:198.51.100.80]", "[::ffff:203.0.113.250]"];
    for ip in v4.into_iter().chain(["[2001:db8:1::80]", "[2001:db8::cb00:71fa]"]) {
        for place in ["caller-a", "node-a", "host-b", "caller-b"] {
            cluster.reaches(place, address(&format!("{ip}:80")), Protocol::Tcp, &SERVERS);
        }
        let to = address(&format!("{ip}:53"));
        cluster.reaches("caller-a", to, Protocol::Udp, &SERVERS);
        let client = cluster.at("node-a");
        let id = client.open(Family::of(&to), Protocol::Udp).expect("is possible");
        assert_eq!(client.ask(id, Some(to)).expect("is possible").from, Some(to));
        client.close(id).expect("is open");
        let to = address(&format!("{ip}:80"));
        let (id, reply) = client.tcp(to).expect("is possible");
        assert_eq!(reply.peer, Some(to));
        client.close(id).expect("is open");
        // No device holds the address: a port that is not the Service's is refused, its NodePort included.
        for port in [81, 22, TCP] {
            cluster.refuses("caller-a", address(&format!("{ip}:{port}")), "ECONNREFUSED");
        }
    }
}

fn shared_addresses_keep_their_other_ports(cluster: &mut Cluster) {
    for (place, own, other) in [("caller-a", "2", "3"), ("node-a", "2", "3"), ("caller-b", "3", "2")] {
        for ip in [own, other].map(|last| format!("192.168.0.{last}")) {
            cluster.reaches(place, address(&format!("{ip}:80")), Protocol::Tcp, &["a1"]);
            let host = if ip.ends_with('2') { "host-a" } else { "host-b" };
            cluster.reaches(place, address(&format!("{ip}:22")), Protocol::Tcp, &[host]);
            cluster.reaches(place, address(&format!("{ip}:10180")), Protocol::Tcp, &[host]);
            // Refused by the node itself.
            cluster.refuses(place, address(&format!("{ip}:81")), "ECONNREFUSED");
        }
    }
}

fn an_address_that_a_device_takes_is_shared_from_then_on(cluster: &mut Cluster) {
    cluster.refuses("caller-a", address("198.51.100.91:22"), "ECONNREFUSED");
    cluster.add_device("node-a", "floating");
    cluster.run("node-a", &["ip", "addr", "add", "198.51.100.91/32", "dev", "floating"]);
    cluster.eventually("the address is the node's", |cluster| {
        let tally = cluster.dial("caller-a", address("198.51.100.91:22"), Protocol::Tcp, 1);
        if tally.names() == ["host-a"] { Ok(()) } else { Err(format!("{tally:?}")) }
    });
    for place in ["caller-a", "node-a"] {
        cluster.reaches(place, address("198.51.100.91:80"), Protocol::Tcp, &["a1"]);
        cluster.reaches(place, address("198.51.100.91:22"), Protocol::Tcp, &["host-a"]);
    }
    // On the other node no device holds it.
    cluster.refuses("caller-b", address("198.51.100.91:22"), "ECONNREFUSED");
    cluster.run("node-a", &["ip", "link", "del", "floating"]);
    cluster.eventually("the address is the Service's alone", |cluster| {
        let tally = cluster.dial_silence("caller-a", address("198.51.100.91:22"), Protocol::Tcp);
        if tally.names() == ["ECONNREFUSED"] { Ok(()) } else { Err(format!("{tally:?}")) }
    });
}

/// What NodeLocal DNSCache does: the DNS Service's ClusterIP on a device of the node, and a server of the node's on it.
fn a_local_cluster_ip_is_left_alone(cluster: &mut Cluster) {
    let to = vip(DNS, 53);
    cluster.reaches("caller-a", to, Protocol::Udp, &["b1"]);
    cluster.add_device("node-a", "nodelocaldns");
    cluster.run("node-a", &["ip", "addr", "add", &format!("{}/32", to.ip()), "dev", "nodelocaldns"]);
    for place in ["caller-a", "node-a"] {
        cluster.eventually("the local server answers", |cluster| {
            let tally = cluster.dial_silence(place, to, Protocol::Udp);
            if tally.names() == ["host-a"] { Ok(()) } else { Err(format!("{tally:?}")) }
        });
        cluster.reaches(place, to, Protocol::Udp, &["host-a"]);
        let id = cluster.datagrams(place, to);
        let reply = cluster.at(place).ask(id, Some(to)).expect("is possible");
        assert_eq!((outcome(&reply), reply.from), ("host-a", Some(to)));
    }
    let told = "LocalAddress Service default/dns spec.clusterIPs[0]".to_owned();
    assert!(cluster.problems("node-a").contains(&told), "{:?}", cluster.problems("node-a"));
    assert!(!cluster.problems("node-b").contains(&told));
    // The IPv6 address is on no device, and neither is the other node's.
    cluster.reaches("caller-a", super::fixture::vips(DNS, 53)[1], Protocol::Udp, &["b1"]);
    cluster.reaches("caller-b", to, Protocol::Udp, &["b1"]);
    cluster.run("node-a", &["ip", "link", "del", "nodelocaldns"]);
    cluster.eventually("the Service answers again", |cluster| {
        let tally = cluster.dial_silence("caller-a", to, Protocol::Udp);
        if tally.names() == ["b1"] { Ok(()) } else { Err(format!("{tally:?}")) }
    });
    assert!(!cluster.problems("node-a").contains(&told));
}

fn node_ports_cannot_be_bound(cluster: &mut Cluster) {
    let in_use = kernel().in_use();
    let mut bind = |place: &str, family: Family, protocol: Protocol, to: &str| {
        let client = cluster.at(place);
        let id = client.open(family, protocol).expect("is possible");
        let outcome = client.bind(id, address(to)).expect("is possible").outcome().to_owned();
        client.close(id).expect("is open");
        outcome
    };
    let (v4, v6, tcp, udp) = (Family::V4, Family::V6, Protocol::Tcp, Protocol::Udp);
    for (place, family, protocol, to, want) in [
        ("node-a", v4, tcp, format!("0.0.0.0:{TCP}"), in_use),
        ("node-a", v4, tcp, format!("192.168.0.2:{TCP}"), in_use),
        ("node-a", v4, tcp, format!("192.168.1.2:{TCP}"), in_use),
        ("node-a", v4, tcp, format!("127.0.0.1:{TCP}"), in_use),
        ("node-a", v4, tcp, format!("127.1.2.3:{TCP}"), in_use),
        ("node-a", v6, tcp, format!("[::]:{TCP}"), in_use),
        ("node-a", v6, tcp, format!("[::1]:{TCP}"), in_use),
        ("node-a", v6, tcp, format!("[fd00:192:168::2]:{TCP}"), in_use),
        ("node-a", v6, tcp, format!("[::ffff:192.168.0.2]:{TCP}"), in_use),
        ("node-a", v4, udp, format!("0.0.0.0:{UDP}"), in_use),
        ("node-a", v6, udp, format!("[::]:{UDP}"), in_use),
        ("host-a", v4, tcp, format!("0.0.0.0:{TCP}"), in_use),
        ("node-b", v4, tcp, format!("0.0.0.0:{TCP}"), in_use),
        // The other protocol's port, a port beside it, any port, the ClusterIP's port, the balancer's.
        ("node-a", v4, udp, format!("0.0.0.0:{TCP}"), "ok"),
        ("node-a", v4, tcp, format!("0.0.0.0:{UDP}"), "ok"),
        ("node-a", v4, tcp, "0.0.0.0:29999".to_owned(), "ok"),
        ("node-a", v6, tcp, "[::]:0".to_owned(), "ok"),
        ("node-a", v4, tcp, "0.0.0.0:80".to_owned(), "ok"),
        ("node-a", v4, udp, "192.168.0.2:54".to_owned(), "ok"),
        // A pod has ports of its own.
        ("caller-a", v4, tcp, format!("0.0.0.0:{TCP}"), "ok"),
        ("caller-a", v4, tcp, format!("10.244.1.21:{TCP}"), "ok"),
        ("caller-a", v6, tcp, format!("[::]:{TCP}"), "ok"),
        ("caller-a", v4, udp, format!("127.0.0.1:{UDP}"), "ok"),
    ] {
        assert_eq!(bind(place, family, protocol, &to), want, "{place} {protocol:?} {to}");
    }
    // A port is free again when its Service is gone, and a listener on it is reached.
    cluster.delete(&web("web", WEB).alone());
    let at = address(&format!("192.168.0.2:{TCP}"));
    let client = cluster.at("node-a");
    let listener = client.open(Family::V4, Protocol::Tcp).expect("is possible");
    assert_eq!(client.bind(listener, at).expect("is possible").outcome(), "ok");
    assert!(client.call(&Request::Listen { id: listener }).expect("is possible").ok);
    assert_eq!(cluster.at("caller-a").tcp(at).expect("is possible").1.outcome(), "ok");
}
