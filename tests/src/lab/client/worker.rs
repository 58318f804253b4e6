//! The side of the client process: reads requests, does them, replies.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    sockets::{Failure, Socket, with_names},
    wire::{Dial, Family, Http, Protocol, Reply, Request, SocketId},
};

/// Does what the lines of `requests` ask for until they end.
pub fn work(requests: impl BufRead, mut replies: impl Write) -> Result<()> {
    let mut worker = Worker::default();
    for line in requests.lines() {
        let line = line.context("requests")?;
        if line.trim().is_empty() {
            continue;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(request) => worker.answer(request),
            Err(error) => senseless(format!("{error}: {line}")),
        };
        let mut line = serde_json::to_string(&reply)?;
        line.push('\n');
        replies.write_all(line.as_bytes()).and_then(|()| replies.flush()).context("replies")?;
    }
    Ok(())
}

#[derive(Default)]
struct Worker {
    sockets: BTreeMap<SocketId, Entry>,
}

enum Entry {
    Open(Socket),
    Held(Hold),
}

impl Worker {
    fn answer(&mut self, request: Request) -> Reply {
        let start = Instant::now();
        let mut reply = match self.perform(request, start) {
            Ok(Ok(reply)) => Reply { ok: reply.errno.is_none(), ..reply },
            Ok(Err(failure)) => failed(failure),
            Err(message) => senseless(message),
        };
        if reply.uses.is_none() {
            reply.ms = milliseconds(start.elapsed());
        }
        reply
    }

    /// The outer error is a request without sense, the inner one what the kernel or the network made of it.
    fn perform(&mut self, request: Request, start: Instant) -> Result<Result<Reply, Failure>, String> {
        let by = |timeout_ms: u64| start + Duration::from_millis(timeout_ms);
        let done = |result: Result<(), Failure>| result.map(|()| Reply::default());
        Ok(match request {
            Request::Open { id, family, proto } => {
                if self.sockets.contains_key(&id) {
                    return Err(format!("socket {} is open already", id.0));
                }
                Socket::open(family, proto).map(|socket| {
                    self.sockets.insert(id, Entry::Open(socket));
                    Reply::default()
                })
            }
            Request::Bind { id, to } => {
                let socket = self.socket(id)?;
                socket.bind(to).map(|()| with_names(Reply::default(), socket))
            }
            Request::Listen { id } => done(self.socket(id)?.listen()),
            Request::Connect { id, to, timeout_ms } => {
                let socket = self.socket(id)?;
                socket.connect(to, by(timeout_ms)).map(|()| with_names(Reply::default(), socket))
            }
            Request::Request { id, http, timeout_ms } => {
                let deadline = by(timeout_ms);
                self.socket(id)?.exchange(&http, deadline).map(Reply::from)
            }
            Request::Send { id, to, data } => done(self.socket(id)?.send(data.as_bytes(), to, by(super::timeout_ms()))),
            Request::Recv { id, timeout_ms } => receive(self.socket(id)?, by(timeout_ms)),
            Request::Ask { id, to, data, timeout_ms } => ask(self.socket(id)?, to, &data, by(timeout_ms)),
            Request::Names { id } => Ok(with_names(Reply::default(), self.socket(id)?)),
            Request::Close { id } => match self.sockets.remove(&id) {
                Some(_) => Ok(Reply::default()),
                None => return Err(format!("socket {} is not open", id.0)),
            },
            Request::List => Ok(Reply { sockets: self.sockets.keys().copied().collect(), ..Reply::default() }),
            Request::Hold { id, every_ms, timeout_ms, http } => {
                self.socket(id)?;
                let Some(Entry::Open(socket)) = self.sockets.remove(&id) else { unreachable!("was looked at before") };
                let (every, timeout) = (Duration::from_millis(every_ms), Duration::from_millis(timeout_ms));
                self.sockets.insert(id, Entry::Held(Hold::start(socket, every, timeout, http)));
                Ok(Reply::default())
            }
            Request::Held { id } => match self.sockets.get(&id) {
                Some(Entry::Held(hold)) => Ok(hold.report()),
                Some(Entry::Open(_)) | None => return Err(format!("socket {} is not held", id.0)),
            },
            Request::Release { id } => match self.sockets.remove(&id) {
                Some(Entry::Held(hold)) => {
                    let (socket, report) = hold.release();
                    self.sockets.insert(id, Entry::Open(socket));
                    Ok(report)
                }
                Some(entry @ Entry::Open(_)) => {
                    self.sockets.insert(id, entry);
                    return Err(format!("socket {} is not held", id.0));
                }
                None => return Err(format!("socket {} is not open", id.0)),
            },
            Request::Dial(dial) => Ok(Reply { tries: self::dial(&dial), ..Reply::default() }),
            Request::Sleep { ms } => {
                thread::sleep(Duration::from_millis(ms));
                Ok(Reply::default())
            }
        })
    }

