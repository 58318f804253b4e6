//! The lab of the socket tests, and terse ways to dial, to change objects and to wait.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use lb_agent::datapath::probe;
use lb_tests::lab::{
    Lab, Options, Topology, binaries,
    client::{Client, Dial, Family, Http, Protocol, Reply, SocketId},
    object::Object,
};
use serde_json::Value;

/// Nodes and pods.
const TOPOLOGY: &str = include_str!("../../topologies/sockets.yaml");
/// How ClusterIPs begin; a Service's number is the rest.
pub(super) const CLUSTER_IP: [&str; 2] = ["10.96.0.", "fd00:10:96::"];
/// Public suites ask for 5 s; emulated kernels share a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Below the first retransmission of a SYN: whatever ends sooner was never dropped.
pub(super) const AT_ONCE_MS: f64 = 950.0;
/// How long an answer may take: that of an emulated kernel on a busy machine.
const ANSWER_MS: u64 = 15_000;
/// Long enough for an answer, for connections that should get none.
pub(super) const SILENCE_MS: u64 = 300;
/// Tries for each endpoint that could answer: all are seen but in one run of a hundred million.
const TRIES: u32 = 20;

/// A pod of the topology.
pub(super) struct Pod {
    pub(super) node: &'static str,
    pub(super) v4: &'static str,
    pub(super) v6: &'static str,
}

/// Returns a pod by its name.
pub(super) fn pod(name: &str) -> Pod {
    let (node, v4, v6) = match name {
        "a1" => ("node-a", "10.244.1.11", "fd00:10:244:1::11"),
        "a2" => ("node-a", "10.244.1.12", "fd00:10:244:1::12"),
        "b1" => ("node-b", "10.244.2.11", "fd00:10:244:2::11"),
        "b2" => ("node-b", "10.244.2.12", "fd00:10:244:2::12"),
        "caller-a" => ("node-a", "10.244.1.21", "fd00:10:244:1::21"),
        "other-a" => ("node-a", "10.244.1.22", "fd00:10:244:1::22"),
        "caller-b" => ("node-b", "10.244.2.21", "fd00:10:244:2::21"),
        "host-a" => ("node-a", "192.168.0.2", "fd00:192:168::2"),
        "host-b" => ("node-b", "192.168.0.3", "fd00:192:168::3"),
        _ => panic!("there is no pod {name}"),
    };
    Pod { node, v4, v6 }
}

/// Parses an address with a port.
pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

/// The ClusterIPs of a Service as a client can write them: IPv4, IPv6, and IPv4 in a socket of IPv6.
pub(super) fn vips(number: u8, port: u16) -> [SocketAddr; 3] {
    let [v4, v6] = CLUSTER_IP;
    [
        address(&format!("{v4}{number}:{port}")),
        address(&format!("[{v6}{number}]:{port}")),
        address(&format!("[::ffff:{v4}{number}]:{port}")),
    ]
}

/// The IPv4 ClusterIP of a Service.
pub(super) fn vip(number: u8, port: u16) -> SocketAddr {
    vips(number, port)[0]
}

/// What the kernel at hand can say from a hook.
pub(super) struct Kernel {
    chooses_errno: bool,
}

/// Asks the kernel.
pub(super) fn kernel() -> Kernel {
    Kernel { chooses_errno: probe::has_set_retval() }
}

impl Kernel {
    /// True from 5.18 on: a hook that refuses can say by which errno.
    pub(super) fn chooses_errno(&self) -> bool {
        self.chooses_errno
    }

    /// The errno of a connection that must neither succeed nor leave the node.
    pub(super) fn unreachable(&self) -> &'static str {
        if self.chooses_errno { "EHOSTUNREACH" } else { "EPERM" }
    }

    /// The errno of a bind to a NodePort.
    pub(super) fn in_use(&self) -> &'static str {
        if self.chooses_errno { "EADDRINUSE" } else { "EPERM" }
    }
}

/// A lab of the topology with agents.
pub(super) struct Cluster {
    pub(super) lab: Lab,
    clients: BTreeMap<String, Client>,
    barriers: u32,
}

/// How often each pod answered, and each errno came in place of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(pub(super) BTreeMap<String, u32>);

