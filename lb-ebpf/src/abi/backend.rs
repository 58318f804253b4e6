//! Backends: where a connection goes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An endpoint of one service port. An id is never shared by two services, so that an id that is found somewhere
/// (affinity, a datagram flow) can be held against the service that asks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Backend<A> {
    /// The endpoint's address.
    pub address: A,
    /// The endpoint's port, network order.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// [`flags`]; 0 is a free id.
    pub flags: u8,
    /// The service port that owns this backend, host order.
    pub service: [u8; 4],
}

/// Bits of [`Backend::flags`].
pub mod flags {
    /// In the table for Cluster traffic policy.
    pub const CLUSTER: u8 = 1;
    /// In the table for Local traffic policy.
    pub const LOCAL: u8 = 2;
    /// Terminating: serves what it has, takes new connections only where no ready endpoint is left (KEP-1669).
    pub const TERMINATING: u8 = 4;
    /// The id is taken.
    pub const LIVE: u8 = 8;
}

impl<A> Backend<A> {
    /// The owner as a number.
    #[inline(always)]
    pub const fn owner(&self) -> u32 {
        u32::from_ne_bytes(self.service)
    }

    /// True if `service` owns this backend and it stands in the table that carries `pool`.
    #[inline(always)]
    pub const fn serves(&self, service: u32, pool: u32) -> bool {
        self.owner() == service && (self.flags as u32 & pool) != 0
    }
}
