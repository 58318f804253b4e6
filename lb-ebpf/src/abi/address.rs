//! The two address families as one generic.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An address of one family, in network byte order: `[u8; 4]` or `[u8; 16]`.
pub trait Address:
    Copy + Eq + Ord + core::fmt::Debug + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + 'static
{
    /// 4 or 6.
    const FAMILY: u8;
    /// 0 or 1: the place of this family in the pairs of [`maps`](super::maps).
    const INDEX: usize;
    /// The wildcard address, which keys what holds on every address of the node (NodePort).
    const ANY: Self;
    /// 127.0.0.1 or ::1.
    const LOOPBACK: Self;
    /// The reserved address that the canary dials: 192.0.0.8 (RFC 7600, never a destination) or 100::8 (RFC 6666,
    /// discard-only). No host answers on either.
    const CANARY: Self;

    /// Folds the address to 32 bits, for fingerprints and hashes.
    fn fold(&self) -> u32;

    /// True for 127.0.0.0/8 and ::1.
    fn is_loopback(&self) -> bool;
}

/// An IPv4 address.
pub type V4 = [u8; 4];
/// An IPv6 address.
pub type V6 = [u8; 16];

impl Address for V4 {
    const FAMILY: u8 = 4;
    const INDEX: usize = 0;
    const ANY: Self = [0; 4];
    const LOOPBACK: Self = [127, 0, 0, 1];
    const CANARY: Self = [192, 0, 0, 8];

    #[inline(always)]
    fn fold(&self) -> u32 {
        u32::from_be_bytes(*self)
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self[0] == 127
    }
}

impl Address for V6 {
    const FAMILY: u8 = 6;
    const INDEX: usize = 1;
    const ANY: Self = [0; 16];
    const LOOPBACK: Self = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const CANARY: Self = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];

    #[inline(always)]
    fn fold(&self) -> u32 {
        let [a, b, c, d] = words(self);
        // Odd multipliers keep the words from cancelling each other: real addresses differ in few bits.
        a.wrapping_mul(0x9e37_79b1) ^ b.wrapping_mul(0x85eb_ca77) ^ c.wrapping_mul(0xc2b2_ae3d) ^ d
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        *self == Self::LOOPBACK
    }
}

/// Splits an IPv6 address into its four words, host order.
#[inline(always)]
pub const fn words(address: &V6) -> [u32; 4] {
    let a = address;
    [
        u32::from_be_bytes([a[0], a[1], a[2], a[3]]),
        u32::from_be_bytes([a[4], a[5], a[6], a[7]]),
        u32::from_be_bytes([a[8], a[9], a[10], a[11]]),
        u32::from_be_bytes([a[12], a[13], a[14], a[15]]),
    ]
}

/// Returns the IPv4 address inside `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
#[inline(always)]
pub fn unmapped(address: &V6) -> Option<V4> {
    let [a, b, c, d] = words(address);
    if a == 0 && b == 0 && c == 0xffff { Some(d.to_be_bytes()) } else { None }
}
