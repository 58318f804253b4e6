//! Sockets on a backend that is gone are closed wherever they are, and no others.

use std::{collections::BTreeMap, net::SocketAddr};

use lb_tests::{
    ask::{PATIENCE, eventually},
    lab::{
        Lab, Options, Topology,
        agent::AgentOptions,
        client::{Client, Family, Http, Protocol, Request, SocketId},
        object::Object,
        topology,
    },
};
use nix::sys::signal::Signal::SIGKILL;

const GONE: &str = "default/web-2";
const STAYS: &str = "default/web-3";

/// A second service on the same pods and ports, and clients on both nodes.
const MORE: &str = r#"
---
{apiVersion: v1, kind: Service, metadata: {name: other}, spec: {clusterIP: 10.96.0.20, ports: [{name: http, port: 80},
 {name: echo, port: 53, protocol: UDP}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: other, labels: {kubernetes.io/service-name:
 other}}, addressType: IPv4, ports: [{name: http, port: 8080}, {name: echo, port: 5353, protocol: UDP}],
 endpoints: [{addresses: [10.244.2.10], nodeName: node-b}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: neighbour}, spec: {nodeName: node-b, containers: [{name: main, image: lab}]}}
"#;

/// What a slice of `web` says about web-2.
#[derive(Clone, Copy)]
enum Web2 {
    Ready,
    Terminating,
    Gone,
}

/// The two slices of `web`, with web-2 and web-3, or with web-2 as told.
fn slices(web2: Web2) -> Vec<Object> {
    let one = |family: &str, name: &str, second: &str, third: &str| {
        let second = match web2 {
            Web2::Ready => format!("{{addresses: [\"{second}\"], conditions: {{ready: true}}}}, "),
            Web2::Terminating => {
                format!(
                    "{{addresses: [\"{second}\"], conditions: {{ready: false, serving: true, terminating: true}}}}, "
                )
            }
            Web2::Gone => String::new(),
        };
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, labels: \
             {{kubernetes.io/service-name: web}}}}, addressType: {family}, ports: [{{name: http, port: 8080}}, \
             {{name: echo, port: 5353, protocol: UDP}}], endpoints: [{second}{{addresses: [\"{third}\"]}}]}}\n---\n"
        )
    };
    let v4 = one("IPv4", "web-v4", "10.244.2.10", "10.244.2.11");
    let v6 = one("IPv6", "web-v6", "fd00:10:244:2::10", "fd00:10:244:2::11");
    Object::parse_all(&format!("{v4}{v6}")).expect("the slices are fine")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("is an address")
}

/// One process, and its sockets by what they are.
struct Caller {
    place: &'static str,
    client: Client,
    sockets: Vec<(String, SocketId, Protocol)>,
}

impl Caller {
    fn new(lab: &Lab, place: &'static str) -> Self {
        Self { place, client: lab.client(place).expect(place), sockets: Vec::new() }
    }

    /// Opens connected sockets until one is on the pod; the others are closed.
    fn connect(&mut self, family: Family, protocol: Protocol, to: &str, pod: &str) {
        let what = format!("{} {family:?} {protocol:?} {to} {pod}", self.place);
        for _ in 0..100 {
            let id = self.client.open(family, protocol).expect(&what);
            let reply = self.client.connect(id, at(to)).expect(&what);
            assert!(reply.ok, "{what}: {reply:?}");
            let reply = ask(&mut self.client, id, protocol);
            assert_eq!(reply.0, "ok", "{what}");
            if reply.1.as_deref() == Some(pod) {
                return self.sockets.push((what, id, protocol));
            }
            assert!(self.client.close(id).expect(&what).ok);
        }
        panic!("{what}: not in a hundred tries");
    }

    /// Opens sockets of every kind on web-2 that are to be closed, TCP last.
    fn translated(&mut self, tcp: bool) {
        for (family, to) in
            [(Family::V4, "10.96.0.10:53"), (Family::V6, "[fd00:10:96::10]:53"), (Family::V6, "10.96.0.10:53")]
        {
            self.connect(family, Protocol::Udp, to, GONE);
        }
        if tcp {
            self.connect(Family::V4, Protocol::Tcp, "10.96.0.10:80", GONE);
            self.connect(Family::V6, Protocol::Tcp, "[fd00:10:96::10]:80", GONE);
        }
    }

    /// Opens sockets that are to live: on another backend, of another service on the same pod, and to the pod itself.
    fn untouched(&mut self) {
        for (protocol, service, other, direct) in [
            (Protocol::Udp, "10.96.0.10:53", "10.96.0.20:53", "10.244.2.10:5353"),
            (Protocol::Tcp, "10.96.0.10:80", "10.96.0.20:80", "10.244.2.10:8080"),
        ] {
            self.connect(Family::V4, protocol, service, STAYS);
            self.connect(Family::V4, protocol, other, GONE);
            self.connect(Family::V4, protocol, direct, GONE);
        }
    }

    /// Every socket works.
    fn live(&mut self, when: &str) {
        for (what, id, protocol) in &self.sockets {
            assert_eq!(ask(&mut self.client, *id, *protocol).0, "ok", "{when}: {what}");
        }
    }

    /// Every socket's wait for data ends with ECONNABORTED.
    fn closed(&mut self) {
        for (what, id, _) in &self.sockets {
            let wait = Request::Recv { id: *id, timeout_ms: PATIENCE.as_millis() as u64 };
            let reply = self.client.call(&wait).expect(what);
            println!("{what}: {} after {} ms", reply.outcome(), reply.ms);
            assert_eq!(reply.outcome(), "ECONNABORTED", "{what}");
        }
    }
}

/// Sends and receives on a connected socket: how it went, and who answered.
fn ask(client: &mut Client, id: SocketId, protocol: Protocol) -> (String, Option<String>) {
    let reply = match protocol {
        Protocol::Tcp => client.request(id, Http::default()),
        Protocol::Udp => client.ask(id, None),
    };
    let reply = reply.expect("is possible");
    (reply.outcome().to_owned(), reply.pod().map(str::to_owned))
}

/// How many sockets an agent says that it has closed.
fn counted(lab: &Lab, node: &str) -> u64 {
    let log = lab.log(node).expect(node);
    let lines = log.lines().filter(|line| line.contains("sockets on removed backends closed"));
    lines.map(|line| field(line, "closed=")).sum()
}

fn field(line: &str, key: &str) -> u64 {
    let value = line.split(' ').find_map(|word| word.strip_prefix(key)).unwrap_or_else(|| panic!("{key}: {line}"));
    value.parse().unwrap_or_else(|_| panic!("{key}: {line}"))
}

#[test]
#[ignore = "needs root"]
fn sockets_on_removed_backends_are_closed() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(&format!("{}{MORE}", topology::DEFAULT)).expect("the topology is fine");
    let close_tcp = AgentOptions { config: Some("socket: {closeTcp: true}".to_owned()), ..AgentOptions::default() };
    let agents = BTreeMap::from([("node-a".to_owned(), close_tcp)]);
    let mut lab = Lab::up(&topology, &Options { agents, ..Options::default() }).expect("the lab comes up");
    lab.apply(slices(Web2::Ready)).unwrap();
    let pods = |lab: &Lab, node: &str| {
        let rows = lab.asked(node, &["service", "get", "default/web"]).unwrap();
        let rows = rows.as_array().unwrap().clone();
        rows.iter().flat_map(|row| row["backends"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    for node in ["node-a", "node-b"] {
        eventually("web-1 is no backend", || {
            (!pods(&lab, node)
                .iter()
                .any(|backend| backend.as_str().unwrap().contains(":1::10]") || backend == "10.244.1.10:8080"))
            .then_some(())
        });
    }

    // On node-a, TCP is closed too.
    let mut doomed =
        [Caller::new(&lab, "default/caller"), Caller::new(&lab, "node-a"), Caller::new(&lab, "default/neighbour")];
    let mut spared =
        [Caller::new(&lab, "default/caller"), Caller::new(&lab, "node-a"), Caller::new(&lab, "default/neighbour")];
    for caller in &mut doomed {
        caller.translated(caller.place != "default/neighbour");
    }
    for caller in &mut spared {
        caller.untouched();
    }
    spared[2].connect(Family::V4, Protocol::Tcp, "10.96.0.10:80", GONE);

    lab.apply(slices(Web2::Terminating)).unwrap();
    for node in ["node-a", "node-b"] {
        eventually("web-2 terminates", || {
            let rows = lab.asked(node, &["backend", "list"]).ok()?;
            let mut rows =
                rows.as_array()?.iter().filter(|row| row["services"][0].as_str().is_some_and(|s| s.contains("/web:")));
            let states: Vec<_> =
                rows.by_ref().map(|row| row["state"].as_str().unwrap_or_default().to_owned()).collect();
            (states.iter().filter(|state| *state == "terminating").count() == 4).then_some(())
        });
    }
    // Longer than an agent takes to close what it wants to close.
    std::thread::sleep(std::time::Duration::from_secs(1));
    for caller in doomed.iter_mut().chain(&mut spared) {
        caller.live("terminating");
    }
    assert_eq!((counted(&lab, "node-a"), counted(&lab, "node-b")), (0, 0));

    lab.apply(slices(Web2::Gone)).unwrap();
    for caller in &mut doomed {
        caller.closed();
    }
    for caller in &mut spared {
        caller.live("web-2 is gone");
    }
    // Three datagram sockets in each of two namespaces, and two streams; on node-b the datagrams of one.
    eventually("node-a's count", || (counted(&lab, "node-a") == 10).then_some(()));
    eventually("node-b's count", || (counted(&lab, "node-b") == 3).then_some(()));

    // A backend that goes while there is no agent: its sockets are closed by the next one's first full list.
    lab.end_agent("node-a", SIGKILL).unwrap();
    let other =
        Object::parse_all("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: other}}").unwrap();
    lab.delete(&other).unwrap();
    let (on_other, rest): (Vec<_>, Vec<_>) =
        spared[0].sockets.drain(..).partition(|(what, ..)| what.contains(" 10.96.0.20:"));
    assert_eq!((on_other.len(), rest.len()), (2, 4));
    lab.start_agent("node-a").unwrap();
    spared[0].sockets = on_other;
    spared[0].closed();
    spared[0].sockets = rest;
    spared[0].live("with a new agent");
}
