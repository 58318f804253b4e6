//! Nanoseconds of the connect program by the kernel's own count, net of an empty program on the same hook.
#![expect(unsafe_code, reason = "the empty program is loaded and attached by system calls")]

use std::{
    fs::File,
    io,
    net::{SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use aya::{programs::loaded_programs, sys};
use lb_tests::ground::Ground;
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

use super::{Bench, HOW};
use crate::figure::Figure;

const EACH: usize = 2000;
/// BPF_PROG_TYPE_CGROUP_SOCK_ADDR and BPF_CGROUP_INET4_CONNECT.
const SOCK_ADDR: u32 = 18;
const CONNECT4: u32 = 10;

/// The connect program's cost for a new TCP socket, with and without getpeername answered.
pub(crate) fn hooks(
    bench: &Bench,
    ground: &Ground,
    listener: &TcpListener,
    service: SocketAddrV4,
    rounds: usize,
) -> Result<Vec<Figure>> {
    let _counting = sys::enable_stats(sys::Stats::RunTime).context("count run times (5.8)")?;
    let empty = Empty::attach(ground.cgroup()).context("the empty program")?;
    let connect = bench.installed.program_id("connect4").context("connect4 is not loaded")?;
    let (mut stored, mut unstored, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (remember, values) in [(true, &mut stored), (false, &mut unstored)] {
            bench.remember(remember)?;
            let before = (cost(connect)?, cost(empty.id)?);
            connections(listener, service)?;
            let ours = mean(before.0, cost(connect)?);
            let nothing = mean(before.1, cost(empty.id)?);
            values.push(ours - nothing);
            floor.push(nothing);
        }
    }
    drop(empty);
    bench.remember(true)?;
    Ok(vec![
        Figure::of("connect.hook", "ns", stored, HOW),
        Figure::of("connect.hook.unstored", "ns", unstored, HOW),
        Figure::of("connect.hook.empty", "ns", floor, HOW),
    ])
}

fn connections(listener: &TcpListener, to: SocketAddrV4) -> Result<()> {
    for _ in 0..EACH {
        let client = TcpStream::connect(to)?;
        let server = listener.accept()?;
        setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        drop(client);
        drop(server);
    }
    Ok(())
}

type Cost = (Duration, u64);

/// Run time and count of a program.
fn cost(id: u32) -> Result<Cost> {
    // One that ends while the list is read is none of ours.
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    let program = program.with_context(|| format!("program {id} is not loaded"))?;
    Ok((program.run_time(), program.run_count()))
}

fn mean(before: Cost, after: Cost) -> f64 {
    (after.0 - before.0).as_nanos() as f64 / (after.1 - before.1) as f64
}

/// A program that returns 1, attached for as long as this lives.
struct Empty {
    id: u32,
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    fn attach(cgroup: &Path) -> io::Result<Self> {
        let name = format!("empty_{}", std::process::id());
        // r0 = 1; exit
        let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        let license = c"GPL";
        let mut load = [0u8; 72];
        load[0..4].copy_from_slice(&SOCK_ADDR.to_ne_bytes());
        load[4..8].copy_from_slice(&2u32.to_ne_bytes());
        load[8..16].copy_from_slice(&(instructions.as_ptr() as u64).to_ne_bytes());
        load[16..24].copy_from_slice(&(license.as_ptr() as u64).to_ne_bytes());
        load[48..48 + name.len()].copy_from_slice(name.as_bytes());
        load[68..72].copy_from_slice(&CONNECT4.to_ne_bytes());
        let program = bpf(5, &load)?;
        let cgroup = File::open(cgroup)?;
        let mut link = [0u8; 16];
        link[0..4].copy_from_slice(&program.as_raw_fd().to_ne_bytes());
        link[4..8].copy_from_slice(&cgroup.as_raw_fd().to_ne_bytes());
        link[8..12].copy_from_slice(&CONNECT4.to_ne_bytes());
        let id = loaded_programs().flatten().find(|program| program.name_as_str() == Some(&name));
        let id = id.ok_or(io::ErrorKind::NotFound)?.id();
        Ok(Self { id, _link: bpf(28, &link)?, _program: program })
    }
}

/// bpf(2) with the zero-padded head of its attribute.
fn bpf(command: libc::c_int, attribute: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads the attribute and what its pointers name; both outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_ptr(), attribute.len()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
