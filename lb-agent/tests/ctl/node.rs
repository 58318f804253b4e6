//! A node with answers of its own, and the servers in front of it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use lb_agent::{
    api::{
        Answers, Counters,
        error::{ApiError, Reason},
        maps::{MaglevShow, MapEntry, MapsDump},
        query::MaglevQuery,
        rows::{BackendRow, BackendState, ServiceRow, Via},
        status::{Canary, MapUse, ProblemRow, Status},
    },
    model::{
        addr::Protocol,
        service::{Algorithm, TrafficPolicy},
    },
    server::{ApiSite, ApiSocket},
};
use lb_ebpf::abi::drops::{COUNTERS, DropReason};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

/// What the test's agent says.
pub(crate) struct Node {
    pub(crate) services: Mutex<Vec<ServiceRow>>,
    pub(crate) well: AtomicBool,
}

impl Default for Node {
    fn default() -> Self {
        Self { services: Mutex::new(services()), well: AtomicBool::new(true) }
    }
}

fn services() -> Vec<ServiceRow> {
    let row = |namespace: &str, name: &str, port, protocol, via, address: &str, backends: &[&str]| ServiceRow {
        namespace: namespace.into(),
        name: name.into(),
        port,
        protocol,
        via,
        address: address.parse().unwrap(),
        backends: backends.iter().map(|text| text.parse().unwrap()).collect(),
        algorithm: Algorithm::Random,
        affinity_seconds: 0,
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
    };
    use Protocol::{Tcp, Udp};
    use Via::{ClusterIP, ExternalIP, LoadBalancer, NodePort};
    let landing = ["10.0.2.4:80", "10.0.1.3:80"];
    let dns = ["10.0.1.9:53", "10.0.2.9:53", "10.0.1.10:53", "10.0.2.10:53", "10.0.2.11:53"];
    let mut rows = vec![
        row("kube-system", "kube-dns", 53, Udp, ClusterIP, "10.96.0.10:53", &dns),
        row("kube-system", "kube-dns", 53, Tcp, ClusterIP, "10.96.0.10:53", &dns),
        row("default", "nobody", 443, Tcp, ClusterIP, "10.96.0.99:443", &[]),
        row("default", "deathstar", 80, Tcp, NodePort, "0.0.0.0:30080", &landing),
        row("default", "deathstar", 80, Tcp, ClusterIP, "[fd00:96::1]:80", &["[fd00:2::4]:80"]),
        row("default", "deathstar", 80, Tcp, ClusterIP, "10.96.0.1:80", &landing),
        row("default", "deathstar", 80, Tcp, LoadBalancer, "192.0.2.80:80", &landing),
        row("default", "sticky", 8080, Tcp, ExternalIP, "198.51.100.7:8080", &["10.0.1.3:8080"]),
    ];
    for row in rows.iter_mut().filter(|row| row.name == "sticky") {
        row.algorithm = Algorithm::Maglev;
        row.affinity_seconds = 10_800;
        row.external_traffic_policy = TrafficPolicy::Local;
    }
    rows
}

impl Answers for Node {
    fn status(&self) -> Result<Status, ApiError> {
        let map = |name: &str, used, capacity| MapUse { name: name.into(), used, capacity };
        Ok(Status {
            node: "worker-1".into(),
            version: "0.1.0".into(),
            synced: true,
            ready: true,
            canary: self.canary(),
            maps: vec![map("frontends6", 1, 262_144), map("arena", 9, 262_144), map("frontends4", 7, 262_144)],
            problems: vec![ProblemRow {
                kind: "BadField".into(),
                object: "Service default/odd".into(),
                field: "spec.ports[0].port".into(),
                message: "70000 is not a port (1 to 65535); the service is not served".into(),
            }],
        })
    }

    fn canary(&self) -> Canary {
        if self.well.load(Ordering::SeqCst) {
            return Canary { ok: true, last_unix: 1, uncovered: vec![] };
        }
        Canary { ok: false, last_unix: 1, uncovered: vec!["default/xwing".into(), "default/tiefighter".into()] }
    }

    fn services(&self) -> Result<Vec<ServiceRow>, ApiError> {
        Ok(self.services.lock().unwrap().clone())
    }

