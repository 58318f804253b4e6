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
    let call = |command: libc::c_long| {
        // SAFETY: a system call without memory arguments.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
    };
    call(MEMBARRIER_CMD_QUERY) & MEMBARRIER_CMD_GLOBAL != 0 && call(MEMBARRIER_CMD_GLOBAL) == 0
}

/// Reads the cookie of the calling thread's network namespace. `None` below 5.14.
pub(crate) fn netns_cookie() -> io::Result<Option<u64>> {
    let socket = datagram_socket(libc::AF_INET)?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(Some(cookie)),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
            error => Err(error),
        },
    }
}

/// Opens a UDP socket in the calling thread's network namespace.
pub(crate) fn datagram_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a system call without memory arguments; the descriptor is ours.
    match unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
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