impl Cluster {
    /// Brings the lab up with these objects.
    pub(super) fn up(objects: &str, options: &Options) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let topology =
            Topology::parse(&format!("{TOPOLOGY}---\n{MARKER}---\n{objects}")).expect("the topology is fine");
        let options = Options { ready_timeout: Duration::from_secs(300), ..options.clone() };
        let lab = Lab::up(&topology, &options).expect("the lab comes up");
        let cluster = Self { lab, clients: BTreeMap::new(), barriers: 0 };
        for node in ["node-a", "node-b"] {
            assert_eq!(cluster.problems(node), Vec::<String>::new(), "{node}: the agent takes every object");
        }
        cluster
    }

    /// Returns the client process in a pod or on a node.
    pub(super) fn at(&mut self, place: &str) -> &mut Client {
        let lab = &self.lab;
        self.clients.entry(place.to_owned()).or_insert_with(|| lab.client(&full(place)).expect(place))
    }

    /// Gives objects to the agents, and does not wait.
    pub(super) fn lab_apply(&mut self, yaml: &str) {
        self.lab.apply(parse(yaml)).expect("the objects are fine");
    }

    /// Gives objects to the agents, and waits until each has them in its maps.
    pub(super) fn apply(&mut self, yaml: &str) {
        self.lab.apply(parse(yaml)).expect("the objects are fine");
        self.settle();
    }

    /// Takes objects away, and waits until each agent's maps have lost them.
    pub(super) fn delete(&mut self, yaml: &str) {
        self.lab.delete(&parse(yaml)).expect("the objects exist");
        self.settle();
    }

    /// Waits until each agent has read what was written before.
    ///
    /// A directory is listed and then read, and one reading becomes one change of the maps: whoever shows an object that
    /// is new has read what was there before it.
    pub(super) fn settle(&mut self) {
        self.barriers += 1;
        let address = format!("10.255.{}.{}", self.barriers / 250, self.barriers % 250 + 1);
        self.lab.apply(parse(&marker(self.barriers, &address))).expect("the marker is fine");
        let wanted = Value::String(format!("{address}:1"));
        let is_alive = |node: &String| self.lab.agent(node).is_ok_and(|agent| agent.process.is_alive());
        let nodes: Vec<String> = self.lab.state().nodes.iter().map(|node| node.node.name.clone()).collect();
        let nodes: Vec<String> = nodes.into_iter().filter(is_alive).collect();
        for node in &nodes {
            self.eventually(&format!("{node} has read the objects"), |cluster| {
                let rows = cluster.lbctl(node, &["service", "get", "default/marker"])?;
                let backends = rows[0]["backends"].as_array().cloned().unwrap_or_default();
                if backends.contains(&wanted) { Ok(()) } else { Err(rows.to_string()) }
            });
        }
    }

    /// Asks a node's agent; what it answers with another status than 0 is an error.
    pub(super) fn lbctl(&self, node: &str, arguments: &[&str]) -> Result<Value, String> {
        let agent = self.lab.agent(node).map_err(|error| error.to_string())?;
        let output = Command::new(binaries::find("lbctl").expect("lbctl is built"))
            .arg("--socket")
            .arg(&agent.socket)
            .args(arguments)
            .args(["-o", "json"])
            .output()
            .expect("lbctl starts");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    /// Returns the problems in a node's status, as `kind object field`.
    pub(super) fn problems(&self, node: &str) -> Vec<String> {
        let status = self.lab.agent(node).and_then(|agent| agent.status()).expect("the agent answers");
        let text = |problem: &Value, key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().map(|p| format!("{} {} {}", text(p, "kind"), text(p, "object"), text(p, "field"))).collect()
    }

    /// How many connections a node's hooks have refused for that reason, as its metrics say.
    pub(super) fn drops(&mut self, node: &str, reason: &str) -> u64 {
        let client = self.at(node);
        let id = client.tcp(address("127.0.0.1:10249")).expect("the request has sense").0;
        let reply = client.request(id, Http::new("GET", "/metrics")).expect("the request has sense");
        client.close(id).expect("is open");
        let text = reply.data.unwrap_or_default();
        let start = format!("lb_agent_drops_total{{reason=\"{reason}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {start}in {text}")).parse().expect("is a number")
    }

    /// Tries until it works.
    pub(super) fn eventually<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Result<T, String>) -> T {
        let start = Instant::now();
        loop {
            match look(self) {
                Ok(found) => return found,
                Err(error) if start.elapsed() > PATIENCE => panic!("{what}: not after {PATIENCE:?}: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Makes connections, each from a fresh socket; many of them a few at a time.
    pub(super) fn dial(&mut self, place: &str, to: SocketAddr, protocol: Protocol, times: u32) -> Tally {
        let parallel = if times < TRIES { 1 } else { 4 };
        self.dial_with(place, Dial { parallel, timeout_ms: ANSWER_MS, ..Dial::new(to, protocol, times) })
    }

    /// Makes connections that nothing should answer, with little patience.
    pub(super) fn dial_silence(&mut self, place: &str, to: SocketAddr, protocol: Protocol) -> Tally {
        self.dial_with(place, Dial { timeout_ms: SILENCE_MS, ..Dial::new(to, protocol, 1) })
    }

    /// Makes connections one after another.
    pub(super) fn dial_in_turn(&mut self, place: &str, to: SocketAddr, protocol: Protocol, times: u32) -> Tally {
        self.dial_with(place, Dial { timeout_ms: ANSWER_MS, ..Dial::new(to, protocol, times) })
    }

    fn dial_with(&mut self, place: &str, dial: Dial) -> Tally {
        let replies = self.at(place).dial(dial).expect("the request has sense");
        let mut tally = Tally::default();
        for reply in &replies {
            *tally.0.entry(outcome(reply).to_owned()).or_default() += 1;
        }
        tally
    }

    /// Asserts that connections reach all of these pods and nothing else.
    pub(super) fn reaches(&mut self, place: &str, to: SocketAddr, protocol: Protocol, pods: &[&str]) {
        let times = TRIES * u32::try_from(pods.len()).expect("is small");
        let tally = self.dial(place, to, protocol, if pods.len() == 1 { 5 } else { times });
        assert_eq!(tally.names(), pods, "{place} -> {to} {protocol:?}: {tally:?}");
    }

    /// Asserts that connections fail with this errno, and at once.
    pub(super) fn refuses(&mut self, place: &str, to: SocketAddr, errno: &str) {
        let client = self.at(place);
        for _ in 0..3 {
            let (id, reply) = client.tcp(to).expect("the request has sense");
            assert_eq!(reply.outcome(), errno, "{place} -> {to}");
            assert!(reply.ms < AT_ONCE_MS, "{place} -> {to}: took {} ms", reply.ms);
            client.close(id).expect("is open");
        }
    }

    /// Asserts that a connection is not translated: the fabric loses what no one holds.
    pub(super) fn loses(&mut self, place: &str, to: SocketAddr) {
        let tally = self.dial_silence(place, to, Protocol::Tcp);
        assert_eq!(tally.names(), ["TIMEOUT"], "{place} -> {to}");
    }

    /// Runs a command in a place, and asserts that it succeeds.
    pub(super) fn run(&self, place: &str, command: &[&str]) {
        let output = self.lab.exec(&full(place), command).expect("the place exists");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {command:?}: {stderr}");
    }

    /// Adds a device to a node, of a kind that every kernel of the matrix has.
    pub(super) fn add_device(&self, node: &str, device: &str) {
        self.run(node, &["ip", "link", "add", device, "type", "veth", "peer", "name", &format!("{device}-x")]);
        self.run(node, &["ip", "link", "set", device, "up"]);
    }

    /// Opens an unconnected UDP socket of the address's family.
    pub(super) fn datagrams(&mut self, place: &str, to: SocketAddr) -> SocketId {
        self.at(place).open(Family::of(&to), Protocol::Udp).expect("a socket opens")
    }
}

impl Tally {
    /// The pods and errnos in their order.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// How often that one came.
    pub(super) fn count(&self, name: &str) -> u32 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// The pod that answered, without its namespace, or why none did.
pub(super) fn outcome(reply: &Reply) -> &str {
    reply.pod().map_or(reply.outcome(), |pod| pod.strip_prefix("default/").unwrap_or(pod))
}

/// The place's name in the lab.
pub(super) fn full(place: &str) -> String {
    if place.starts_with("node-") || place == "outside" || place.contains('/') {
        place.to_owned()
    } else {
        format!("default/{place}")
    }
}

/// Returns an address as a socket of IPv6 shows it.
pub(super) fn mapped(to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
        IpAddr::V6(_) => to,
    }
}

fn parse(yaml: &str) -> Vec<Object> {
    Object::parse_all(yaml).expect("the objects are fine")
}

const MARKER: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: marker}\nspec: {clusterIP: 10.96.255.1, ports: [{port: 1}]}\n";

fn marker(number: u32, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: marker-{number}, labels: {{kubernetes.io/service-name: marker}}}}\n\
         addressType: IPv4\nports: [{{port: 1}}]\nendpoints: [{{addresses: [{address}]}}]\n"
    )
}
