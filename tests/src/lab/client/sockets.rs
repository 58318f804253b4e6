//! Sockets that report what the kernel says of them: the errno's name, both ends' names, and how long it took.

use std::{
    fmt::Write,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, getpeername, getsockname,
        getsockopt, listen, recvfrom, send, sendto, setsockopt, socket,
        sockopt::{Ipv6V6Only, ReuseAddr, SocketError},
    },
};

use super::{
    super::server::{ANSWER_HEADER, Answer},
    wire::{Family, Http, Protocol, Reply},
};

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The kernel said so.
    Errno(Errno),
    /// It took longer than the request allows.
    Timeout,
    /// The other side closed the connection.
    Eof,
    /// The response is none that HTTP/1.1 knows.
    Garbled,
}

impl Failure {
    /// Returns the failure as a reply has it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Errno(errno) => format!("{errno:?}"),
            Self::Timeout => "TIMEOUT".to_owned(),
            Self::Eof => "EOF".to_owned(),
            Self::Garbled => "GARBLED".to_owned(),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(super) struct Response {
    status: u16,
    answer: Option<Answer>,
    body: String,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self { status: Some(response.status), answer: response.answer, data: Some(response.body), ..Self::default() }
    }
}

/// An open socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    family: Family,
    pub(super) protocol: Protocol,
    /// What was received behind the end of the last HTTP response.
    rest: Vec<u8>,
}

impl Socket {
    /// Opens a socket; one of IPv6 takes IPv4 too.
    pub(super) fn open(family: Family, protocol: Protocol) -> Result<Self, Failure> {
        let domain = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let kind = match protocol {
            Protocol::Tcp => SockType::Stream,
            Protocol::Udp => SockType::Datagram,
        };
        let fd = socket(domain, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        if family == Family::V6 {
            setsockopt(&fd, Ipv6V6Only, &false)?;
        }
        Ok(Self { fd, family, protocol, rest: Vec::new() })
    }

    /// Binds; a TCP socket as servers have it, with SO_REUSEADDR.
    pub(super) fn bind(&self, to: SocketAddr) -> Result<(), Failure> {
        if self.protocol == Protocol::Tcp {
            setsockopt(&self.fd, ReuseAddr, &true)?;
        }
        Ok(bind(self.raw(), &self.address(to))?)
    }

    pub(super) fn listen(&self) -> Result<(), Failure> {
        Ok(listen(&self.fd, Backlog::MAXCONN)?)
    }

    pub(super) fn connect(&self, to: SocketAddr, deadline: Instant) -> Result<(), Failure> {
        match connect(self.raw(), &self.address(to)) {
            Ok(()) => return Ok(()),
            Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.wait(PollFlags::POLLOUT, deadline)?;
        match getsockopt(&self.fd, SocketError)? {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno).into()),
        }
    }

    pub(super) fn send(&self, data: &[u8], to: Option<SocketAddr>, deadline: Instant) -> Result<(), Failure> {
        let mut rest = data;
        loop {
            let sent = match to {
                Some(to) => sendto(self.raw(), rest, &self.address(to), MsgFlags::MSG_NOSIGNAL),
                None => send(self.raw(), rest, MsgFlags::MSG_NOSIGNAL),
            };
            match sent {
                Ok(count) if count == rest.len() || self.protocol == Protocol::Udp => return Ok(()),
                Ok(count) => rest = &rest[count..],
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT, deadline)?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives what is there, at most 64 KiB, and from whom.
    pub(super) fn receive(&self, deadline: Instant) -> Result<(Vec<u8>, Option<SocketAddr>), Failure> {
        let mut buffer = vec![0; 65536];
        loop {
            match recvfrom::<SockaddrStorage>(self.raw(), &mut buffer) {
                Ok((0, _)) if self.protocol == Protocol::Tcp => return Err(Failure::Eof),
                Ok((count, from)) => {
                    buffer.truncate(count);
                    return Ok((buffer, from.as_ref().and_then(standard)));
                }
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN, deadline)?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Returns what getpeername and getsockname say.
    pub(super) fn names(&self) -> (Result<SocketAddr, Errno>, Result<SocketAddr, Errno>) {
        let known = |name: SockaddrStorage| standard(&name).ok_or(Errno::EAFNOSUPPORT);
        (getpeername(self.raw()).and_then(known), getsockname(self.raw()).and_then(known))
    }

    /// Sends an HTTP request and reads its response.
    pub(super) fn exchange(&mut self, http: &Http, deadline: Instant) -> Result<Response, Failure> {
        let host = match (&http.host, self.names().0) {
            (Some(host), _) => host.clone(),
            (None, Ok(peer)) => peer.to_string(),
            (None, Err(errno)) => return Err(errno.into()),
        };
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", http.method, http.path);
        for (name, value) in &http.headers {
            write!(head, "{name}: {value}\r\n").expect("writing to a string cannot fail");
        }
        if !http.body.is_empty() || http.method == "POST" || http.method == "PUT" {
            write!(head, "Content-Length: {}\r\n", http.body.len()).expect("writing to a string cannot fail");
        }
        self.send(format!("{head}\r\n{}", http.body).as_bytes(), None, deadline)?;
        self.read_response(http.method == "HEAD", deadline)
    }

    fn read_response(&mut self, head_only: bool, deadline: Instant) -> Result<Response, Failure> {
        let end = loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            let (more, _) = self.receive(deadline)?;
            self.rest.extend(more);
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(Failure::Garbled)?;
        let field = |wanted: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
        };
        let length = field("content-length").map(str::parse::<usize>).transpose().map_err(|_| Failure::Garbled)?;
        let answer = field(ANSWER_HEADER).and_then(|text| serde_json::from_str(text).ok());
        self.rest.drain(..end + 4);
        let length = if head_only { Some(0) } else { length };
        while length.is_none_or(|length| self.rest.len() < length) {
            match self.receive(deadline) {
                Ok((more, _)) => self.rest.extend(more),
                // A body without a length ends with the connection.
                Err(Failure::Eof) if length.is_none() => break,
                Err(failure) => return Err(failure),
            }
        }
        let body = self.rest.drain(..length.unwrap_or(self.rest.len())).collect();
        Ok(Response { status, answer, body: String::from_utf8(body).map_err(|_| Failure::Garbled)? })
    }

    fn wait(&self, events: PollFlags, deadline: Instant) -> Result<(), Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, or the last millisecond would be spent turning.
            let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.fd.as_fd(), events)], timeout) {
                Ok(0) if Instant::now() >= deadline => return Err(Failure::Timeout),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Returns the address as this socket takes it: v4-in-v6 for one of IPv6.
    fn address(&self, to: SocketAddr) -> SockaddrStorage {
        match (self.family, to) {
            (Family::V6, SocketAddr::V4(v4)) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())).into(),
            (Family::V4 | Family::V6, _) => to.into(),
        }
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Adds a socket's names to a reply.
pub(super) fn with_names(mut reply: Reply, socket: &Socket) -> Reply {
    let (peer, local) = socket.names();
    (reply.peer, reply.local) = (peer.ok(), local.ok());
    reply
}

fn standard(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}
