//! connect() alone, and connect, request and close as one.

use std::{
    io::{Read, Write},
    net::{SocketAddrV4, TcpListener, TcpStream},
    time::Instant,
};

use anyhow::{Context, Result};
use lb_tests::ground::Ground;
use nix::sys::socket::{setsockopt, sockopt};

use super::HOW;
use crate::figure::{Figure, median};

/// What is dialled.
pub(crate) struct Ends<'a> {
    /// Accepts for every backend.
    pub(crate) listener: &'a TcpListener,
    /// A backend's own address.
    pub(crate) direct: SocketAddrV4,
    /// The address of its service.
    pub(crate) service: SocketAddrV4,
}

/// Connections of one variant in one round.
const EACH: usize = 400;

/// The ratios of connections through a service to direct ones without programs, one value a round.
pub(crate) fn ratios(ground: &Ground, ends: &Ends<'_>, services: u32, rounds: usize) -> Result<Vec<Figure>> {
    let (mut connect, mut crr, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        ground.go_out()?;
        let direct = tcp(ends.listener, ends.direct)?;
        ground.go_in()?;
        let service = tcp(ends.listener, ends.service)?;
        let passed = tcp(ends.listener, ends.direct)?;
        connect.push(service.connect / direct.connect);
        crr.push(service.whole / direct.whole);
        beside.push(passed.connect / direct.connect);
    }
    Ok(vec![
        Figure::of(format!("connect.ratio@{services}"), "ratio", connect, HOW),
        Figure::of(format!("connect.ratio.passed@{services}"), "ratio", beside, HOW),
        Figure::of(format!("crr.ratio@{services}"), "ratio", crr, HOW),
    ])
}

struct Times {
    connect: f64,
    whole: f64,
}

/// Medians over [`EACH`] connections, in nanoseconds.
fn tcp(listener: &TcpListener, to: SocketAddrV4) -> Result<Times> {
    let (mut connects, mut wholes) = (Vec::with_capacity(EACH), Vec::with_capacity(EACH));
    let mut byte = [0];
    for _ in 0..EACH {
        let started = Instant::now();
        let mut client = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        let connected = started.elapsed();
        let (mut server, _) = listener.accept()?;
        client.write_all(b"?")?;
        server.read_exact(&mut byte)?;
        server.write_all(b"!")?;
        client.read_exact(&mut byte)?;
        reset(&client)?;
        drop(client);
        let whole = started.elapsed();
        drop(server);
        connects.push(connected.as_nanos() as f64);
        wholes.push(whole.as_nanos() as f64);
    }
    Ok(Times { connect: median(connects), whole: median(wholes) })
}

/// Closing sends RST: the port is free at once.
fn reset(client: &TcpStream) -> Result<()> {
    Ok(setsockopt(client, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?)
}
