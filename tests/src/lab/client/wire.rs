//! What test and client process say to each other.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::super::{patience, server::Answer};

/// Returns how long connecting or an answer may take when a request does not say: more than one lost SYN, on this machine.
pub fn timeout_ms() -> u64 {
    2000 * u64::from(patience())
}

/// The number by which a request names a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SocketId(pub u32);

/// The family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6, which takes v4-in-v6 addresses too.
    V6,
}

impl Family {
    /// Returns the family of an address.
    pub fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The protocol of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A stream.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// An HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The Host header; the address when there is none.
    pub host: Option<String>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            headers: BTreeMap::new(),
            body: String::new(),
        }
    }
}

impl Http {
    /// Returns a request without a body.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), ..Self::default() }
    }
}

/// Many connections, or pairs of datagrams, from fresh sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// Where to.
    pub to: SocketAddr,
    /// The protocol; a UDP socket is connected.
    #[serde(default)]
    pub proto: Protocol,
    /// The source address, when the kernel is not to choose it.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// How often.
    #[serde(default = "one")]
    pub times: u32,
    /// How many at the same time.
    #[serde(default = "one")]
    pub parallel: u32,
    /// How long each may take, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// What is asked over TCP.
    #[serde(default)]
    pub http: Http,
}

impl Dial {
    /// Returns a number of connections one after another.
    pub fn new(to: SocketAddr, proto: Protocol, times: u32) -> Self {
        Self { to, proto, from: None, times, parallel: 1, timeout_ms: timeout_ms(), http: Http::default() }
    }
}

/// One line to the client process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// Opens a socket under a number that is free.
    Open {
        /// The number.
        id: SocketId,
        /// The family.
        family: Family,
        /// The protocol.
        #[serde(default)]
        proto: Protocol,
    },
    /// Binds it: bind(2), with SO_REUSEADDR as servers have it.
    Bind {
        /// The socket.
        id: SocketId,
        /// The address.
        to: SocketAddr,
    },
    /// Listens on it.
    Listen {
        /// The socket.
        id: SocketId,
    },
    /// Connects it. The reply holds `peer` and `local`.
    Connect {
        /// The socket.
        id: SocketId,
        /// The address.
        to: SocketAddr,
        /// How long it may take.
        #[serde(default = "timeout_ms")]
        timeout_ms: u64,
    },
    /// Sends an HTTP request and reads the response: `status`, `body`, `answer`. The connection stays open.
    Request {
        /// The socket.
        id: SocketId,
        /// The request.
        #[serde(flatten)]
        http: Http,
        /// How long it may take.
        #[serde(default = "timeout_ms")]
        timeout_ms: u64,
    },
    /// Sends data, by sendto(2) when an address is given.
    Send {
        /// The socket.
        id: SocketId,
        /// The address, for a socket that is not connected or to override.
        #[serde(default)]
        to: Option<SocketAddr>,
        /// The data.
        data: String,
    },
    /// Receives data by recvfrom(2): `data`, `from`, and `answer` when it is one.
    Recv {
        /// The socket.
        id: SocketId,
        /// How long it may take.
        #[serde(default = "timeout_ms")]
        timeout_ms: u64,
    },
    /// Sends and receives.
    Ask {
        /// The socket.
        id: SocketId,
        /// The address, for a socket that is not connected or to override.
        #[serde(default)]
        to: Option<SocketAddr>,
        /// The data.
        #[serde(default)]
        data: String,
        /// How long it may take.
        #[serde(default = "timeout_ms")]
        timeout_ms: u64,
    },
    /// Asks for `peer` and `local`: getpeername(2) and getsockname(2).
    Names {
        /// The socket.
        id: SocketId,
    },
    /// Closes it.
    Close {
        /// The socket.
        id: SocketId,
    },
    /// Lists the open sockets in `sockets`.
    List,
    /// Uses a connected socket again and again, in the background: HTTP requests over TCP, questions over UDP.
    Hold {
        /// The socket; nothing else may be asked of it until it is released.
        id: SocketId,
        /// The time between two uses.
        every_ms: u64,
        /// How long an answer may take.
        #[serde(default = "timeout_ms")]
        timeout_ms: u64,
        /// What is asked over TCP.
        #[serde(default)]
        http: Http,
    },
    /// Says how a held socket fares: `uses`, `ms` (the longest wait), `ok`, or how it failed, and the last `answer`.
    Held {
        /// The socket.
        id: SocketId,
    },
    /// Ends holding a socket, which stays open; the reply is that of `held`.
    Release {
        /// The socket.
        id: SocketId,
    },
    /// Makes many connections; each one's reply is in `tries`.
    Dial(Dial),
    /// Does nothing for a while.
    Sleep {
        /// How long.
        ms: u64,
    },
}

/// One line from the client process; what does not apply is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// Whether it was done.
    pub ok: bool,
    /// Why not: the name of an errno, `TIMEOUT` for the request's own patience, `EOF` for a connection closed by the other side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// A request without sense, such as a socket that is not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// What getpeername says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// What getsockname says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// Whom recvfrom says it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<SocketAddr>,
    /// The status of an HTTP response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The body of an HTTP response, or a datagram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Who answered, when it was a lab's server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// How often a held socket was used with success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// What each connection of `dial` came to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Reply>,
    /// The numbers of the open sockets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketId>,
}

impl Reply {
    /// Returns `ok` or why not, in a word.
    pub fn outcome(&self) -> &str {
        match &self.errno {
            Some(errno) => errno,
            None if self.ok => "ok",
            None => "failed",
        }
    }

    /// Returns the name of the pod that answered.
    pub fn pod(&self) -> Option<&str> {
        self.answer.as_ref().map(|answer| answer.name.as_str())
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_documented() {
        for (line, want) in [
            (
                r#"{"op":"open","id":1,"family":"v6","proto":"udp"}"#,
                Request::Open { id: SocketId(1), family: Family::V6, proto: Protocol::Udp },
            ),
            (
                r#"{"op":"connect","id":1,"to":"[::ffff:10.96.0.1]:80","timeout_ms":1000}"#,
                Request::Connect {
                    id: SocketId(1),
                    to: "[::ffff:10.96.0.1]:80".parse().expect("is an address"),
                    timeout_ms: 1000,
                },
            ),
            (
                r#"{"op":"request","id":1,"method":"POST","path":"/a"}"#,
                Request::Request { id: SocketId(1), http: Http::new("POST", "/a"), timeout_ms: timeout_ms() },
            ),
            (
                r#"{"op":"dial","to":"10.96.0.1:80","times":3}"#,
                Request::Dial(Dial::new("10.96.0.1:80".parse().expect("is an address"), Protocol::Tcp, 3)),
            ),
        ] {
            let request: Request = serde_json::from_str(line).expect(line);
            assert_eq!(request, want, "{line}");
            let again = serde_json::to_string(&request).expect("is JSON");
            assert_eq!(serde_json::from_str::<Request>(&again).expect("is a request"), want, "{again}");
        }
    }
}
