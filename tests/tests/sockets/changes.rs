//! Services and endpoints that change while connections are made.

use lb_tests::lab::{
    Options,
    agent::AgentOptions,
    client::{Family, Http, Protocol, Request},
};
use nix::sys::signal::Signal;

use super::{
    fixture::{Cluster, Tally, address, outcome, vip, vips},
    write::{ALL, draining, ready, web},
};

const WEB: u8 = 40;
const STEADY: u8 = 41;
const GROWING: u8 = 42;
const CONTESTED: u8 = 43;
const SERVERS: [&str; 4] = ["a1", "a2", "b1", "b2"];

#[test]
#[ignore = "needs root"]
fn services_follow_their_objects() {
    let mut cluster = Cluster::up(&web("steady", STEADY).node_port().with(&ALL), &Options::default());
    endpoints_come_and_go(&mut cluster);
    services_come_and_go(&mut cluster);
    ports_change(&mut cluster);
    types_change(&mut cluster);
    labels_hide_a_service(&mut cluster);
    the_older_of_two_has_the_address(&mut cluster);
    datagram_sockets_follow(&mut cluster);
    connections_survive_the_agent(&mut cluster);
}

fn endpoints_come_and_go(cluster: &mut Cluster) {
    let service = web("growing", GROWING);
    cluster.apply(&service.alone());
    for (members, servers) in
        [(&[][..], &[][..]), (&ALL[..1], &["a1"]), (&ALL[..2], &["a1", "a2"]), (&ALL[1..2], &["a2"]), (&[], &[])]
    {
        cluster.apply(&service.slices(members));
        for place in ["caller-a", "node-b"] {
            if servers.is_empty() {
                cluster.refuses(place, vip(GROWING, 80), "ECONNREFUSED");
                continue;
            }
            for to in vips(GROWING, 80) {
                cluster.reaches(place, to, Protocol::Tcp, servers);
            }
            cluster.reaches(place, vip(GROWING, 53), Protocol::Udp, servers);
        }
    }
    // While one connection after the other is made, endpoints change, and none of them fails.
    cluster.apply(&service.slices(&ALL));
    for change in 0..20 {
        let members = if change % 2 == 0 { &ALL[1..] } else { &ALL[..3] };
        cluster.lab_apply(&service.slices(members));
        let tally = cluster.dial("caller-a", vip(GROWING, 80), Protocol::Tcp, 20);
        assert!(tally.names().iter().all(|name| SERVERS.contains(name)), "{tally:?}");
    }
    cluster.apply(&service.slices(&ALL[1..]));
    let tally = cluster.dial("caller-a", vip(GROWING, 80), Protocol::Tcp, 60);
    assert_eq!(tally.names(), ["a2", "b1", "b2"], "the endpoint that is gone is never tried");
    cluster.delete(&service.with(&[]));
}

fn services_come_and_go(cluster: &mut Cluster) {
    let [first, second] = [web("first", WEB).node_port(), web("second", GROWING).node_port()];
    let node_port = |number: u8| address(&format!("192.168.0.2:{}", 30_000 + u16::from(number)));
    cluster.apply(&(first.with(&ALL) + &second.with(&ALL)));
    for to in [vip(WEB, 80), vip(GROWING, 80), node_port(WEB), node_port(GROWING)] {
        cluster.reaches("caller-a", to, Protocol::Tcp, &SERVERS);
    }
    // One goes, the other with the same endpoints stays.
    cluster.delete(&first.alone());
    for place in ["caller-a", "node-a"] {
        for to in vips(WEB, 80) {
            cluster.loses(place, to);
        }
        for _ in 0..10 {
            cluster.refuses(place, node_port(WEB), "ECONNREFUSED");
        }
        cluster.reaches(place, vip(GROWING, 80), Protocol::Tcp, &SERVERS);
        cluster.reaches(place, node_port(GROWING), Protocol::Tcp, &SERVERS);
    }
    // Under the same name at another address.
    let again = web("first", WEB + 100).node_port();
    cluster.apply(&again.alone());
    cluster.reaches("caller-a", vip(WEB + 100, 80), Protocol::Tcp, &SERVERS);
    cluster.loses("caller-a", vip(WEB, 80));
    // An address that changes while the Service stays, as of one that was deleted and made again in one breath.
    cluster.apply(&first.alone());
    cluster.reaches("caller-a", vip(WEB, 80), Protocol::Tcp, &SERVERS);
    cluster.loses("caller-a", vip(WEB + 100, 80));
    cluster.delete(&(first.with(&[]) + &second.with(&[])));
}

