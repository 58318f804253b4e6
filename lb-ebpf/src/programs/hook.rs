//! The maps and helpers behind the pure traits.

use core::{
    arch::asm,
    ffi::c_void,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::{
    btf_maps::lpm_trie::Key,
    helpers::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie,
        bpf_ktime_get_ns,
    },
};
use lb_ebpf::{
    abi::{
        address::Address,
        backend::Backend,
        config::{self, Config},
        drops::{Counter, DropReason},
        flow::{Affinity, AffinityKey, Datagram, DatagramKey, Peer, Sighting, StrayKey, TICK_NS},
        frontend::{FrontendKey, Word},
        run::{self, LINE_WORDS, RunHeader},
    },
    tables::{Client, Replaced, Surroundings, Tables},
};

use super::maps::{self, Maps, Range};

const ANY: u64 = 0;

/// A program's context: what helpers take to tell which socket is meant.
pub(crate) struct Hook(pub(crate) *mut c_void);

impl Hook {
    /// Adds one to the counter of a reason.
    #[inline(always)]
    pub(crate) fn refused(&self, reason: DropReason) {
        increment(reason as u32);
    }

    /// True if the socket is one that the configuration leaves alone.
    #[inline(always)]
    pub(crate) fn left_alone(&self) -> bool {
        let Some(config) = config() else { return true };
        if config.flags & config::flags::HOST_NAMESPACE_ONLY != 0 && self.namespace() != config.host_namespace {
            return true;
        }
        if config.flags & config::flags::EXCLUDES == 0 {
            return false;
        }
        for excluded in &config.excluded {
            if excluded.cgroup == 0 {
                return false;
            }
            // SAFETY: a helper without memory arguments; a level deeper than the task's cgroup gives 0.
            if unsafe { bpf_get_current_ancestor_cgroup_id(excluded.level as i32) } == excluded.cgroup {
                return true;
            }
        }
        false
    }

    #[inline(always)]
    fn namespace(&self) -> u64 {
        // SAFETY: the context of this program, of a type that the helper takes (5.7).
        unsafe { bpf_get_netns_cookie(self.0) }
    }
}

impl<A: Maps> Tables<A> for Hook {
    #[inline(always)]
    fn frontend(&self, key: &FrontendKey<A>) -> Option<Word> {
        // SAFETY: the value is one aligned u64; volatile makes the load single, so that it is one published word.
        A::frontends().get_ptr(key).map(|word| Word(unsafe { read_volatile(word.cast::<u64>()) }))
    }

    #[inline(always)]
    fn address(&self, address: &A) -> Option<u32> {
        // SAFETY: one aligned u32, read once.
        A::addresses().get_ptr(address).map(|flags| unsafe { read_volatile(flags) })
    }

    #[inline(always)]
    fn header(&self, line: u32) -> Option<RunHeader> {
        // SAFETY: a line starts with 32 bytes for the header and is aligned to 8.
        maps::arena.get_ptr(line).map(|line| unsafe { *line.cast::<RunHeader>() })
    }

    #[inline(always)]
    fn id(&self, line: u32, index: u32) -> Option<u32> {
        let (lines, word) = run::place(index);
        let line = maps::arena.get_ptr(line + lines)?;
        // SAFETY: the word is below 16, the words of a line.
        Some(unsafe { read_volatile(line.cast::<u32>().add((word & (LINE_WORDS - 1)) as usize)) })
    }

    #[inline(always)]
    fn backend(&self, id: u32) -> Option<Backend<A>> {
        // SAFETY: an array's element stays where it is; the copy is held against its owner by the caller.
        A::backends().get_ptr(id).map(|backend| unsafe { (*backend).0 })
    }

    #[inline(always)]
    fn active(&self, id: u32) -> u64 {
        // SAFETY: one aligned u64, read once.
        A::active().get_ptr(id).map_or(0, |active| unsafe { read_volatile(active) })
    }

    #[inline(always)]
    fn count(&self, id: u32) {
        if let Some(active) = A::active().get_ptr_mut(id) {
            add(active, 1);
        }
    }

    #[inline(always)]
    fn uncount(&self, id: u32) {
        if let Some(active) = A::active().get_ptr_mut(id) {
            add(active, u64::MAX);
        }
    }

    #[inline(always)]
    fn admits(&self, service: u32, client: &A) -> bool {
        let bits = 8 * (4 + size_of::<A>() as u32);
        A::ranges().get(&Key::new(bits, Range { service: service.to_ne_bytes(), address: *client })).is_some()
    }

    #[inline(always)]
    fn affinity(&self, client: &Client<A>, service: u32) -> Option<Affinity> {
        let found = match client {
            Client::Known(client) => {
                A::affinity().get_ptr(AffinityKey { client: *client, service: service.to_ne_bytes() })
            }
            Client::Stray(namespace) => maps::strays.get_ptr(stray::<A>(*namespace, service)),
        };
        // SAFETY: one aligned u64, read once.
        found.map(|affinity| Affinity(unsafe { read_volatile(affinity.cast::<u64>()) }))
    }

