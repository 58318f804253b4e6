//! The key of a flow.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Names one direction of a flow: the addresses and ports as they stand in the packet, `A` being `[u8; 4]` or
/// `[u8; 16]`. 16 and 40 bytes.
///
/// A protocol without ports has zeroes there, an ICMP echo its identifier in both places, so that the reply is the
/// reversed tuple.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Tuple<A> {
    /// Who sends.
    pub source: A,
    /// Who receives.
    pub destination: A,
    /// The sender's port, network order.
    pub source_port: [u8; 2],
    /// The receiver's port, network order.
    pub destination_port: [u8; 2],
    /// IP [protocol] number.
    pub protocol: u8,
    /// Zero.
    pub _reserved: [u8; 3],
}

/// A direction of an IPv4 flow.
pub type Tuple4 = Tuple<[u8; 4]>;
/// A direction of an IPv6 flow.
pub type Tuple6 = Tuple<[u8; 16]>;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// SCTP, RFC 9260.
    pub const SCTP: u8 = 132;
}

impl<A: Copy> Tuple<A> {
    /// Builds a tuple from two ends: address, and port in network order.
    #[inline(always)]
    pub const fn new(source: (A, [u8; 2]), destination: (A, [u8; 2]), protocol: u8) -> Self {
        Self {
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            protocol,
            _reserved: [0; 3],
        }
    }

    /// Returns the tuple of the packets that travel the other way.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self::new((self.destination, self.destination_port), (self.source, self.source_port), self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layouts_hold_no_padding() {
        assert_eq!((size_of::<Tuple4>(), size_of::<Tuple6>()), (16, 40));
        let tuple = Tuple4::new(([10, 0, 0, 1], [0x9c, 0x40]), ([10, 96, 0, 1], [0, 80]), protocol::TCP);
        assert_eq!(tuple.as_bytes(), [10, 0, 0, 1, 10, 96, 0, 1, 0x9c, 0x40, 0, 80, 6, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn reversing_swaps_the_ends(
            source in any::<([u8; 16], [u8; 2])>(),
            destination in any::<([u8; 16], [u8; 2])>(),
            protocol in any::<u8>(),
        ) {
            let tuple = Tuple6::new(source, destination, protocol);
            prop_assert_eq!(tuple.reversed(), Tuple6::new(destination, source, protocol));
            prop_assert_eq!(tuple.reversed().reversed(), tuple);
        }
    }
}
