//! A process that opens real sockets from inside a place, driven by the test outside.
//!
//! A thread can enter a network namespace but not a cgroup, and socket programs go by the cgroup: connections that are to be
//! translated come from a process of their own. It is `lb-lab client`, which reads one JSON [`Request`] a line and answers each
//! by one JSON [`Reply`] a line, in order; [`Client`] is the side of the test.

mod sockets;
mod wire;
mod worker;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

pub use self::{
    wire::{Dial, Family, Http, Protocol, Reply, Request, SocketId, timeout_ms},
    worker::{dial, hold, work},
};
use super::Lab;

/// A process inside a place that does what it is asked with sockets; it ends with this value.
#[derive(Debug)]
pub struct Client {
    child: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    next: u32,
}

impl Lab {
    /// Starts a client in a pod (`NS/POD`), on a node, or in a client's namespace.
    pub fn client(&self, place: &str) -> Result<Client> {
        let mut command = self.command(place, "lb-lab")?;
        let mut child =
            command.arg("client").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("lb-lab client")?;
        let replies = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        Ok(Client { requests: child.stdin.take(), replies, child, next: 0 })
    }
}

impl Client {
    /// Asks for one thing. What the network or the kernel refuses is in the reply; an error is a request without sense.
    pub fn call(&mut self, request: &Request) -> Result<Reply> {
        self.send(request)?;
        self.receive()
    }

    /// Asks without waiting for the reply, which [`Self::receive`] returns.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        let requests = self.requests.as_mut().expect("the pipe is open as long as the client");
        requests.write_all(line.as_bytes()).context("lb-lab client")
    }

    /// Waits for the reply to the oldest request that has none.
    pub fn receive(&mut self) -> Result<Reply> {
        let mut line = String::new();
        self.replies.read_line(&mut line).context("lb-lab client")?;
        ensure!(!line.is_empty(), "lb-lab client has ended");
        let reply: Reply = serde_json::from_str(&line).with_context(|| line.clone())?;
        match &reply.error {
            Some(error) => bail!("lb-lab client: {error}"),
            None => Ok(reply),
        }
    }

    /// Opens a socket.
    pub fn open(&mut self, family: Family, protocol: Protocol) -> Result<SocketId> {
        let id = SocketId(self.next);
        self.next += 1;
        let reply = self.call(&Request::Open { id, family, proto: protocol })?;
        ensure!(reply.ok, "socket: {}", reply.outcome());
        Ok(id)
    }

    /// Connects a socket. A socket of IPv6 takes an address of IPv4 as v4-in-v6.
    pub fn connect(&mut self, id: SocketId, to: SocketAddr) -> Result<Reply> {
        self.call(&Request::Connect { id, to, timeout_ms: timeout_ms() })
    }

    /// Opens a TCP socket of the address's family and connects it; `peer` and `local` are in the reply.
    pub fn tcp(&mut self, to: SocketAddr) -> Result<(SocketId, Reply)> {
        let id = self.open(Family::of(&to), Protocol::Tcp)?;
        Ok((id, self.connect(id, to)?))
    }

    /// Sends an HTTP request on a connected socket, which stays open.
    pub fn request(&mut self, id: SocketId, http: Http) -> Result<Reply> {
        self.call(&Request::Request { id, http, timeout_ms: timeout_ms() })
    }

    /// Sends `GET /` on a connected socket.
    pub fn get(&mut self, id: SocketId) -> Result<Reply> {
        self.request(id, Http::default())
    }

    /// Sends a datagram, to an address or where the socket is connected to, and waits for an answer.
    pub fn ask(&mut self, id: SocketId, to: Option<SocketAddr>) -> Result<Reply> {
        self.call(&Request::Ask { id, to, data: "lab".to_owned(), timeout_ms: timeout_ms() })
    }

    /// Binds a socket.
    pub fn bind(&mut self, id: SocketId, to: SocketAddr) -> Result<Reply> {
        self.call(&Request::Bind { id, to })
    }

    /// Asks for getpeername and getsockname.
    pub fn names(&mut self, id: SocketId) -> Result<Reply> {
        self.call(&Request::Names { id })
    }

    /// Closes a socket.
    pub fn close(&mut self, id: SocketId) -> Result<Reply> {
        self.call(&Request::Close { id })
    }

    /// Makes many connections, each with one question and its answer; they are in the reply's `tries`.
    pub fn dial(&mut self, dial: Dial) -> Result<Vec<Reply>> {
        Ok(self.call(&Request::Dial(dial))?.tries)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