    fn backends(&self) -> Result<Vec<BackendRow>, ApiError> {
        let row = |id, address: &str, node: &str, state, service: &str| BackendRow {
            id,
            address: address.parse().unwrap(),
            protocol: Protocol::Tcp,
            node: node.into(),
            state,
            services: vec![service.parse().unwrap()],
        };
        Ok(vec![
            row(4, "10.0.1.9:53", "", BackendState::Active, "kube-system/kube-dns:53"),
            row(2, "10.0.2.4:80", "worker-2", BackendState::Terminating, "default/deathstar:80"),
            row(1, "10.0.1.3:80", "worker-1", BackendState::Active, "default/deathstar:80"),
            row(3, "[fd00:2::4]:80", "worker-2", BackendState::Active, "default/deathstar:80"),
        ])
    }

    fn maps(&self) -> Result<MapsDump, ApiError> {
        let entry = MapEntry { key: json!(1), value: json!({"address": "10.0.1.3", "port": 80}) };
        Ok(MapsDump(BTreeMap::from([("backends4".to_owned(), vec![entry])])))
    }

    fn maps_text(&self) -> Result<String, ApiError> {
        Ok("backends4 1 10.0.1.3:80/TCP active\n".to_owned())
    }

    fn maglev(&self, query: &MaglevQuery) -> Result<MaglevShow, ApiError> {
        let port = &query.port;
        let rows = self.services.lock().unwrap();
        let mut of_port = rows.iter().filter(|row| {
            (&row.namespace, &row.name, row.port) == (&port.service.namespace, &port.service.name, port.port)
                && query.protocol.is_none_or(|protocol| protocol == row.protocol)
        });
        match of_port.next() {
            None => Err(ApiError::new(Reason::NotFound, format!("no service has port {port}"))),
            Some(row) if row.algorithm != Algorithm::Maglev => {
                Err(ApiError::new(Reason::NotMaglev, format!("{port} is chosen {}", row.algorithm.name())))
            }
            Some(_) => Ok(MaglevShow {
                size: 251,
                slots: [("10.0.1.3:8080".to_owned(), 126), ("10.0.2.3:8080".to_owned(), 125)].into(),
                digest: "00f1e2d3c4b5a697".to_owned(),
            }),
        }
    }

    fn counters(&self) -> Result<Counters, ApiError> {
        let mut counters = Counters([0; COUNTERS as usize]);
        counters.0[DropReason::NoBackend as usize] = 3;
        Ok(counters)
    }
}

/// Serves something in a thread with a runtime of its own until dropped.
pub(crate) struct Served {
    shutdown: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Starts `serve`; returns when it has called its first argument.
    pub(crate) fn start<F: Future<Output = ()>>(
        serve: impl FnOnce(mpsc::Sender<()>, watch::Receiver<bool>) -> F + Send + 'static,
    ) -> Self {
        let (shutdown, stop) = watch::channel(false);
        let (ready, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(ready, stop));
        });
        started.recv().unwrap();
        Self { shutdown, thread: Some(thread) }
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.shutdown.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An agent's socket with a [`Node`] behind it.
pub(crate) struct Agent {
    pub(crate) node: Arc<Node>,
    pub(crate) served: Served,
    pub(crate) socket: PathBuf,
    pub(crate) directory: TempDir,
}

impl Agent {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        // The directory is missing, as /run/lb-agent is on a fresh node.
        let socket = directory.path().join("run/lb-agent.sock");
        let node = Arc::new(Node::default());
        let (path, answers) = (socket.clone(), Arc::clone(&node));
        let served = Served::start(|ready, stop| async move {
            let socket = ApiSocket::bind(&path).unwrap();
            ready.send(()).unwrap();
            socket.serve(Arc::new(ApiSite(answers)), stop).await;
        });
        Self { node, served, socket, directory }
    }

    pub(crate) fn lbctl(&self, line: &str) -> Said {
        lbctl(&["--socket", self.socket.to_str().unwrap()], line)
    }
}

/// What a process said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

pub(crate) fn lbctl(first: &[&str], line: &str) -> Said {
    said(command(env!("CARGO_BIN_EXE_lbctl")).args(first).args(line.split_whitespace()))
}

/// A command that inherits nothing that changes its answer.
pub(crate) fn command(binary: &str) -> Command {
    let mut command = Command::new(binary);
    for name in ["LB_AGENT_SOCKET", "NODE_NAME", "RUST_LOG", "LB_AGENT_LOG_FORMAT", "LB_AGENT_MANIFESTS"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { out: text(stdout), err: text(stderr), code: status.code().unwrap() }
}
