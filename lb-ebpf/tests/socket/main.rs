//! The decision at a socket over plain collections: no kernel, every branch.

mod fake;

use fake::{Fake, TCP, UDP, header};
use lb_ebpf::{
    abi::{
        address::Address,
        backend::flags::{CLUSTER, LOCAL, TERMINATING},
        drops::{Counter, DropReason},
        frontend::{Kind, address_flags, word_flags},
    },
    socket::{self, Destination, Endpoint},
    tables::Client,
};

const VIP: [u8; 4] = [10, 96, 0, 10];
const POD: [u8; 4] = [10, 244, 1, 7];
const NODE: [u8; 4] = [192, 168, 0, 2];
const B1: [u8; 4] = [10, 244, 1, 1];
const B2: [u8; 4] = [10, 244, 2, 1];
const SERVICE: u32 = 7;
/// The first and the last slot of any table.
const FIRST: u32 = 0;
const LAST: u32 = u32::MAX;

fn to(address: [u8; 4], port: u16, protocol: u8) -> Destination<[u8; 4]> {
    Destination { address, port: port.to_be_bytes(), protocol }
}

fn at(address: [u8; 4], port: u16) -> Endpoint<[u8; 4]> {
    Endpoint { address, port: port.to_be_bytes() }
}

/// A service on VIP:80 with two backends, table at line 3, generation 5.
fn world(kind: Kind, affinity_ticks: u32) -> Fake<[u8; 4]> {
    let fake = Fake::new();
    fake.client.set(Client::Known(POD));
    let ids = [fake.backend(11, B1, 8080, SERVICE, CLUSTER), fake.backend(12, B2, 8080, SERVICE, CLUSTER)];
    fake.run(3, header(5, SERVICE, 2, affinity_ticks, CLUSTER), &ids);
    fake.publish((VIP, 80, TCP), kind, 0, 3, 5);
    fake.publish((VIP, 80, UDP), kind, 0, 3, 5);
    fake.addresses.borrow_mut().insert(VIP, address_flags::REFUSE_UNKNOWN);
    fake.addresses.borrow_mut().insert(NODE, address_flags::NODE_PORT);
    fake.addresses.borrow_mut().insert(<[u8; 4]>::LOOPBACK, address_flags::NODE_PORT | address_flags::HOST_ONLY);
    fake.publish((<[u8; 4]>::ANY, 30080, TCP), kind, 0, 3, 5);
    fake
}

#[test]
fn verdict_table() {
    let local = [127, 0, 9, 9];
    for (name, destination, on_host, want) in [
        ("the service", to(VIP, 80, TCP), false, Ok(Some(at(B1, 8080)))),
        ("another port of it is refused", to(VIP, 81, TCP), false, Err(DropReason::UnknownPort)),
        ("another protocol of it is refused", to(VIP, 80, 132), false, Err(DropReason::UnknownPort)),
        ("no service is left alone", to([1, 1, 1, 1], 80, TCP), false, Ok(None)),
        ("the node's NodePort", to(NODE, 30080, TCP), false, Ok(Some(at(B1, 8080)))),
        ("the node's own ports are left alone", to(NODE, 22, TCP), false, Ok(None)),
        ("another node's NodePort is left alone", to([192, 168, 0, 3], 30080, TCP), false, Ok(None)),
        ("loopback from the host", to([127, 0, 0, 1], 30080, TCP), true, Ok(Some(at(B1, 8080)))),
        ("all of 127.0.0.0/8 from the host", to(local, 30080, TCP), true, Ok(Some(at(B1, 8080)))),
        ("loopback from a pod is the pod's own", to([127, 0, 0, 1], 30080, TCP), false, Ok(None)),
    ] {
        let fake = world(Kind::Random, 0);
        fake.on_host.set(on_host);
        assert_eq!(socket::connect(&fake, &destination), want, "{name}");
    }
}

#[test]
fn kinds_without_a_table() {
    for (kind, want) in [
        (Kind::Refuse, DropReason::NoBackend),
        (Kind::Drop, DropReason::NoLocalBackend),
        (Kind::Canary, DropReason::Canary),
    ] {
        let fake = world(kind, 0);
        assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Err(want), "{kind:?}");
        assert_eq!(socket::send(&fake, &to(VIP, 80, UDP)), Err(want), "{kind:?}, datagram");
    }
}

#[test]
fn random_reaches_both_ends_of_the_table() {
    let fake = world(Kind::Random, 0);
    *fake.randoms.borrow_mut() = vec![FIRST, LAST];
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Ok(Some(at(B1, 8080))));
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Ok(Some(at(B2, 8080))));
}

#[test]
fn maglev_depends_on_the_client_and_not_on_chance() {
    let fake = world(Kind::Maglev, 0);
    *fake.randoms.borrow_mut() = (0..100).collect();
    let first = socket::connect(&fake, &to(VIP, 80, TCP));
    for _ in 0..20 {
        assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), first);
    }
    let mut seen = std::collections::BTreeSet::new();
    for host in 0..64 {
        fake.client.set(Client::Known([10, 244, 1, host]));
        seen.insert(socket::connect(&fake, &to(VIP, 80, TCP)).unwrap().unwrap().address);
    }
    assert_eq!(seen.len(), 2, "64 clients share two backends");
}

