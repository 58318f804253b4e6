//! An agent that is away, or none.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    path::Path,
    thread,
};

use tempfile::TempDir;

use crate::node::{Agent, Said, command, lbctl, said};

fn status(socket: &Path) -> Said {
    lbctl(&["--socket", socket.to_str().unwrap()], "status")
}

/// Checks that `said` is one line of error, and returns it without what changes from run to run.
fn complaint(said: &Said, socket: &Path) -> String {
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    said.err.trim_end().replace(socket.to_str().unwrap(), "SOCKET")
}

#[test]
fn no_socket() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("none.sock");
    insta::assert_snapshot!(complaint(&status(&socket), &socket), @"lbctl: no agent at SOCKET: there is no such socket; does lb-agent run on this node? (--socket and LB_AGENT_SOCKET name another)");
}

#[test]
fn a_socket_that_nobody_serves() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("old.sock");
    drop(UnixListener::bind(&socket).unwrap());
    insta::assert_snapshot!(complaint(&status(&socket), &socket), @"lbctl: no agent at SOCKET: nobody listens on it; the agent has ended");
}

#[test]
fn a_socket_for_others() {
    let agent = Agent::start();
    let binary = agent.directory.path().join("lbctl");
    fs::copy(env!("CARGO_BIN_EXE_lbctl"), &binary).unwrap();
    fs::set_permissions(agent.directory.path(), Permissions::from_mode(0o755)).unwrap();
    let mut lbctl = command(binary.to_str().unwrap());
    lbctl.arg("status").arg("--socket").arg(&agent.socket);
    if nix::unistd::geteuid().is_root() {
        // Nobody, as most systems number it: neither owner nor group of the socket.
        lbctl.uid(65534).gid(65534);
    } else {
        fs::set_permissions(&agent.socket, Permissions::from_mode(0o000)).unwrap();
    }
    insta::assert_snapshot!(complaint(&said(&mut lbctl), &agent.socket), @"lbctl: SOCKET: permission denied; the socket is for root, and for its group");
}

/// Serves one connection: reads the request, writes `answer`, hangs up.
fn speaks(answer: &'static str) -> String {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("other.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        assert!(request[..read].starts_with(b"GET /v1/status HTTP/1.1\r\n"));
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let said = status(&socket);
    server.join().unwrap();
    complaint(&said, &socket)
}

#[test]
fn something_else_answers() {
    insta::assert_snapshot!(speaks("220 mail.example ESMTP\r\n"), @"lbctl: what answers at SOCKET is no lb-agent: it does not speak HTTP");
    insta::assert_snapshot!(speaks("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), @"lbctl: what answers at SOCKET is no lb-agent: it does not say what it is");
    insta::assert_snapshot!(speaks("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\n{}"), @r#"lbctl: what answers at SOCKET is no lb-agent: it calls itself "nginx""#);
    insta::assert_snapshot!(speaks(""), @"lbctl: the agent at SOCKET hung up: connection closed before message completed");
}

#[test]
fn an_agent_of_another_time() {
    let answer = "HTTP/1.1 200 OK\r\nServer: lb-agent/9.0.0\r\nContent-Length: 15\r\n\r\n{\"node\":\"far\"}\n";
    insta::assert_snapshot!(speaks(answer), @"lbctl: lb-agent/9.0.0 says what this lbctl (lb-agent/0.1.0) does not understand: missing field `version` at line 1 column 14");
    let answer = "HTTP/1.1 503 Service Unavailable\r\nServer: lb-agent/9.0.0\r\nContent-Length: 64\r\n\r\n\
                  {\"error\":{\"reason\":\"OfTomorrow\",\"message\":\"it is not tomorrow\"}}";
    insta::assert_snapshot!(speaks(answer), @"lbctl: it is not tomorrow");
}