    fn socket(&mut self, id: SocketId) -> Result<&mut Socket, String> {
        match self.sockets.get_mut(&id) {
            Some(Entry::Open(socket)) => Ok(socket),
            Some(Entry::Held(_)) => Err(format!("socket {} is held", id.0)),
            None => Err(format!("socket {} is not open", id.0)),
        }
    }
}

/// A socket in use by a thread of its own.
struct Hold {
    stop: Sender<()>,
    report: Arc<Mutex<Reply>>,
    thread: JoinHandle<Socket>,
}

impl Hold {
    fn start(mut socket: Socket, every: Duration, timeout: Duration, http: Http) -> Self {
        let (stop, stopped) = channel();
        let report = Arc::new(Mutex::new(Reply { ok: true, uses: Some(0), ..Reply::default() }));
        let shared = report.clone();
        let thread = thread::spawn(move || {
            loop {
                let start = Instant::now();
                let used = use_once(&mut socket, &http, start + timeout);
                let took = milliseconds(start.elapsed());
                let mut report = shared.lock().expect("no holder of the report panics");
                report.ms = report.ms.max(took);
                match used {
                    Ok(reply) => {
                        report.uses = report.uses.map(|uses| uses + 1);
                        (report.answer, report.status) = (reply.answer, reply.status);
                    }
                    Err(failure) => {
                        report.ok = false;
                        report.errno = Some(failure.name());
                        return socket;
                    }
                }
                drop(report);
                match stopped.recv_timeout(every) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return socket,
                }
            }
        });
        Self { stop, report, thread }
    }

    fn report(&self) -> Reply {
        self.report.lock().expect("no holder of the report panics").clone()
    }

    fn release(self) -> (Socket, Reply) {
        // The thread may have ended by itself, at a failure.
        let _ = self.stop.send(());
        let socket = self.thread.join().expect("the thread of a held socket does not panic");
        let report = self.report.lock().expect("no holder of the report panics").clone();
        (socket, report)
    }
}

/// Makes many connections from where this process runs; each one's reply is what became of it.
pub fn dial(dial: &Dial) -> Vec<Reply> {
    let next = AtomicU32::new(0);
    let tries = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..dial.parallel.clamp(1, 256).min(dial.times) {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < dial.times {
                    let reply = dial_once(dial);
                    tries.lock().expect("no holder of the list panics").push(reply);
                }
            });
        }
    });
    tries.into_inner().expect("no holder of the list panics")
}

/// Keeps one connection in use from where this process runs, for a while or until it fails.
pub fn hold(dial: &Dial, every: Duration, time: Duration) -> Reply {
    let (timeout, deadline) = (Duration::from_millis(dial.timeout_ms), Instant::now() + time);
    let socket = Socket::open(Family::of(&dial.to), dial.proto).and_then(|socket| {
        socket.connect(dial.to, Instant::now() + timeout)?;
        Ok(socket)
    });
    let hold = match socket {
        Ok(socket) => Hold::start(socket, every, timeout, dial.http.clone()),
        Err(failure) => return failed(failure),
    };
    while hold.report().ok && Instant::now() < deadline {
        thread::sleep(every.min(Duration::from_millis(20)));
    }
    hold.release().1
}

fn dial_once(dial: &Dial) -> Reply {
    let start = Instant::now();
    let deadline = start + Duration::from_millis(dial.timeout_ms);
    let attempt = || -> Result<Reply, Failure> {
        let mut socket = Socket::open(Family::of(&dial.to), dial.proto)?;
        if let Some(from) = dial.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(dial.to, deadline)?;
        let (peer, local) = socket.names();
        let reply = use_once(&mut socket, &dial.http, deadline)?;
        Ok(Reply { ok: true, peer: peer.ok(), local: local.ok(), ..reply })
    };
    let reply = attempt().unwrap_or_else(failed);
    Reply { ms: milliseconds(start.elapsed()), ..reply }
}

fn use_once(socket: &mut Socket, http: &Http, deadline: Instant) -> Result<Reply, Failure> {
    match socket.protocol {
        Protocol::Tcp => socket.exchange(http, deadline).map(Reply::from),
        Protocol::Udp => ask(socket, None, "lab", deadline),
    }
}

fn ask(socket: &Socket, to: Option<SocketAddr>, data: &str, deadline: Instant) -> Result<Reply, Failure> {
    socket.send(data.as_bytes(), to, deadline)?;
    receive(socket, deadline)
}

fn receive(socket: &Socket, deadline: Instant) -> Result<Reply, Failure> {
    let (data, from) = socket.receive(deadline)?;
    let data = String::from_utf8(data).map_err(|_| Failure::Garbled)?;
    Ok(Reply { from, answer: serde_json::from_str(&data).ok(), data: Some(data), ..Reply::default() })
}

fn failed(failure: Failure) -> Reply {
    Reply { errno: Some(failure.name()), ..Reply::default() }
}

fn senseless(message: String) -> Reply {
    Reply { error: Some(message), ..Reply::default() }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
