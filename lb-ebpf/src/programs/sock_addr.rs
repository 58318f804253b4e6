//! connect, sendmsg, recvmsg and getpeername: sockaddr in, sockaddr out.
#![expect(
    clippy::redundant_closure,
    reason = "a closure of its own is inlined; a function passed by name is called through a shim, in a second frame"
)]

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{EbpfContext as _, helpers::bpf_set_retval, macros::cgroup_sock_addr, programs::SockAddrContext};
use lb_ebpf::{
    abi::{
        address::{Address as _, V4, V6, unmapped},
        drops::DropReason,
    },
    socket::{self, Destination, Endpoint, Outcome},
    tables::Tables,
};

use super::{hook::Hook, kernel, maps::Maps};

const ALLOW: i32 = 1;
const DENY: i32 = 0;
const TCP: u32 = 6;
const EHOSTUNREACH: i32 = 113;
const ECONNREFUSED: i32 = 111;
/// A port on which nothing can listen: connect() to it is refused at once.
const NOWHERE: [u8; 2] = [0, 0];
/// For UDP port 0 is no destination; tcpmux (1, RFC 1078) is reserved and closed on every node.
const CLOSED: [u8; 2] = [0, 1];
const LOOPBACK: V4 = [127, 0, 0, 1];

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    forward4(&ctx, |hook, to| socket::connect(hook, to))
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    forward6(&ctx, |hook, to| socket::connect(hook, to), |hook, to| socket::connect(hook, to))
}

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    forward4(&ctx, |hook, to| socket::send(hook, to))
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    forward6(&ctx, |hook, to| socket::send(hook, to), |hook, to| socket::send(hook, to))
}

#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    backward4(&ctx, |hook, at| socket::receive(hook, at))
}

#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    backward6(&ctx, |hook, at| socket::receive(hook, at), |hook, at| socket::receive(hook, at))
}

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    backward4(&ctx, |hook, at| socket::peer(hook, at))
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    backward6(&ctx, |hook, at| socket::peer(hook, at), |hook, at| socket::peer(hook, at))
}

#[inline(always)]
fn forward4(ctx: &SockAddrContext, decide: impl Fn(&Hook, &Destination<V4>) -> Outcome<Endpoint<V4>>) -> i32 {
    let hook = Hook(ctx.as_ptr());
    // The canary asks whether the hook runs, which it does for sockets that it leaves alone.
    if hook.left_alone() && address4(ctx) != V4::CANARY {
        return ALLOW;
    }
    let protocol = protocol(ctx);
    match decide(&hook, &Destination { address: address4(ctx), port: port(ctx), protocol: protocol as u8 }) {
        Ok(None) => ALLOW,
        Ok(Some(backend)) => {
            set_address4(ctx, backend.address);
            set_port(ctx, backend.port);
            ALLOW
        }
        Err(reason) => refuse::<V4>(&hook, reason, || {
            set_address4(ctx, LOOPBACK);
            set_port(ctx, if protocol == TCP { NOWHERE } else { CLOSED });
        }),
    }
}

