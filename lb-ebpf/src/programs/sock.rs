//! post_bind and sock_release: what is done to a socket, not to an address.

use core::ptr::read_volatile;

use aya_ebpf::{EbpfContext as _, helpers::bpf_set_retval, macros::cgroup_sock, programs::SockContext};
use lb_ebpf::{
    abi::{
        address::{Address, V4, V6, unmapped},
        drops::DropReason,
    },
    socket::{self, Destination},
};

use super::{hook::Hook, kernel};

const ALLOW: i32 = 1;
const DENY: i32 = 0;
const EADDRINUSE: i32 = 98;
const AF_INET6: u32 = 10;

#[cgroup_sock(post_bind4)]
pub(crate) fn post_bind4(ctx: SockContext) -> i32 {
    let hook = Hook(ctx.as_ptr());
    // SAFETY: a field of the context, which post_bind4 may read.
    let address = unsafe { read_volatile(&raw const (*ctx.sock).src_ip4) }.to_ne_bytes();
    verdict(&hook, socket::bind(&hook, &Destination { address, port: port(&ctx), protocol: protocol(&ctx) }))
}

#[cgroup_sock(post_bind6)]
pub(crate) fn post_bind6(ctx: SockContext) -> i32 {
    let hook = Hook(ctx.as_ptr());
    let mut address = [0; 16];
    for (index, bytes) in address.chunks_exact_mut(4).enumerate() {
        // SAFETY: a field of the context of four words, which post_bind6 may read.
        bytes.copy_from_slice(&unsafe { read_volatile(&raw const (*ctx.sock).src_ip6[index]) }.to_ne_bytes());
    }
    let (port, protocol) = (port(&ctx), protocol(&ctx));
    // A socket on `::` takes IPv4 too, unless it is asked not to; that cannot be seen here.
    let (v4, v6) = (unmapped(&address), address == V6::ANY);
    if (v6 || v4.is_some())
        && let Err(reason) = socket::bind(&hook, &Destination { address: v4.unwrap_or(V4::ANY), port, protocol })
    {
        return verdict(&hook, Err(reason));
    }
    verdict(&hook, socket::bind(&hook, &Destination { address, port, protocol }))
}

#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    let hook = Hook(ctx.as_ptr());
    socket::release::<V4, _>(&hook);
    // SAFETY: a field of the context.
    if unsafe { read_volatile(&raw const (*ctx.sock).family) } == AF_INET6 {
        socket::release::<V6, _>(&hook);
    }
    ALLOW
}

#[inline(always)]
fn verdict(hook: &Hook, verdict: Result<(), DropReason>) -> i32 {
    let Err(reason) = verdict else { return ALLOW };
    hook.refused(reason);
    if kernel::has_set_retval() {
        // SAFETY: a helper without memory arguments; a hook that returns 0 keeps the value.
        unsafe { bpf_set_retval(-EADDRINUSE) };
    }
    DENY
}

#[inline(always)]
fn protocol(ctx: &SockContext) -> u8 {
    // SAFETY: a field of the context.
    unsafe { read_volatile(&raw const (*ctx.sock).protocol) as u8 }
}

#[inline(always)]
fn port(ctx: &SockContext) -> [u8; 2] {
    // SAFETY: a field of the context, in host order.
    (unsafe { read_volatile(&raw const (*ctx.sock).src_port) } as u16).to_be_bytes()
}
