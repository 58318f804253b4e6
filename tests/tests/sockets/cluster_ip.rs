//! ClusterIPs: every family and protocol, what the application and the server see, datagram sockets.

use lb_tests::lab::{
    Options,
    client::{Dial, Family, Http, Protocol, Request},
};

use super::{
    fixture::{Cluster, address, mapped, outcome, pod, vip, vips},
    write::{ALL, ready, slice, web},
};

const WEB: u8 = 10;
const OWN: u8 = 11;
const MULTI: u8 = 12;
const HOSTED: u8 = 13;
const PENDING: u8 = 14;
const PROTOCOLS: [(Protocol, u16); 2] = [(Protocol::Tcp, 80), (Protocol::Udp, 53)];
const SERVERS: [&str; 4] = ["a1", "a2", "b1", "b2"];

#[test]
#[ignore = "needs root"]
fn cluster_ips() {
    let multi = web("multi", MULTI).ports("{name: one, port: 80}, {name: two, port: 81}");
    let hosted = web("hosted", HOSTED).ports("{name: http, port: 80}");
    let objects = [
        web("web", WEB).with(&ALL),
        web("own", OWN).with(&[ready("a1")]),
        multi.alone(),
        // Two slices with a port and a pod each, on a port of the pod that is not the Service's.
        slice("multi", "v4-one", "{name: one, port: 8080}", &[ready("a1")], None),
        slice("multi", "v4-two", "{name: two, port: 8090}", &[ready("b1")], None),
        hosted.alone(),
        slice("hosted", "v4", "{name: http, port: 10180}", &[ready("host-a"), ready("host-b")], None),
        // Of type LoadBalancer, without a provider that would give it an address.
        web("pending", PENDING).load_balancer("").with(&[ready("b2")]),
    ]
    .concat();
    let mut cluster = Cluster::up(&objects, &Options::default());
    everyone_reaches_every_endpoint(&mut cluster);
    endpoints_share_evenly(&mut cluster);
    servers_see_the_client(&mut cluster);
    sockets_show_the_service(&mut cluster);
    ports_have_endpoints_of_their_own(&mut cluster);
    datagram_sockets_stay_on_one_backend(&mut cluster);
    one_datagram_socket_asks_several_services(&mut cluster);
    large_requests_pass(&mut cluster);
    a_socket_may_connect_again(&mut cluster);
    netfilter_sees_nothing(&mut cluster);
}

fn everyone_reaches_every_endpoint(cluster: &mut Cluster) {
    for place in ["caller-a", "node-b"] {
        for (protocol, port) in PROTOCOLS {
            for to in vips(WEB, port) {
                cluster.reaches(place, to, protocol, &SERVERS);
            }
        }
    }
    // From a hostNetwork pod, from an endpoint (itself included), from the other node.
    for place in ["host-a", "a1", "caller-b", "node-a"] {
        cluster.reaches(place, vip(WEB, 80), Protocol::Tcp, &SERVERS);
    }
    for (protocol, port) in PROTOCOLS {
        cluster.reaches("caller-a", vip(PENDING, port), protocol, &["b2"]);
    }
    for place in ["caller-a", "node-a", "host-b"] {
        cluster.reaches(place, vip(HOSTED, 80), Protocol::Tcp, &["host-a", "host-b"]);
    }
}

/// Each of four endpoints gets a quarter of 400, within five standard deviations of the binomial distribution.
fn endpoints_share_evenly(cluster: &mut Cluster) {
    let tally = cluster.dial("caller-a", vip(WEB, 80), Protocol::Tcp, 400);
    for server in SERVERS {
        let count = tally.count(server);
        assert!((57..=143).contains(&count), "{server}: {tally:?}");
    }
}