#[inline(always)]
fn forward6(
    ctx: &SockAddrContext,
    decide4: impl Fn(&Hook, &Destination<V4>) -> Outcome<Endpoint<V4>>,
    decide6: impl Fn(&Hook, &Destination<V6>) -> Outcome<Endpoint<V6>>,
) -> i32 {
    let hook = Hook(ctx.as_ptr());
    if hook.left_alone() && address6(ctx) != V6::CANARY {
        return ALLOW;
    }
    let (address, port, protocol) = (address6(ctx), port(ctx), protocol(ctx));
    let closed = if protocol == TCP { NOWHERE } else { CLOSED };
    if let Some(address) = unmapped(&address) {
        return match decide4(&hook, &Destination { address, port, protocol: protocol as u8 }) {
            Ok(None) => ALLOW,
            Ok(Some(backend)) => {
                set_mapped(ctx, backend.address);
                set_port(ctx, backend.port);
                ALLOW
            }
            Err(reason) => refuse::<V4>(&hook, reason, || {
                set_mapped(ctx, LOOPBACK);
                set_port(ctx, closed);
            }),
        };
    }
    match decide6(&hook, &Destination { address, port, protocol: protocol as u8 }) {
        Ok(None) => ALLOW,
        Ok(Some(backend)) => {
            set_address6(ctx, backend.address);
            set_port(ctx, backend.port);
            ALLOW
        }
        Err(reason) => refuse::<V6>(&hook, reason, || {
            set_address6(ctx, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            set_port(ctx, closed);
        }),
    }
}

#[inline(always)]
fn backward4(ctx: &SockAddrContext, find: impl Fn(&Hook, &Endpoint<V4>) -> Option<Endpoint<V4>>) -> i32 {
    let hook = Hook(ctx.as_ptr());
    if let Some(frontend) = find(&hook, &Endpoint { address: address4(ctx), port: port(ctx) }) {
        set_address4(ctx, frontend.address);
        set_port(ctx, frontend.port);
    }
    ALLOW
}

#[inline(always)]
fn backward6(
    ctx: &SockAddrContext,
    find4: impl Fn(&Hook, &Endpoint<V4>) -> Option<Endpoint<V4>>,
    find6: impl Fn(&Hook, &Endpoint<V6>) -> Option<Endpoint<V6>>,
) -> i32 {
    let hook = Hook(ctx.as_ptr());
    let (address, port) = (address6(ctx), port(ctx));
    if let Some(address) = unmapped(&address) {
        if let Some(frontend) = find4(&hook, &Endpoint { address, port }) {
            set_mapped(ctx, frontend.address);
            set_port(ctx, frontend.port);
        }
    } else if let Some(frontend) = find6(&hook, &Endpoint { address, port }) {
        set_address6(ctx, frontend.address);
        set_port(ctx, frontend.port);
    }
    ALLOW
}

/// Counts the reason and makes the call fail with the errno that a client of kube-proxy would see; `misdirect` sends
/// it to where nothing listens, for kernels whose hooks can only say EPERM.
#[inline(always)]
fn refuse<A: Maps>(hook: &Hook, reason: DropReason, misdirect: impl Fn()) -> i32 {
    hook.refused(reason);
    let errno = match reason {
        DropReason::Canary => {
            Tables::<A>::sight(hook);
            ECONNREFUSED
        }
        DropReason::NoBackend | DropReason::UnknownPort | DropReason::NodePort => ECONNREFUSED,
        DropReason::NoLocalBackend | DropReason::SourceRange | DropReason::UnknownSource | DropReason::Torn => {
            EHOSTUNREACH
        }
    };
    if kernel::has_set_retval() {
        // SAFETY: a helper without memory arguments; a hook that returns 0 keeps the value.
        unsafe { bpf_set_retval(-errno) };
        return DENY;
    }
    if errno == ECONNREFUSED {
        misdirect();
        return ALLOW;
    }
    DENY
}

#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: a field of the context; volatile keeps the width that the verifier asks for, here and below.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).protocol) }
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> [u8; 2] {
    // SAFETY: a field of the context. The low 16 bits hold the port in network order.
    let port = unsafe { read_volatile(&raw const (*ctx.sock_addr).user_port) };
    (port as u16).to_ne_bytes()
}

#[inline(always)]
fn set_port(ctx: &SockAddrContext, port: [u8; 2]) {
    // SAFETY: as in `port`.
    unsafe { write_volatile(&raw mut (*ctx.sock_addr).user_port, u32::from(u16::from_ne_bytes(port))) };
}

#[inline(always)]
fn address4(ctx: &SockAddrContext) -> V4 {
    // SAFETY: a field of the context.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip4) }.to_ne_bytes()
}

#[inline(always)]
fn set_address4(ctx: &SockAddrContext, address: V4) {
    // SAFETY: a field of the context.
    unsafe { write_volatile(&raw mut (*ctx.sock_addr).user_ip4, u32::from_ne_bytes(address)) };
}

#[inline(always)]
fn address6(ctx: &SockAddrContext) -> V6 {
    let mut address = [0; 16];
    for (index, bytes) in address.chunks_exact_mut(4).enumerate() {
        // SAFETY: a field of the context of four words.
        let word = unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip6[index]) };
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    address
}

#[inline(always)]
fn set_address6(ctx: &SockAddrContext, address: V6) {
    for (index, bytes) in address.chunks_exact(4).enumerate() {
        let word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // SAFETY: a field of the context of four words.
        unsafe { write_volatile(&raw mut (*ctx.sock_addr).user_ip6[index], word) };
    }
}

/// Writes `::ffff:address`; the first three words of a mapped address are there already.
#[inline(always)]
fn set_mapped(ctx: &SockAddrContext, address: V4) {
    // SAFETY: a field of the context of four words.
    unsafe { write_volatile(&raw mut (*ctx.sock_addr).user_ip6[3], u32::from_ne_bytes(address)) };
}
