//! Source ranges as the maps hold them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bits of the service in front of the address: every key matches them whole.
pub const SERVICE_BITS: u32 = 32;

/// The key of an LPM trie: a service port and a range of client addresses, `A` being `[u8; 4]` or `[u8; 16]`.
/// 12 and 24 bytes.
///
/// The kernel reads `prefix_length` as a host-order u32 (struct bpf_lpm_trie_key, Linux 4.11) and compares that many
/// bits of what follows, from the first byte's highest bit on. The service is compared whole, so its byte order does
/// not matter to the match; it is the host's, as in every other value.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RangeKey<A> {
    /// Counts the bits of service and address that must match, host order: [`SERVICE_BITS`] and those of the range.
    pub prefix_length: [u8; 4],
    /// The service port that owns the range, host order.
    pub service: [u8; 4],
    /// The first address of the range, network order.
    pub address: A,
}

/// An address of one family, in network byte order: `[u8; 4]` or `[u8; 16]`.
pub trait Address: Copy + Eq {
    /// 32 or 128.
    const BITS: u32;

    /// Clears all but the first `length` bits; a length beyond [`BITS`](Self::BITS) clears nothing.
    fn masked(self, length: u32) -> Self;

    /// Counts the leading bits in which two addresses agree.
    fn common_bits(self, other: Self) -> u32;
}

impl<A: Address> RangeKey<A> {
    /// Builds the key of a range. Host bits of `address` are cleared; a length beyond the address is cut to it.
    #[inline(always)]
    pub fn new(service: u32, address: A, length: u32) -> Self {
        let length = if length > A::BITS { A::BITS } else { length };
        Self {
            prefix_length: (SERVICE_BITS + length).to_ne_bytes(),
            service: service.to_ne_bytes(),
            address: address.masked(length),
        }
    }

    /// Builds the key that a lookup asks with: one client of one service.
    #[inline(always)]
    pub fn lookup(service: u32, client: A) -> Self {
        Self::new(service, client, A::BITS)
    }

    /// The number of bits that must match, service included.
    #[inline(always)]
    pub const fn bits(&self) -> u32 {
        u32::from_ne_bytes(self.prefix_length)
    }

    /// The service port that owns the range.
    #[inline(always)]
    pub const fn owner(&self) -> u32 {
        u32::from_ne_bytes(self.service)
    }

    /// The prefix length of the range; 0 for a key that the kernel would match on part of the service.
    #[inline(always)]
    pub const fn length(&self) -> u32 {
        self.bits().saturating_sub(SERVICE_BITS)
    }
}

macro_rules! address {
    ($bytes:literal, $word:ty) => {
        impl Address for [u8; $bytes] {
            const BITS: u32 = <$word>::BITS;

            #[inline(always)]
            fn masked(self, length: u32) -> Self {
                // A shift by all bits is no shift of the type: length 0 keeps nothing.
                let mask = match Self::BITS.checked_sub(length) {
                    None => <$word>::MAX,
                    Some(host) => <$word>::MAX.checked_shl(host).unwrap_or(0),
                };
                (<$word>::from_be_bytes(self) & mask).to_be_bytes()
            }

            #[inline(always)]
            fn common_bits(self, other: Self) -> u32 {
                (<$word>::from_be_bytes(self) ^ <$word>::from_be_bytes(other)).leading_zeros()
            }
        }
    };
}

address!(4, u32);
address!(16, u128);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layouts_are_those_of_the_trie() {
        assert_eq!((size_of::<RangeKey<[u8; 4]>>(), size_of::<RangeKey<[u8; 16]>>()), (12, 24));
        let key = RangeKey::new(0x0102_0304, [192, 0, 2, 77], 24);
        let mut want = 56u32.to_ne_bytes().to_vec();
        want.extend(0x0102_0304u32.to_ne_bytes());
        want.extend([192, 0, 2, 0]);
        assert_eq!(key.as_bytes(), want);
    }

    #[test]
    fn masked_table() {
        let all = [255; 4];
        for (name, length, want) in [
            ("nothing", 0, [0; 4]),
            ("one bit", 1, [128, 0, 0, 0]),
            ("within a byte", 12, [255, 240, 0, 0]),
            ("whole bytes", 24, [255, 255, 255, 0]),
            ("all but one", 31, [255, 255, 255, 254]),
            ("one host", 32, all),
            ("beyond the address", 33, all),
            ("far beyond", u32::MAX, all),
        ] {
            assert_eq!(all.masked(length), want, "{name}");
        }
        assert_eq!([255u8; 16].masked(65)[7..10], [255, 128, 0], "across the middle of IPv6");
        assert_eq!([255u8; 16].masked(0), [0; 16], "IPv6, nothing");
    }

    #[test]
    fn lengths_are_counted_behind_the_service() {
        for (name, length, want) in
            [("everybody", 0, (32, 0)), ("a network", 24, (56, 24)), ("one host", 32, (64, 32)), ("cut", 99, (64, 32))]
        {
            let key = RangeKey::new(7, [10, 0, 0, 1], length);
            assert_eq!((key.bits(), key.length()), want, "{name}");
            assert_eq!(key.owner(), 7, "{name}");
        }
        let key = RangeKey { prefix_length: 8u32.to_ne_bytes(), ..RangeKey::lookup(7, [10, 0, 0, 1]) };
        assert_eq!(key.length(), 0, "a prefix that ends within the service");
    }

    proptest! {
        /// Masking keeps the first bits and nothing else, bit by bit.
        #[test]
        fn masking_keeps_the_first_bits(address in any::<[u8; 16]>(), length in 0u32..130) {
            let masked = address.masked(length);
            for bit in 0..128 {
                let at = |bytes: [u8; 16]| bytes[bit / 8] >> (7 - bit % 8) & 1;
                let want = if (bit as u32) < length { at(address) } else { 0 };
                prop_assert_eq!(at(masked), want, "bit {}", bit);
            }
            prop_assert_eq!(masked.masked(length), masked);
        }

        #[test]
        fn addresses_agree_up_to_the_first_different_bit(address in any::<[u8; 4]>(), bit in 0usize..32) {
            let mut other = address;
            other[bit / 8] ^= 1 << (7 - bit % 8);
            prop_assert_eq!(address.common_bits(other), bit as u32);
            prop_assert_eq!(address.common_bits(address), 32);
        }
    }
}
