//! HTTP/1.1, as much of it as a well-behaved client needs.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use super::{ANSWER_HEADER, Service};

const LONGEST_LINE: u64 = 16 * 1024;
const LARGEST_BODY: u64 = 16 * 1024 * 1024;

/// Accepts connections for ever, a thread for each.
pub(super) fn serve(listener: &TcpListener, service: &Arc<Service>) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
            Err(error) => return Err(error),
        };
        let service = service.clone();
        let thread = thread::Builder::new().stack_size(128 * 1024);
        // A connection that ends in the middle is the other side's matter.
        thread.spawn(move || drop(converse(&stream, &service)))?;
    }
}

fn converse(stream: &TcpStream, service: &Service) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (address, source) = (stream.local_addr()?, stream.peer_addr()?);
    let mut reader = BufReader::new(stream);
    loop {
        let request = match Request::read(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(Bad::Connection(error)) => return Err(error),
            Err(Bad::Request(status)) => {
                service.log(address, source, &format!("protocol=TCP status={status}"));
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return (&mut &*stream).write_all(head.as_bytes());
            }
        };
        let key = format!("{} {}", request.method, request.path());
        let (kind, body) = match service.answers.get(&key) {
            Some(body) => ("text/plain", body.clone()),
            None => ("application/json", service.answer(address, source)),
        };
        service.log(
            address,
            source,
            &format!("protocol=TCP method={} path={} status=200", request.method, request.target),
        );
        let connection = if request.close { "close" } else { "keep-alive" };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\
             {ANSWER_HEADER}: {}\r\n\r\n",
            service.answer(address, source).trim_end()
        );
        let shown = if request.method == "HEAD" { "" } else { body.as_str() };
        (&mut &*stream).write_all(format!("{head}{shown}").as_bytes())?;
        if request.close {
            return Ok(());
        }
    }
}

struct Request {
    method: String,
    target: String,
    close: bool,
}

/// Why a request was not read.
#[derive(Debug)]
enum Bad {
    Connection(io::Error),
    Request(&'static str),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl Request {
    /// Reads one request and its body; none when the other side closed the connection between two.
    fn read(reader: &mut impl BufRead) -> Result<Option<Self>, Bad> {
        let Some(first) = read_line(reader)? else { return Ok(None) };
        let words: Vec<&str> = first.split(' ').collect();
        let &[method, target, version] = words.as_slice() else { return Err(Bad::Request("400 Bad Request")) };
        let mut close = match version {
            "HTTP/1.1" => false,
            "HTTP/1.0" => true,
            _ => return Err(Bad::Request("505 HTTP Version Not Supported")),
        };
        let mut length = 0;
        loop {
            let line = read_line(reader)?.ok_or(Bad::Request("400 Bad Request"))?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(Bad::Request("400 Bad Request"))?;
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("content-length", value) => length = value.parse().map_err(|_| Bad::Request("400 Bad Request"))?,
                ("transfer-encoding", _) => return Err(Bad::Request("411 Length Required")),
                ("connection", value) if value.eq_ignore_ascii_case("close") => close = true,
                ("connection", value) if value.eq_ignore_ascii_case("keep-alive") => close = false,
                _ => {}
            }
        }
        if length > LARGEST_BODY {
            return Err(Bad::Request("413 Content Too Large"));
        }
        if io::copy(&mut reader.take(length), &mut io::sink())? < length {
            return Err(Bad::Connection(ErrorKind::UnexpectedEof.into()));
        }
        Ok(Some(Self { method: method.to_owned(), target: target.to_owned(), close }))
    }

    /// Returns the target without its query.
    fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }
}

/// Reads a line without its end; none at the end of the stream.
fn read_line(reader: &mut impl BufRead) -> Result<Option<String>, Bad> {
    let mut line = Vec::new();
    reader.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(Bad::Request("400 Bad Request"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| Bad::Request("400 Bad Request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_requests() {
        for (name, text, want) in [
            ("get", "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", Ok(Some(("GET", "/a", false)))),
            ("body", "POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", Ok(Some(("POST", "/a", false)))),
            ("close", "GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", Ok(Some(("GET", "/", true)))),
            ("old", "GET / HTTP/1.0\r\n\r\n", Ok(Some(("GET", "/", true)))),
            ("end", "", Ok(None)),
            ("noise", "hello\r\n\r\n", Err("400 Bad Request")),
            ("chunks", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Err("411 Length Required")),
            ("half a head", "GET / HTTP/1.1\r\nHost", Err("400 Bad Request")),
            ("half a body", "PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", Err("connection")),
        ] {
            let got = match Request::read(&mut text.as_bytes()) {
                Ok(request) => Ok(request.map(|r| (r.method.clone(), r.path().to_owned(), r.close))),
                Err(Bad::Request(status)) => Err(status),
                Err(Bad::Connection(_)) => Err("connection"),
            };
            let want = want.map(|w| w.map(|(method, path, close)| (method.to_owned(), path.to_owned(), close)));
            assert_eq!(got, want, "{name}");
        }
    }
}