#[test]
fn least_connections_prefers_the_idle_one_and_forgets_at_release() {
    let fake = world(Kind::LeastConnections, 0);
    *fake.randoms.borrow_mut() = vec![FIRST, LAST, FIRST, LAST];
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Ok(Some(at(B1, 8080))), "equal: the first pick");
    fake.cookie.set(2);
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Ok(Some(at(B2, 8080))), "the first has one");
    assert_eq!((fake.active.borrow()[&11], fake.active.borrow()[&12]), (1, 1));
    socket::release::<[u8; 4], _>(&fake);
    assert_eq!((fake.active.borrow()[&11], fake.active.borrow()[&12]), (1, 0));
    socket::release::<[u8; 4], _>(&fake);
    assert_eq!(fake.active.borrow()[&12], 0, "a socket is forgotten once");
}

#[test]
fn a_socket_that_connects_again_is_counted_once() {
    let fake = world(Kind::LeastConnections, 0);
    *fake.randoms.borrow_mut() = vec![FIRST, FIRST, LAST, LAST];
    socket::connect(&fake, &to(VIP, 80, UDP)).unwrap();
    socket::connect(&fake, &to(VIP, 80, UDP)).unwrap();
    assert_eq!((fake.active.borrow()[&11], fake.active.borrow()[&12]), (0, 1));
}

#[test]
fn a_full_peer_map_costs_the_answer_and_not_the_connection() {
    let fake = world(Kind::LeastConnections, 0);
    fake.peers_full.set(true);
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Ok(Some(at(B1, 8080))));
    assert_eq!(socket::peer(&fake, &at(B1, 8080)), None);
    assert_eq!(fake.count_of(Counter::PeersFull), 1);
    assert!(fake.active.borrow().is_empty(), "what cannot be taken back is not counted");
}

#[test]
fn getpeername_gives_the_frontend_only_while_connected_to_its_backend() {
    let fake = world(Kind::Random, 0);
    socket::connect(&fake, &to(VIP, 80, TCP)).unwrap();
    assert_eq!(socket::peer(&fake, &at(B1, 8080)), Some(at(VIP, 80)));
    assert_eq!(socket::peer(&fake, &at([1, 1, 1, 1], 443)), None, "connected again, elsewhere");
    fake.remembers.set(false);
    fake.cookie.set(9);
    socket::connect(&fake, &to(VIP, 80, TCP)).unwrap();
    assert_eq!(socket::peer(&fake, &at(B1, 8080)), None, "nothing is stored when not asked for");
}

#[test]
fn affinity_keeps_a_client_and_refreshes_on_each_connection() {
    let fake = world(Kind::Random, 100);
    *fake.randoms.borrow_mut() = vec![LAST, FIRST, FIRST, FIRST];
    let want = Ok(Some(at(B2, 8080)));
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), want);
    fake.ticks.set(1099);
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), want, "last tick of its life");
    fake.ticks.set(1198);
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), want, "refreshed by the second connection");
    fake.ticks.set(1298);
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Ok(Some(at(B1, 8080))), "over");
    fake.client.set(Client::Stray(77));
    *fake.randoms.borrow_mut() = vec![LAST, FIRST];
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), want, "an unknown namespace sticks by its cookie");
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), want);
}

#[test]
fn affinity_to_a_backend_that_left_the_table_is_a_miss() {
    for (name, flags, service) in [
        ("terminating, out of the table", TERMINATING, SERVICE),
        ("only in the other table", LOCAL, SERVICE),
        ("the id belongs to another service", CLUSTER, SERVICE + 1),
    ] {
        let fake = world(Kind::Random, 100);
        *fake.randoms.borrow_mut() = vec![LAST, FIRST];
        socket::connect(&fake, &to(VIP, 80, TCP)).unwrap();
        fake.backend(12, B2, 8080, service, flags);
        assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Ok(Some(at(B1, 8080))), "{name}");
    }
}

#[test]
fn source_ranges_judge_the_client() {
    for (name, client, want) in [
        ("inside", Client::Known(POD), Ok(Some(at(B1, 8080)))),
        ("outside", Client::Known([10, 244, 1, 8]), Err(DropReason::SourceRange)),
        ("unknown", Client::Stray(5), Err(DropReason::UnknownSource)),
    ] {
        let fake = world(Kind::Random, 0);
        fake.publish((VIP, 443, TCP), Kind::Random, word_flags::SOURCE_RANGES, 3, 5);
        fake.ranges.borrow_mut().push((SERVICE, POD));
        fake.client.set(client);
        assert_eq!(socket::connect(&fake, &to(VIP, 443, TCP)), want, "{name}");
    }
}