fn ports_change(cluster: &mut Cluster) {
    let one = web("first", WEB).ports("{name: one, port: 80}");
    let both = web("first", WEB).ports("{name: one, port: 80}, {name: two, port: 81}");
    let protocols = web("first", WEB).spec("type: NodePort").ports(
        "{name: http, port: 80, nodePort: 30700, protocol: TCP}, {name: dns, port: 80, nodePort: 30700, protocol: UDP}",
    );
    cluster.apply(&both.slices(&[ready("a1")]));
    for (service, open) in [(&one, false), (&both, true), (&one, false)] {
        cluster.apply(&service.alone());
        cluster.reaches("caller-a", vip(WEB, 80), Protocol::Tcp, &["a1"]);
        if open {
            cluster.reaches("caller-a", vip(WEB, 81), Protocol::Tcp, &["a1"]);
        } else {
            cluster.refuses("caller-a", vip(WEB, 81), "ECONNREFUSED");
        }
    }
    // One number for both protocols, on the ClusterIP and as NodePort; then one protocol goes.
    cluster.apply(&(protocols.alone() + &web("first", WEB).slices(&[ready("b1")])));
    let node_port = address("192.168.0.2:30700");
    for to in [vip(WEB, 80), node_port] {
        cluster.reaches("caller-a", to, Protocol::Tcp, &["b1"]);
        cluster.reaches("caller-a", to, Protocol::Udp, &["b1"]);
    }
    let tcp = web("first", WEB).spec("type: NodePort").ports("{name: http, port: 80, nodePort: 30700}");
    cluster.apply(&tcp.alone());
    for to in [vip(WEB, 80), node_port] {
        cluster.reaches("caller-a", to, Protocol::Tcp, &["b1"]);
        assert_eq!(cluster.dial("caller-a", to, Protocol::Udp, 1).names(), ["ECONNREFUSED"], "{to}");
    }
    // Another NodePort; the old one is closed.
    cluster.apply(&web("first", WEB).spec("type: NodePort").ports("{name: http, port: 80, nodePort: 30701}").alone());
    cluster.reaches("caller-a", address("192.168.0.2:30701"), Protocol::Tcp, &["b1"]);
    cluster.refuses("caller-a", node_port, "ECONNREFUSED");
    cluster.delete(&web("first", WEB).with(&[]));
}

fn types_change(cluster: &mut Cluster) {
    let service = web("first", WEB);
    let node_port = address(&format!("192.168.0.2:{}", 30_000 + u16::from(WEB)));
    let balancer = address("198.51.100.40:80");
    let elsewhere =
        "apiVersion: v1\nkind: Service\nmetadata: {name: first}\nspec: {type: ExternalName, externalName: example.org}\n".to_owned();
    cluster.apply(&service.slices(&[ready("b2")]));
    for (name, yaml, by_cluster_ip, by_node_port, by_balancer) in [
        ("ExternalName at first", elsewhere.clone(), false, false, false),
        ("to ClusterIP", service.alone(), true, false, false),
        ("to NodePort", web("first", WEB).node_port().alone(), true, true, false),
        ("to LoadBalancer", web("first", WEB).load_balancer("{ip: 198.51.100.40}").alone(), true, true, true),
        ("back to ClusterIP", service.alone(), true, false, false),
        ("to ExternalName", elsewhere.clone(), false, false, false),
        ("to NodePort at once", web("first", WEB).node_port().alone(), true, true, false),
        ("NodePort to ExternalName", elsewhere.clone(), false, false, false),
    ] {
        cluster.apply(&yaml);
        for (to, served, otherwise) in [
            (vip(WEB, 80), by_cluster_ip, "TIMEOUT"),
            (node_port, by_node_port, "ECONNREFUSED"),
            (balancer, by_balancer, "TIMEOUT"),
        ] {
            let tally = if served {
                cluster.dial("caller-a", to, Protocol::Tcp, 3)
            } else {
                cluster.dial_silence("caller-a", to, Protocol::Tcp)
            };
            assert_eq!(tally.names(), [if served { "b2" } else { otherwise }], "{name}: {to}");
        }
    }
    // An ExternalName holds no NodePort: the host may have it.
    let client = cluster.at("node-a");
    let id = client.open(Family::V4, Protocol::Tcp).expect("is possible");
    assert_eq!(client.bind(id, node_port).expect("is possible").outcome(), "ok");
    client.close(id).expect("is open");
    cluster.delete(&service.with(&[]));
}

