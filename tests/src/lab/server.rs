//! The server in each pod: it says who answers, on which of its addresses, and whom it saw asking.
//!
//! On a TCP port it speaks HTTP/1.1 with connections that stay open as long as the other side wants, on a UDP port it answers
//! each datagram from the address to which it came. The answer is one JSON line, see [`Answer`], unless the pod has a fixed
//! one for that method and path. Each request leaves a line in the log.

mod http;
mod udp;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt::{Ipv6V6Only, ReuseAddr},
};
use serde::{Deserialize, Serialize};

use super::{
    agent::{last_lines, start_at},
    binaries,
    place::Place,
    process::Process,
    topology::{Pod, Port},
};

/// The header of every HTTP response that holds the [`Answer`], for those whose body is another.
pub const ANSWER_HEADER: &str = "Lab-Answer";

/// What a server answers, as one JSON line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Answer {
    /// The pod, `NS/POD`.
    pub name: String,
    /// The server's own address, as its socket saw it.
    pub address: SocketAddr,
    /// The address that the server saw asking.
    pub source: SocketAddr,
}

/// What a server is told when it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    name: String,
    log: PathBuf,
    ports: Vec<Port>,
    answers: BTreeMap<String, String>,
}

impl Spec {
    /// Returns what a pod's server is told.
    pub fn of(pod: &Pod, log: PathBuf) -> Self {
        Self { name: pod.full_name(), log, ports: pod.ports.clone(), answers: pod.answers.clone() }
    }
}

/// A server that was started and may not listen yet.
#[derive(Debug)]
pub struct Starting {
    name: String,
    log: PathBuf,
    child: Child,
    process: Process,
}

impl Starting {
    /// Starts a server at its pod's place.
    pub fn spawn(spec: &Spec, place: &Place) -> Result<Self> {
        let log = open_log(&spec.log)?;
        let mut command = Command::new(binaries::find("lb-lab")?);
        command.arg("serve").arg(serde_json::to_string(spec)?);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let started = start_at(place, &mut command);
        let (process, child) = started.with_context(|| format!("server of Pod {}", spec.name))?;
        Ok(Self { name: spec.name.clone(), log: spec.log.clone(), child, process })
    }

    /// Waits until the server listens on every port.
    pub fn wait(mut self) -> Result<(Process, Child)> {
        let mut word = String::new();
        let mut stdout = self.child.stdout.take().expect("standard output is a pipe");
        stdout.read_to_string(&mut word).with_context(|| format!("server of Pod {}", self.name))?;
        if word != "ready" {
            let _ = self.child.wait();
            let words = last_lines(&self.log, 1);
            bail!("server of Pod {}: {}", self.name, words.trim_start_matches("lab: "));
        }
        Ok((self.process, self.child))
    }
}

/// Is the server: listens, says `ready` on standard output, closes that, and answers until it is killed.
pub fn serve(spec: Spec) -> Result<()> {
    let service = Arc::new(Service { log: open_log(&spec.log)?, name: spec.name, answers: spec.answers });
    let mut threads = Vec::new();
    for port in spec.ports {
        for address in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let address = SocketAddr::new(address, port.number);
            let service = service.clone();
            let context = || format!("{} port {address}", if port.udp { "UDP" } else { "TCP" });
            if port.udp {
                let socket = udp_socket(address).with_context(context)?;
                threads.push(thread::spawn(move || udp::serve(&socket, &service)));
            } else {
                let listener = tcp_listener(address).with_context(context)?;
                threads.push(thread::spawn(move || http::serve(&listener, &service)));
            }
        }
    }
    print!("ready");
    io::stdout().flush().context("standard output")?;
    let null = File::options().write(true).open("/dev/null").context("/dev/null")?;
    nix::unistd::dup2_stdout(&null).context("standard output")?;
    for thread in threads {
        thread.join().expect("a port's thread does not panic").context("a port is lost")?;
    }
    Ok(())
}

/// What all ports of a server share.
#[derive(Debug)]
struct Service {
    name: String,
    answers: BTreeMap<String, String>,
    log: File,
}

impl Service {
    fn answer(&self, address: SocketAddr, source: SocketAddr) -> String {
        let answer = Answer { name: self.name.clone(), address: canonical(address), source: canonical(source) };
        let mut line = serde_json::to_string(&answer).expect("names and addresses are JSON");
        line.push('\n');
        line
    }

    /// Writes one line in one write, so that the lines of several threads do not mix.
    fn log(&self, address: SocketAddr, source: SocketAddr, what: &str) {
        let line = format!("name={} source={} address={} {what}\n", self.name, canonical(source), canonical(address));
        // A full disk is no reason to stop answering.
        let _ = (&self.log).write_all(line.as_bytes());
    }
}

/// Returns an IPv4 address that a socket of IPv6 shows as v4-in-v6 as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn open_log(path: &PathBuf) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| path.display().to_string())
}

fn tcp_listener(address: SocketAddr) -> nix::Result<TcpListener> {
    let fd = bound_socket(address, SockType::Stream)?;
    listen(&fd, Backlog::MAXCONN)?;
    Ok(fd.into())
}

fn udp_socket(address: SocketAddr) -> nix::Result<UdpSocket> {
    bound_socket(address, SockType::Datagram).map(Into::into)
}

/// Makes a socket of one family only, so that each family has one and none hides the other's failure.
fn bound_socket(address: SocketAddr, kind: SockType) -> nix::Result<std::os::fd::OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if kind == SockType::Stream {
        setsockopt(&fd, ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    Ok(fd)
}

/// Returns an address of IPv6 with port and no scope.
fn v6(address: Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(address, port, 0, 0))
}