fn servers_see_the_client(cluster: &mut Cluster) {
    for (place, host) in [("caller-a", "caller-a"), ("caller-b", "caller-b"), ("node-a", "host-a"), ("a1", "a1")] {
        let client = pod(host);
        for (protocol, port) in PROTOCOLS {
            for (to, own) in vips(WEB, port).into_iter().zip([client.v4, client.v6, client.v4]) {
                for reply in cluster.at(place).dial(Dial::new(to, protocol, 10)).expect("is possible") {
                    let answer = reply.answer.unwrap_or_else(|| panic!("{place} -> {to}: {:?}", reply.errno));
                    let local = reply.local.expect("a connected socket has a name");
                    assert_eq!(answer.source.ip().to_string(), own, "{place} -> {to}: nothing translates the source");
                    assert_eq!((answer.source.ip(), answer.source.port()), (local.ip().to_canonical(), local.port()));
                }
            }
        }
    }
    // The only endpoint reaches itself, and sees its own address.
    for (to, own) in vips(OWN, 80).into_iter().zip([pod("a1").v4, pod("a1").v6, pod("a1").v4]) {
        let reply = cluster.at("a1").dial(Dial::new(to, Protocol::Tcp, 1)).expect("is possible").remove(0);
        assert_eq!(outcome(&reply), "a1", "{to}");
        assert_eq!(reply.answer.map(|answer| answer.source.ip().to_string()).as_deref(), Some(own), "{to}");
    }
}

fn sockets_show_the_service(cluster: &mut Cluster) {
    for place in ["caller-a", "node-a"] {
        for (protocol, port) in PROTOCOLS {
            for to in vips(WEB, port) {
                let client = cluster.at(place);
                let id = client.open(Family::of(&to), protocol).expect("is possible");
                let reply = client.connect(id, to).expect("is possible");
                assert_eq!(reply.peer, Some(to), "{place} -> {to} {protocol:?}: getpeername after connect");
                let reply = match protocol {
                    Protocol::Tcp => client.get(id),
                    Protocol::Udp => client.ask(id, None),
                }
                .expect("is possible");
                assert!(SERVERS.contains(&outcome(&reply)), "{place} -> {to} {protocol:?}: {reply:?}");
                if protocol == Protocol::Udp {
                    assert_eq!(reply.from, Some(to), "{place} -> {to}: recvfrom");
                }
                assert_eq!(client.names(id).expect("is open").peer, Some(to), "{place} -> {to}: getpeername later");
                assert!(client.close(id).expect("is open").ok);
            }
        }
    }
    // A socket of IPv6 that is given an address of IPv4 by its owner.
    let client = cluster.at("caller-a");
    let id = client.open(Family::V6, Protocol::Tcp).expect("is possible");
    let to = vip(WEB, 80);
    assert_eq!(client.connect(id, to).expect("is possible").peer, Some(mapped(to)));
    // A direct connection shows what it was made to.
    let direct = address("10.244.2.11:8080");
    assert_eq!(client.tcp(direct).expect("is possible").1.peer, Some(direct));
}

fn ports_have_endpoints_of_their_own(cluster: &mut Cluster) {
    for (port, server, target) in [(80, "a1", 8080), (81, "b1", 8090)] {
        for reply in cluster.at("caller-a").dial(Dial::new(vip(MULTI, port), Protocol::Tcp, 20)).expect("is possible") {
            assert_eq!(outcome(&reply), server, "port {port}");
            assert_eq!(reply.answer.map(|answer| answer.address.port()), Some(target), "port {port}");
        }
    }
}

fn datagram_sockets_stay_on_one_backend(cluster: &mut Cluster) {
    for place in ["caller-a", "node-a"] {
        for to in vips(WEB, 53) {
            let mut seen = std::collections::BTreeSet::new();
            // Twenty sockets reach more than one backend, and each of them only one.
            for _ in 0..20 {
                let id = cluster.datagrams(place, to);
                let client = cluster.at(place);
                let first = client.ask(id, Some(to)).expect("is possible");
                assert_eq!(first.from, Some(to), "{place} -> {to}: the reply comes from the service");
                for _ in 0..5 {
                    let next = client.ask(id, Some(to)).expect("is possible");
                    assert_eq!((next.pod(), next.from), (first.pod(), Some(to)), "{place} -> {to}");
                }
                seen.insert(outcome(&first).to_owned());
                client.close(id).expect("is open");
            }
            assert!(seen.len() > 1, "{place} -> {to}: {seen:?}");
        }
    }
}

