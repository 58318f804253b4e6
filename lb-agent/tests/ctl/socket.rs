//! The unix socket as the agent serves it.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_agent::server::{ApiSite, ApiSocket};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http,
    node::{Agent, Node, Served},
};

/// Binds inside a runtime, as the agent does, and returns the complaint.
fn bind(path: &Path) -> Result<ApiSocket, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    ApiSocket::bind(path).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "SOCKET"))
}

#[test]
fn owner_and_group_may_ask_and_it_goes_with_the_agent() {
    let mut agent = Agent::start();
    let mode = fs::metadata(&agent.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(!agent.socket.with_extension("sock.new").exists());
    agent.served.stop();
    assert!(!agent.socket.exists());
}

#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() {
    let agent = Agent::start();
    let error = bind(&agent.socket).unwrap_err();
    insta::assert_snapshot!(error, @"--socket SOCKET: another agent serves it; one node has one agent, or each its own --socket");
    assert_eq!(agent.lbctl("status").code, 0);
}

#[test]
fn a_stale_socket_is_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    let socket = path.clone();
    let _served = Served::start(|ready, stop| async move {
        let socket = ApiSocket::bind(&socket).unwrap();
        ready.send(()).unwrap();
        socket.serve(Arc::new(ApiSite(Arc::new(Node::default()))), stop).await;
    });
    assert_eq!(http::over_unix(&path, "GET", "/v1/status").code, 200);
}

#[test]
fn a_successor_keeps_its_socket() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s.sock");
    let first = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = bind(&path).unwrap();
    drop(first);
    assert!(path.exists(), "the first agent's end removes its own file alone");
    drop(second);
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_stays() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notes.txt");
    fs::write(&path, "dear diary").unwrap();
    insta::assert_snapshot!(bind(&path).unwrap_err(), @"--socket SOCKET: there is a file that is no socket; it stays as it is");
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary");
    let long = directory.path().join("x".repeat(120));
    let error = bind(&long).unwrap_err();
    assert!(error.ends_with("too long for a socket's path, 103 are the most"), "{error}");
    let error = bind(&path.join("below/s.sock")).unwrap_err();
    assert!(error.starts_with("--socket SOCKET: Not a directory"), "{error}");
}

#[test]
fn errors_are_json() {
    let agent = Agent::start();
    for (name, method, path, code, reason) in [
        ("unknown path", "GET", "/v2/status", 404, "UnknownPath"),
        ("bad name", "GET", "/v1/services/a/B", 400, "BadQuery"),
        ("bad port", "GET", "/v1/maglev/a/b:x", 400, "BadQuery"),
        ("bad method", "POST", "/v1/status", 405, "BadMethod"),
        ("not there", "GET", "/v1/maglev/a/b:1", 404, "NotFound"),
        ("not Maglev", "GET", "/v1/maglev/default/deathstar:80", 409, "NotMaglev"),
    ] {
        let reply = http::over_unix(&agent.socket, method, path);
        assert_eq!(reply.code, code, "{name}: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{name}");
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body["error"]["reason"], reason, "{name}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{name}");
    }
    let reply = http::over_unix(&agent.socket, "DELETE", "/v1/status");
    assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    let reply = http::over_unix(&agent.socket, "HEAD", "/v1/status");
    assert_eq!((reply.code, reply.body.as_str()), (200, ""));
    let reply = http::over_unix(&agent.socket, "GET", "/v1/canary");
    assert_eq!((reply.code, reply.body.as_str()), (200, "{\"ok\":true,\"lastUnix\":1,\"uncovered\":[]}\n"));
    assert_eq!(reply.header("server"), Some(concat!("lb-agent/", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn clients_that_say_nothing_keep_nobody_out_and_hold_up_no_end() {
    let mut agent = Agent::start();
    let idle: Vec<_> = (0..40).map(|_| UnixStream::connect(&agent.socket).unwrap()).collect();
    let mut half = UnixStream::connect(&agent.socket).unwrap();
    half.write_all(b"GET /v1/sta").unwrap();
    assert_eq!(agent.lbctl("status").code, 0);
    let start = Instant::now();
    agent.served.stop();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    drop(idle);
}