    #[inline(always)]
    fn set_affinity(&self, client: &Client<A>, service: u32, affinity: Affinity) {
        // An update of a live LRU entry takes a free one first and costs as much as an insert: written in place.
        match client {
            Client::Known(client) => {
                let key = AffinityKey { client: *client, service: service.to_ne_bytes() };
                match A::affinity().get_ptr_mut(key) {
                    // SAFETY: one aligned u64, written once.
                    Some(live) => unsafe { write_volatile(live.cast::<u64>(), affinity.0) },
                    None => done(A::affinity().insert(key, affinity, ANY)),
                }
            }
            Client::Stray(namespace) => {
                let key = stray::<A>(*namespace, service);
                match maps::strays.get_ptr_mut(key) {
                    // SAFETY: one aligned u64, written once.
                    Some(live) => unsafe { write_volatile(live.cast::<u64>(), affinity.0) },
                    None => done(maps::strays.insert(key, affinity, ANY)),
                }
            }
        }
    }

    #[inline(always)]
    fn peer(&self, cookie: u64) -> Option<Peer<A>> {
        // SAFETY: only hooks of this socket write the entry, and they run under its lock or before it is shared.
        A::peers().get_ptr(cookie).map(|peer| unsafe { *peer })
    }

    #[inline(always)]
    fn replace_peer(&self, cookie: u64, peer: &Peer<A>) -> Replaced<A> {
        match A::peers().get_ptr_mut(cookie) {
            // SAFETY: as in `peer`.
            Some(live) => Replaced::Old(unsafe { core::ptr::replace(live, *peer) }),
            None if A::peers().insert(cookie, peer, ANY).is_ok() => Replaced::New,
            None => Replaced::Full,
        }
    }

    #[inline(always)]
    fn remove_peer(&self, cookie: u64) {
        done(A::peers().remove(cookie));
    }

    #[inline(always)]
    fn datagram(&self, key: &DatagramKey<A>) -> Option<Datagram<A>> {
        // SAFETY: the key carries the socket's cookie, so an entry changes only for a socket that several threads
        // send on; the copy is held against the backend's owner by the caller.
        A::datagrams().get_ptr(key).map(|datagram| unsafe { *datagram })
    }

    #[inline(always)]
    fn set_datagram(&self, key: &DatagramKey<A>, datagram: &Datagram<A>) {
        done(A::datagrams().insert(key, datagram, ANY));
    }

    #[inline(always)]
    fn sight(&self) {
        // SAFETY: helpers without arguments, and on this program's context.
        let (seen_ns, socket) = unsafe { (bpf_ktime_get_ns(), bpf_get_socket_cookie(self.0)) };
        done(maps::canary.insert(self.namespace(), Sighting { seen_ns, socket }, ANY));
    }
}

impl<A: Maps> Surroundings<A> for Hook {
    #[inline(always)]
    fn on_host(&self) -> bool {
        config().is_some_and(|config| self.namespace() == config.host_namespace)
    }

    #[inline(always)]
    fn client(&self) -> Client<A> {
        let namespace = self.namespace();
        let Some(config) = config() else { return Client::Stray(namespace) };
        let address: A = if namespace == config.host_namespace {
            own(&config.node4, &config.node6)
        } else {
            match maps::clients.get_ptr(namespace) {
                // SAFETY: the agent writes an entry once per pod; a changed one is a new element.
                Some(client) => unsafe { own(&(*client).v4, &(*client).v6) },
                None => return Client::Stray(namespace),
            }
        };
        if address == A::ANY { Client::Stray(namespace) } else { Client::Known(address) }
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the context of this program.
        unsafe { bpf_get_socket_cookie(self.0) }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn ticks(&self) -> u32 {
        // SAFETY: a helper without arguments.
        (unsafe { bpf_ktime_get_ns() } / TICK_NS) as u32
    }

    #[inline(always)]
    fn remembers(&self) -> bool {
        config().is_some_and(|config| config.flags & config::flags::REMEMBER_PEER != 0)
    }

    #[inline(always)]
    fn counter(&self, counter: Counter) {
        increment(counter as u32);
    }
}

#[inline(always)]
fn config() -> Option<&'static Config> {
    // SAFETY: an array of one entry; each field is read by itself and means something by itself.
    maps::config.get_ptr(0).map(|config| unsafe { &*config })
}

/// Picks the address of the family at hand; the branch is gone after compilation.
#[inline(always)]
fn own<A: Address>(v4: &[u8; 4], v6: &[u8; 16]) -> A {
    let bytes: &[u8] = if A::FAMILY == 4 { v4 } else { v6 };
    A::read_from_bytes(bytes).unwrap_or(A::ANY)
}

#[inline(always)]
fn stray<A: Address>(namespace: u64, service: u32) -> StrayKey {
    StrayKey { namespace, service, family: u32::from(A::FAMILY) }
}

/// Passes over a failed write: these maps evict, or hold what only makes an answer better.
#[inline(always)]
fn done(_: Result<(), i32>) {}

/// Adds to a value that all CPUs share; adding the complement of one takes one away.
#[inline(always)]
fn add(value: *mut u64, amount: u64) {
    // SAFETY: an aligned u64 in an array. This is the form without a result, which kernels below 5.12 take too; the
    // target has no read-modify-write atomics in `core`.
    unsafe { asm!("lock *(u64 *)({value} + 0) += {amount}", value = in(reg) value, amount = in(reg) amount) };
}

#[inline(always)]
fn increment(index: u32) {
    if let Some(counter) = maps::counters.get_ptr_mut(index) {
        // SAFETY: this CPU's own counter.
        unsafe { *counter += 1 };
    }
}