fn labels_hide_a_service(cluster: &mut Cluster) {
    for label in ["service.kubernetes.io/service-proxy-name: other", "service.kubernetes.io/headless: \"\""] {
        let (shown, hidden) = (web("first", WEB), web("first", WEB).metadata(&format!("labels: {{{label}}}")));
        cluster.apply(&shown.slices(&[ready("a2")]));
        for (service, served) in [(&hidden, false), (&shown, true), (&hidden, false), (&shown, true)] {
            cluster.apply(&service.alone());
            if served {
                cluster.reaches("caller-a", vip(WEB, 80), Protocol::Tcp, &["a2"]);
            } else {
                cluster.loses("caller-a", vip(WEB, 80));
            }
        }
        cluster.delete(&shown.with(&[]));
    }
}

fn the_older_of_two_has_the_address(cluster: &mut Cluster) {
    let created = |year: u16| format!("creationTimestamp: \"{year}-01-01T00:00:00Z\"");
    let younger = web("ayounger", CONTESTED).metadata(&created(2021)).node_port();
    let older = web("older", CONTESTED).metadata(&created(2020)).node_port();
    let told = |cluster: &Cluster| -> Vec<String> {
        cluster.problems("node-a").into_iter().filter(|problem| problem.starts_with("Conflict")).collect()
    };
    let node_port = address(&format!("192.168.0.2:{}", 30_000 + u16::from(CONTESTED)));
    cluster.apply(&younger.with(&[ready("a1")]));
    cluster.reaches("caller-a", vip(CONTESTED, 80), Protocol::Tcp, &["a1"]);
    cluster.apply(&older.with(&[ready("b1")]));
    let conflict = told(cluster);
    assert!(!conflict.is_empty() && conflict.iter().all(|p| p.contains("Service default/ayounger")), "{conflict:?}");
    for to in vips(CONTESTED, 80).into_iter().chain([node_port]) {
        cluster.reaches("caller-a", to, Protocol::Tcp, &["b1"]);
    }
    // The same after a restart, whatever comes first.
    cluster.lab.end_agent("node-a", Signal::SIGTERM).expect("the agent ends");
    cluster.reaches("caller-a", vip(CONTESTED, 80), Protocol::Tcp, &["b1"]);
    cluster.lab.start_agent("node-a").expect("the agent starts");
    assert_eq!(told(cluster), conflict);
    cluster.reaches("caller-a", vip(CONTESTED, 80), Protocol::Tcp, &["b1"]);
    // Who lost has it when the winner goes.
    cluster.delete(&older.with(&[]));
    for to in [vip(CONTESTED, 80), node_port] {
        cluster.reaches("caller-a", to, Protocol::Tcp, &["a1"]);
    }
    assert_eq!(told(cluster), Vec::<String>::new());
    cluster.delete(&younger.with(&[]));
}