fn one_datagram_socket_asks_several_services(cluster: &mut Cluster) {
    let (own, pending) = (vips(OWN, 53), vips(PENDING, 53));
    for (own, pending) in own.into_iter().zip(pending) {
        let id = cluster.datagrams("caller-a", own);
        let client = cluster.at("caller-a");
        for _ in 0..3 {
            for (to, server) in [(own, "a1"), (pending, "b2")] {
                let reply = client.ask(id, Some(to)).expect("is possible");
                assert_eq!((outcome(&reply), reply.from), (server, Some(to)));
            }
        }
        // Both asked before either answer is read: each carries its own source.
        for to in [own, pending] {
            client.call(&Request::Send { id, to: Some(to), data: "x".to_owned() }).expect("is possible");
        }
        for _ in 0..2 {
            let reply = client.call(&Request::Recv { id, timeout_ms: 5000 }).expect("is possible");
            let want = if outcome(&reply) == "a1" { own } else { pending };
            assert_eq!(reply.from, Some(want), "{reply:?}");
        }
        // What comes from a pod that was asked by its own address keeps that address.
        let pod_itself = address(if own.is_ipv4() { "10.244.2.11:5353" } else { "[fd00:10:244:2::11]:5353" });
        if own.ip().to_canonical().is_ipv4() == pod_itself.is_ipv4() {
            let reply = client.ask(id, Some(pod_itself)).expect("is possible");
            assert_eq!((outcome(&reply), reply.from), ("b1", Some(pod_itself)));
        }
        client.close(id).expect("is open");
    }
}

/// Bodies and datagrams beyond the MTU: their fragments cannot part, for packets are not translated at all.
fn large_requests_pass(cluster: &mut Cluster) {
    let client = cluster.at("caller-a");
    for size in [2_000, 20_000] {
        for (to, own) in vips(WEB, 80).into_iter().zip(vips(WEB, 53)) {
            let id = client.tcp(to).expect("is possible").0;
            let http = Http { body: "x".repeat(size), ..Http::new("POST", "/") };
            let reply = client.request(id, http).expect("is possible");
            assert!(SERVERS.contains(&outcome(&reply)), "{to}, {size} bytes: {reply:?}");
            client.close(id).expect("is open");
            let id = client.open(Family::of(&own), Protocol::Udp).expect("is possible");
            let ask = Request::Ask { id, to: Some(own), data: "x".repeat(size), timeout_ms: 5000 };
            let reply = client.call(&ask).expect("is possible");
            assert!(SERVERS.contains(&outcome(&reply)), "{own}, {size} bytes: {reply:?}");
            assert_eq!(reply.from, Some(own));
            client.close(id).expect("is open");
        }
    }
}

/// A datagram socket may connect again, to a service, to a pod, to a service again: its peer follows.
fn a_socket_may_connect_again(cluster: &mut Cluster) {
    let client = cluster.at("caller-a");
    let id = client.open(Family::V4, Protocol::Udp).expect("is possible");
    for (to, server) in
        [(vip(OWN, 53), "a1"), (address("10.244.2.12:5353"), "b2"), (vip(PENDING, 53), "b2"), (vip(OWN, 53), "a1")]
    {
        let reply = client.connect(id, to).expect("is possible");
        assert_eq!(reply.peer, Some(to));
        let reply = client.ask(id, None).expect("is possible");
        assert_eq!((outcome(&reply), reply.from), (server, Some(to)));
    }
    client.close(id).expect("is open");
}

/// Nothing here needs netfilter's connection tracking: where the module is loaded at all, it holds no entry.
fn netfilter_sees_nothing(cluster: &mut Cluster) {
    for place in ["node-a", "node-b", "default/caller-a"] {
        let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").map(|_| {
            cluster
                .lab
                .in_namespace(place, || Ok(std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?))
                .expect(place)
        });
        if let Ok(count) = count {
            assert_eq!(count.trim(), "0", "{place}");
        }
    }
}
