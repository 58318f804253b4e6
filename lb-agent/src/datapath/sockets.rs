//! Closing sockets whose backend is gone: sock_diag's SOCK_DESTROY (4.5) from inside each namespace.
//!
//! Only sockets that a hook translated are closed, told by their cookies: a direct connection to the same pod lives.

use std::{collections::BTreeSet, fs::File, io};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::sys;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

/// `struct inet_diag_req_v2`, with the socket's id as bytes: ports (4), addresses (32), device (4), cookie (8).
#[derive(Clone, Copy, IntoBytes, FromBytes, Immutable)]
#[repr(C)]
struct Request {
    family: u8,
    protocol: u8,
    extensions: u8,
    _padding: u8,
    states: u32,
    id: [u8; 48],
}

/// A kind of socket to look through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketKind {
    /// AF_INET or AF_INET6; the latter holds IPv4 peers of IPv6 sockets too.
    pub family: libc::c_int,
    /// IPPROTO_TCP or IPPROTO_UDP.
    pub protocol: u8,
}

impl SocketKind {
    /// The four kinds.
    pub const ALL: [Self; 4] = [
        Self { family: libc::AF_INET, protocol: libc::IPPROTO_TCP as u8 },
        Self { family: libc::AF_INET6, protocol: libc::IPPROTO_TCP as u8 },
        Self { family: libc::AF_INET, protocol: libc::IPPROTO_UDP as u8 },
        Self { family: libc::AF_INET6, protocol: libc::IPPROTO_UDP as u8 },
    ];
}

/// Closes the sockets of `namespace` whose cookie is in `cookies`: their owner's next call fails with ECONNABORTED.
/// Returns how many. EOPNOTSUPP: the kernel has no CONFIG_INET_DIAG_DESTROY or no udp_diag.
pub fn close(namespace: &File, cookies: &BTreeSet<u64>) -> io::Result<usize> {
    sys::in_namespace(namespace, || {
        let mut closed = 0;
        for kind in SocketKind::ALL {
            for id in connected(kind)? {
                if cookies.contains(&cookie(&id)) && destroy(kind, id)? {
                    closed += 1;
                }
            }
        }
        Ok(closed)
    })?
}

/// Asks for a socket that does not exist to be closed: ENOENT says that the kernel can do it.
pub fn can_close(kind: SocketKind) -> bool {
    let mut id = [0; 48];
    // Cookie and addresses that no socket has.
    id[..4].copy_from_slice(&[0, 1, 0, 1]);
    id[4] = 240;
    matches!(destroy(kind, id), Ok(false))
}

fn connected(kind: SocketKind) -> io::Result<Vec<[u8; 48]>> {
    // Established and all states in which a peer is set; listeners (10) and TIME_WAIT (6) have nothing to close.
    const STATES: u32 = 0xfff & !(1 << 10) & !(1 << 6);
    let request = Request {
        family: kind.family as u8,
        protocol: kind.protocol,
        extensions: 0,
        _padding: 0,
        states: STATES,
        id: [0; 48],
    };
    let answers =
        sys::netlink(libc::NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP as u16, request.as_bytes())?;
    // `struct inet_diag_msg`: family, state, timer, retransmissions, then the id.
    Ok(answers.iter().filter_map(|answer| answer.get(4..52)?.try_into().ok()).collect())
}

/// True if the socket was closed, false if it was gone already.
fn destroy(kind: SocketKind, id: [u8; 48]) -> io::Result<bool> {
    let request = Request {
        family: kind.family as u8,
        protocol: kind.protocol,
        extensions: 0,
        _padding: 0,
        states: u32::MAX,
        id,
    };
    match sys::netlink(libc::NETLINK_SOCK_DIAG, SOCK_DESTROY, libc::NLM_F_ACK as u16, request.as_bytes()) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTCONN)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn cookie(id: &[u8; 48]) -> u64 {
    // Two u32, the low one first, as the kernel splits it.
    let word = |at: usize| u64::from(u32::from_ne_bytes([id[at], id[at + 1], id[at + 2], id[at + 3]]));
    word(40) | word(44) << 32
}