#[test]
fn datagrams_stay_on_one_backend_and_answers_come_from_the_service() {
    let fake = world(Kind::Random, 0);
    *fake.randoms.borrow_mut() = vec![LAST, FIRST, FIRST];
    for _ in 0..3 {
        assert_eq!(socket::send(&fake, &to(VIP, 80, UDP)), Ok(Some(at(B2, 8080))));
    }
    assert_eq!(socket::receive(&fake, &at(B2, 8080)), Some(at(VIP, 80)));
    assert_eq!(socket::receive(&fake, &at(B1, 8080)), None, "nothing was sent there");
    fake.backend(12, B2, 8080, SERVICE, TERMINATING);
    assert_eq!(socket::send(&fake, &to(VIP, 80, UDP)), Ok(Some(at(B2, 8080))), "a terminating backend drains");
    fake.backends.borrow_mut().remove(&12);
    assert_eq!(socket::send(&fake, &to(VIP, 80, UDP)), Ok(Some(at(B1, 8080))), "a removed one is left at once");
    fake.cookie.set(2);
    assert_eq!(socket::receive(&fake, &at(B1, 8080)), None, "another socket");
}

#[test]
fn bind_keeps_node_ports_free_on_the_host() {
    for (name, at, on_host, want) in [
        ("wildcard", to([0; 4], 30080, TCP), true, Err(DropReason::NodePort)),
        ("a node address", to(NODE, 30080, TCP), true, Err(DropReason::NodePort)),
        ("loopback", to([127, 0, 0, 1], 30080, TCP), true, Err(DropReason::NodePort)),
        ("an address without NodePorts", to([10, 0, 0, 9], 30080, TCP), true, Ok(())),
        ("another protocol", to([0; 4], 30080, UDP), true, Ok(())),
        ("another port", to([0; 4], 30081, TCP), true, Ok(())),
        ("in a pod", to([0; 4], 30080, TCP), false, Ok(())),
    ] {
        let fake = world(Kind::Random, 0);
        fake.on_host.set(on_host);
        assert_eq!(socket::bind(&fake, &at), want, "{name}");
    }
}

#[test]
fn a_change_under_the_reader_costs_one_more_look() {
    // Each change lands between the load of the word and the read of its run.
    type Change = fn(&Fake<[u8; 4]>);
    let changes: [(&str, Change); 3] = [
        ("the run was reused by another service", |fake| {
            fake.run(3, header(6, 99, 2, 0, CLUSTER), &[21, 22]);
            fake.backend(21, [9, 9, 9, 9], 1, 99, CLUSTER);
            fake.run(5, header(7, SERVICE, 1, 0, CLUSTER), &[12]);
            fake.publish((VIP, 80, TCP), Kind::Random, 0, 5, 7);
        }),
        ("the chosen backend is gone", |fake| {
            fake.backends.borrow_mut().remove(&11);
            fake.run(5, header(7, SERVICE, 1, 0, CLUSTER), &[12]);
            fake.publish((VIP, 80, TCP), Kind::Random, 0, 5, 7);
        }),
        ("the backend's id was given to another service", |fake| {
            fake.backend(11, [9, 9, 9, 9], 1, 99, CLUSTER);
            fake.run(5, header(7, SERVICE, 1, 0, CLUSTER), &[12]);
            fake.publish((VIP, 80, TCP), Kind::Random, 0, 5, 7);
        }),
    ];
    for (name, change) in changes {
        let fake = world(Kind::Random, 0);
        fake.before_read.borrow_mut().push(Box::new(change));
        assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Ok(Some(at(B2, 8080))), "{name}");
        assert_eq!(fake.count_of(Counter::Retried), 1, "{name}");
    }
}

#[test]
fn a_word_of_another_key_is_never_followed() {
    // What a preempted reader sees when the element of its key was handed to another key.
    let fake = world(Kind::Random, 0);
    let foreign = *fake.frontends.borrow().values().next_back().unwrap();
    let key = *fake.frontends.borrow().keys().find(|key| key.address == VIP && key.protocol == TCP).unwrap();
    fake.frontends.borrow_mut().insert(key, foreign);
    assert_ne!(foreign.fingerprint(), key.fingerprint());
    assert_eq!(socket::connect(&fake, &to(VIP, 80, TCP)), Err(DropReason::Torn));
}

#[test]
fn ipv6_is_the_same_decision() {
    let vip = [0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let pod = [0xfd, 0, 0, 0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    let fake = Fake::<[u8; 16]>::new();
    let id = fake.backend(1, pod, 80, SERVICE, CLUSTER);
    fake.run(1, header(1, SERVICE, 1, 0, CLUSTER), &[id]);
    fake.publish((vip, 80, TCP), Kind::Random, 0, 1, 1);
    let destination = Destination { address: vip, port: 80u16.to_be_bytes(), protocol: TCP };
    let want = Endpoint { address: pod, port: 80u16.to_be_bytes() };
    assert_eq!(socket::connect(&fake, &destination), Ok(Some(want)));
    assert_eq!(socket::peer(&fake, &want), Some(Endpoint { address: vip, port: 80u16.to_be_bytes() }));
}
