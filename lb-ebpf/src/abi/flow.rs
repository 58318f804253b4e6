//! What sockets and clients leave behind: peers, datagram flows, affinity, clients and canary sightings.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Time in the maps counts in ticks of 100 ms since boot (CLOCK_MONOTONIC), which fit 32 bits for 13 years.
pub const TICK_NS: u64 = 100_000_000;

/// What a translated, connected socket dialled: the value behind its cookie (u64, host order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Peer<A> {
    /// The address that the application dialled.
    pub frontend: A,
    /// The port that it dialled, network order.
    pub frontend_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// [`peer_flags`].
    pub flags: u8,
    /// The address that the socket was sent to.
    pub backend: A,
    /// Its port, network order.
    pub backend_port: [u8; 2],
    /// Zero.
    pub _reserved: [u8; 2],
    /// The backend's id, host order.
    pub backend_id: [u8; 4],
    /// The service port, host order.
    pub service: [u8; 4],
}

/// Bits of [`Peer::flags`].
pub mod peer_flags {
    /// The connection is counted in the `active` map.
    pub const COUNTED: u8 = 1;
}

/// Names one direction between an unconnected datagram socket and a service.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct DatagramKey<A> {
    /// Socket cookie, host order.
    pub cookie: [u8; 8],
    /// The frontend (`TO_FRONTEND`) or the backend (`FROM_BACKEND`).
    pub address: A,
    /// Its port, network order.
    pub port: [u8; 2],
    /// [`TO_FRONTEND`](Self::TO_FRONTEND) or [`FROM_BACKEND`](Self::FROM_BACKEND).
    pub direction: u8,
    /// Zero.
    pub _reserved: u8,
}

impl<A> DatagramKey<A> {
    /// The key names a frontend, the value its backend.
    pub const TO_FRONTEND: u8 = 0;
    /// The key names a backend, the value its frontend.
    pub const FROM_BACKEND: u8 = 1;

    /// Names the direction of a socket's flow that leads to, or comes from, `address` and `port` (network order).
    #[inline(always)]
    pub const fn new(cookie: u64, address: A, port: [u8; 2], direction: u8) -> Self
    where
        A: Copy,
    {
        Self { cookie: cookie.to_ne_bytes(), address, port, direction, _reserved: 0 }
    }
}

/// The other end of a [`DatagramKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Datagram<A> {
    /// The backend (`TO_FRONTEND`) or the frontend (`FROM_BACKEND`).
    pub address: A,
    /// Its port, network order.
    pub port: [u8; 2],
    /// Zero.
    pub _reserved: [u8; 2],
    /// The backend's id, host order.
    pub backend_id: [u8; 4],
    /// The service port, host order.
    pub service: [u8; 4],
}

/// Names a client of a service with session affinity.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct AffinityKey<A> {
    /// The client's address: a pod's own, the node's for host network.
    pub client: A,
    /// The service port, host order.
    pub service: [u8; 4],
}

/// Names a client whose address the agent has not found yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StrayKey {
    /// Cookie of the client's network namespace.
    pub namespace: u64,
    /// The service port.
    pub service: u32,
    /// 4 or 6.
    pub family: u32,
}

/// The backend that a client sticks to, and when it last connected: one aligned u64, written in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Affinity(pub u64);

impl Affinity {
    /// Packs a backend id and a [tick](TICK_NS).
    #[inline(always)]
    pub const fn new(backend: u32, ticks: u32) -> Self {
        Self((ticks as u64) << 32 | backend as u64)
    }

    /// The backend's id.
    #[inline(always)]
    pub const fn backend(self) -> u32 {
        self.0 as u32
    }

    /// When the client last connected.
    #[inline(always)]
    pub const fn ticks(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// True while `timeout` ticks have not passed since the last connection. A clock that differs between CPUs may
    /// put the stamp ahead of `now`: that counts as fresh.
    #[inline(always)]
    pub const fn fresh(self, now: u32, timeout: u32) -> bool {
        let age = now.wrapping_sub(self.ticks());
        age < timeout || age > u32::MAX / 2
    }
}

/// The addresses of the pod behind a namespace cookie (u64, host order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Client {
    /// The IPv6 address; all zero: none.
    pub v6: [u8; 16],
    /// The IPv4 address; all zero: none.
    pub v4: [u8; 4],
    /// Zero.
    pub _reserved: [u8; 4],
}

/// The last canary connect seen from a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sighting {
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub seen_ns: u64,
    /// Cookie of the socket that dialled.
    pub socket: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        assert_eq!((size_of::<Peer<[u8; 4]>>(), size_of::<Peer<[u8; 16]>>()), (24, 48));
        assert_eq!((size_of::<DatagramKey<[u8; 4]>>(), size_of::<DatagramKey<[u8; 16]>>()), (16, 28));
        assert_eq!((size_of::<Datagram<[u8; 4]>>(), size_of::<Datagram<[u8; 16]>>()), (16, 28));
        assert_eq!((size_of::<AffinityKey<[u8; 4]>>(), size_of::<AffinityKey<[u8; 16]>>()), (8, 20));
        assert_eq!((size_of::<StrayKey>(), size_of::<Client>()), (16, 24));
    }

    #[test]
    fn affinity_ages() {
        for (name, stamp, now, timeout, want) in [
            ("just made", 100, 100, 1, true),
            ("last tick of its life", 100, 109, 10, true),
            ("over", 100, 110, 10, false),
            ("stamped ahead by another CPU", 101, 100, 10, true),
            ("across the wrap", u32::MAX, 3, 10, true),
        ] {
            assert_eq!(Affinity::new(7, stamp).fresh(now, timeout), want, "{name}");
        }
    }
}