/// The pod behind a datagram flow goes, and the client, which never pauses, is answered by another one.
fn datagram_sockets_follow(cluster: &mut Cluster) {
    let service = web("first", WEB);
    cluster.apply(&service.with(&ALL[..1]));
    for place in ["caller-a", "host-a", "caller-b"] {
        cluster.apply(&service.slices(&ALL[..1]));
        let mut sockets = Vec::new();
        for to in vips(WEB, 53) {
            let id = cluster.datagrams(place, to);
            assert_eq!(outcome(&cluster.at(place).ask(id, Some(to)).expect("is possible")), "a1", "{place} -> {to}");
            sockets.push((to, id));
        }
        // A second endpoint does not move a flow; the end of the first one does.
        cluster.apply(&service.slices(&[ready("a1"), ready("b1")]));
        for (to, id) in &sockets {
            assert_eq!(outcome(&cluster.at(place).ask(*id, Some(*to)).expect("is possible")), "a1", "{place} -> {to}");
        }
        // Nor does it move while its pod ends, though whoever comes new goes elsewhere.
        cluster.apply(&service.slices(&[draining("a1"), ready("b1")]));
        for (to, id) in &sockets {
            assert_eq!(outcome(&cluster.at(place).ask(*id, Some(*to)).expect("is possible")), "a1", "{place} -> {to}");
        }
        cluster.reaches(place, vip(WEB, 53), Protocol::Udp, &["b1"]);
        cluster.apply(&service.slices(&[ready("b1")]));
        for (to, id) in sockets {
            let client = cluster.at(place);
            let reply = client.ask(id, Some(to)).expect("is possible");
            assert_eq!((outcome(&reply), reply.from), ("b1", Some(to)), "{place} -> {to}");
            client.close(id).expect("is open");
        }
    }
    // A connected socket is closed under its owner, who connects anew.
    let to = vip(WEB, 53);
    let client = cluster.at("caller-a");
    let id = client.open(Family::V4, Protocol::Udp).expect("is possible");
    client.connect(id, to).expect("is possible");
    assert_eq!(outcome(&client.ask(id, None).expect("is possible")), "b1");
    cluster.apply(&service.slices(&[ready("a2")]));
    cluster.eventually("the socket is closed", |cluster| {
        let ask = Request::Ask { id, to: None, data: "x".to_owned(), timeout_ms: 200 };
        let reply = cluster.at("caller-a").call(&ask).expect("is possible");
        if outcome(&reply) == "b1" { Err(format!("{reply:?}")) } else { Ok(()) }
    });
    cluster.reaches("caller-a", to, Protocol::Udp, &["a2"]);
    cluster.delete(&service.with(&[]));
}

fn connections_survive_the_agent(cluster: &mut Cluster) {
    let node_port = address(&format!("192.168.0.2:{}", 30_000 + u16::from(STEADY)));
    let client = cluster.at("caller-a");
    let id = client.tcp(vip(STEADY, 80)).expect("is possible").0;
    client.call(&Request::Hold { id, every_ms: 5, timeout_ms: 2000, http: Http::default() }).expect("is possible");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        cluster.lab.end_agent("node-a", signal).expect("the agent ends");
        for to in [vip(STEADY, 80), node_port] {
            cluster.reaches("caller-a", to, Protocol::Tcp, &SERVERS);
        }
        // And while the next one looks at what it found.
        let mut during = Tally::default();
        let agent = cluster.lab.start_agent_with("node-a", AgentOptions::default()).expect("the agent starts");
        let is_ready = || agent.status().is_ok_and(|status| status["ready"] == true);
        while !is_ready() || during.0.values().sum::<u32>() < 100 {
            for (name, count) in cluster.dial("caller-a", vip(STEADY, 80), Protocol::Tcp, 10).0 {
                *during.0.entry(name).or_default() += count;
            }
        }
        assert_eq!(during.names(), SERVERS, "{during:?}");
    }
    let held = cluster.at("caller-a").call(&Request::Release { id }).expect("is possible");
    assert!(held.ok && held.uses.is_some_and(|uses| uses > 20), "{held:?}");
    assert_eq!(cluster.at("caller-a").names(id).expect("is open").peer, Some(vip(STEADY, 80)));
    // What comes afterwards is served too.
    cluster.apply(&web("late", WEB).with(&[ready("a1")]));
    cluster.reaches("caller-a", vip(WEB, 80), Protocol::Tcp, &["a1"]);
}
