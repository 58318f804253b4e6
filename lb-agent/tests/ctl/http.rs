//! HTTP by hand: what is on the wire, byte for byte.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

pub(crate) fn over_unix(socket: &Path, method: &str, path: &str) -> Reply {
    exchange(UnixStream::connect(socket).unwrap(), method, path)
}

pub(crate) fn over_tcp(address: SocketAddr, method: &str, path: &str) -> Reply {
    exchange(TcpStream::connect(address).unwrap(), method, path)
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str) -> Reply {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let code = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Reply { code, headers, body: body.to_owned() }
}
