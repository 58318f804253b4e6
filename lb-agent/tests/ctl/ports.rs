//! Health and metrics over TCP.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use lb_agent::{
    health::{Health, Moment},
    metrics::Metrics,
    problem::Problems,
    server::{HealthSite, MetricsSite, Site, Tcp, serve_tcp},
};

use crate::{
    http,
    node::{Node, Served},
};

const FLAG: &str = "--healthz-bind-address";

/// A port of this machine that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn serve(address: SocketAddr, site: Arc<dyn Site>, problems: Arc<Mutex<Problems>>) -> Served {
    let tcp = Tcp { address, what: "/healthz", flag: FLAG };
    Served::start(move |ready, stop| async move {
        ready.send(()).unwrap();
        serve_tcp(tcp, site, problems, stop).await;
    })
}

/// Waits until `done`, for longer than a port is retried.
fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(15), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn listens(address: SocketAddr) {
    wait("listening", || std::net::TcpStream::connect(address).is_ok());
}

#[test]
fn health_is_kube_proxys_on_the_wire() {
    let (health, node) = (Arc::new(Health::default()), Arc::new(Node::default()));
    let site = Arc::new(HealthSite { health: Arc::clone(&health), answers: Arc::clone(&node) as _ });
    let address = free_port();
    let _served = serve(address, site, Arc::default());
    listens(address);
    health.updated(Moment::now());
    for (path, field) in [("/healthz", r#", "nodeEligible": true"#), ("/livez", "")] {
        for method in ["GET", "POST"] {
            let reply = http::over_tcp(address, method, path);
            assert_eq!(reply.code, 200, "{path}");
            assert_eq!(reply.header("content-type"), Some("application/json"), "{path}");
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
            let length = reply.body.len().to_string();
            assert_eq!(reply.header("content-length"), Some(length.as_str()), "{path}");
            assert!(reply.header("date").is_some(), "{path}");
            let now = reply.body.strip_prefix(r#"{"lastUpdated": ""#).and_then(|rest| rest.split_once('"')).unwrap().0;
            assert_eq!(reply.body, format!(r#"{{"lastUpdated": "{now}","currentTime": "{now}"{field}}}"#));
        }
    }
    health.node(true);
    assert_eq!(http::over_tcp(address, "GET", "/healthz").code, 503);
    assert!(http::over_tcp(address, "GET", "/healthz").body.ends_with(r#", "nodeEligible": false}"#));
    assert_eq!(http::over_tcp(address, "GET", "/livez").code, 200);
    let reply = http::over_tcp(address, "GET", "/canary");
    assert_eq!((reply.code, reply.body.as_str()), (200, "{\"ok\":true,\"lastUnix\":1,\"uncovered\":[]}\n"));
    node.well.store(false, Ordering::SeqCst);
    let reply = http::over_tcp(address, "GET", "/canary");
    let canary = "{\"ok\":false,\"lastUnix\":1,\"uncovered\":[\"default/tiefighter\",\"default/xwing\"]}\n";
    assert_eq!((reply.code, reply.body.as_str()), (503, canary));
    let reply = http::over_tcp(address, "GET", "/");
    assert_eq!((reply.code, reply.body.as_str()), (404, "404 page not found\n"));
}

#[test]
fn metrics_are_prometheus_text() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let site = Arc::new(MetricsSite { metrics, answers: Arc::new(Node::default()) });
    let address = free_port();
    let _served = serve(address, site, Arc::default());
    listens(address);
    let reply = http::over_tcp(address, "GET", "/metrics");
    assert_eq!(reply.code, 200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4"));
    for line in [
        "lb_agent_build_info{version=\"0.1.0\"} 1",
        "lb_agent_canary_ok 1",
        "lb_agent_drops_total{reason=\"NoBackend\"} 3",
        "lb_agent_map_entries{map=\"frontends4\"} 7",
        "lb_agent_problems{kind=\"BadField\"} 1",
    ] {
        assert!(reply.body.lines().any(|have| have == line), "{line} is missing in\n{}", reply.body);
    }
    for line in reply.body.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("lb_agent_"), "{line}");
    }
    assert_eq!(http::over_tcp(address, "GET", "/").code, 404);
}

#[test]
fn a_port_that_is_taken_is_a_problem_while_it_lasts() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let problems = Arc::new(Mutex::new(Problems::default()));
    let site = Arc::new(HealthSite { health: Arc::default(), answers: Arc::new(Node::default()) });
    let mut served = serve(address, site, Arc::clone(&problems));
    let standing = || problems.lock().unwrap().all().into_iter().cloned().collect::<Vec<_>>();
    wait("a problem", || !standing().is_empty());
    let [problem] = standing().try_into().unwrap();
    assert_eq!(
        (problem.kind, problem.object, problem.field.as_str()),
        ("PortTaken", format!("listener {address}"), FLAG)
    );
    let port = address.port();
    assert_eq!(
        problem.message,
        format!(
            "/healthz not served: port {port} is taken (another process listens there); tried again until it is free"
        )
    );
    drop(holder);
    wait("the cure", || standing().is_empty());
    assert_eq!(http::over_tcp(address, "GET", "/livez").code, 200);
    served.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn waiting_for_a_port_ends_with_the_agent_and_cures_nothing() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let problems = Arc::new(Mutex::new(Problems::default()));
    let site = Arc::new(HealthSite { health: Arc::default(), answers: Arc::new(Node::default()) });
    let mut served = serve(holder.local_addr().unwrap(), site, Arc::clone(&problems));
    wait("a problem", || !problems.lock().unwrap().all().is_empty());
    let start = Instant::now();
    served.stop();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(problems.lock().unwrap().all().len(), 1);
}
