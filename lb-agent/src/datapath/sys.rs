//! The bpf(2) calls on links and programs that aya does not have, and the other raw system calls of the datapath.
#![expect(unsafe_code, reason = "system calls")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::maps::raw::{bpf, bpf_fd, info};

const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const MEMBARRIER_CMD_QUERY: libc::c_long = 0;
const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
/// From include/uapi/asm-generic/socket.h, 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// The head of `struct bpf_link_info` of a cgroup link.
#[derive(Clone, Copy, Debug, Default, IntoBytes, FromBytes, Immutable)]
#[repr(C)]
pub(crate) struct LinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) program: u32,
    _padding: u32,
    /// The cgroup's id; 0 once the cgroup is gone.
    pub(crate) cgroup: u64,
    pub(crate) attach_type: u32,
    _padding2: u32,
}

/// Attaches a program to a cgroup.
pub(crate) fn link_create(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let attribute =
        LinkCreate { program: program.as_raw_fd() as u32, target: cgroup.as_raw_fd() as u32, attach_type, flags: 0 };
    bpf_fd(LINK_CREATE, &attribute)
}

/// Puts another program behind a link, atomically: each call runs the old one or the new one.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attribute =
        LinkUpdate { link: link.as_raw_fd() as u32, program: program.as_raw_fd() as u32, flags: 0, old_program: 0 };
    bpf(LINK_UPDATE, &attribute).map(|_| ())
}

/// Reads what a link is attached to.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut found = LinkInfo::default();
    info(link, &mut found)?;
    Ok(found)
}

/// Waits until no program that ran before the call runs any more (membarrier, a full RCU grace period). False where
/// the kernel refuses (nohz_full).
pub(crate) fn wait_for_programs() -> bool {
    can_wait_for_programs() && membarrier(MEMBARRIER_CMD_GLOBAL) == 0
}

/// True if [`wait_for_programs`] can wait.
pub(crate) fn can_wait_for_programs() -> bool {
    let commands = membarrier(MEMBARRIER_CMD_QUERY);
    commands > 0 && commands & MEMBARRIER_CMD_GLOBAL != 0
}

fn membarrier(command: libc::c_long) -> libc::c_long {
    // SAFETY: a system call without memory arguments.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
}

/// Reads the cookie of the calling thread's network namespace. `None` below 5.14.
pub(crate) fn netns_cookie() -> io::Result<Option<u64>> {
    match option(&datagram_socket(libc::AF_INET)?, SO_NETNS_COOKIE) {
        Ok(cookie) => Ok(Some(cookie)),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a UDP socket in the calling thread's network namespace.
pub(crate) fn datagram_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a system call without memory arguments; the descriptor is ours.
    socket(family, libc::SOCK_DGRAM, 0)
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a system call without memory arguments.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads a u64 socket option.
pub(crate) fn socket_cookie(socket: &OwnedFd) -> io::Result<u64> {
    option(socket, libc::SO_COOKIE)
}

fn option(socket: &OwnedFd, name: libc::c_int) -> io::Result<u64> {
    let mut value = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Sends one netlink request and collects the payloads of the answers, each behind its 16-byte header. The kernel's
/// acknowledgement ends a request with NLM_F_ACK, its end message a dump.
pub(crate) fn netlink(protocol: libc::c_int, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    const HEADER: usize = 16;
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
    let mut request = Vec::with_capacity(HEADER + payload.len());
    request.extend_from_slice(&((HEADER + payload.len()) as u32).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(payload);
    // SAFETY: the buffer is alive and as long as said.
    if unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answers = Vec::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        // SAFETY: the buffer is alive and as long as said.
        let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut rest = &buffer[..length as usize];
        while let Some((head, _)) = rest.split_first_chunk::<HEADER>() {
            let size = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some(message) = rest.get(HEADER..size) else { break };
            match u16::from_ne_bytes([head[4], head[5]]) {
                NLMSG_DONE => return Ok(answers),
                NLMSG_ERROR => {
                    let code = message.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 { Ok(answers) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => answers.push(message.to_vec()),
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        // An answer that is neither a dump nor acknowledged is the only one.
        if flags & (libc::NLM_F_DUMP | libc::NLM_F_ACK) as u16 == 0 {
            return Ok(answers);
        }
    }
}

/// Finds an attribute in a netlink payload behind `offset` bytes of fixed header.
pub(crate) fn attribute(message: &[u8], offset: usize, kind: u16) -> Option<&[u8]> {
    let mut rest = message.get(offset..)?;
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let size = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = rest.get(4..size)?;
        if u16::from_ne_bytes([head[2], head[3]]) & 0x3fff == kind {
            return Some(value);
        }
        rest = rest.get(size.next_multiple_of(4)..)?;
    }
    None
}

/// Runs `work` on a thread of its own that has entered the network namespace of `file`.
pub(crate) fn in_namespace<T: Send>(file: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: a system call without memory arguments; it moves this thread alone, which ends below.
                match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
                    0 => Ok(work()),
                    _ => Err(io::Error::last_os_error()),
                }
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
