//! Frontends: where a service is dialled, and the word that selects its table.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::address::Address;

/// Names a frontend: address, port and protocol, and the side that asks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct FrontendKey<A> {
    /// The dialled address; [`Address::ANY`] for a NodePort.
    pub address: A,
    /// The dialled port, network order.
    pub port: [u8; 2],
    /// IP protocol number: 6 TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// [`scope`]: who asks.
    pub scope: u8,
}

/// Who asks: the two sides see different backends where externalTrafficPolicy is Local (KEP-1669).
pub mod scope {
    /// A pod or the node itself.
    pub const INTERNAL: u8 = 0;
    /// Traffic that enters the node from outside the cluster.
    pub const EXTERNAL: u8 = 1;
}

/// What selects a table: one aligned u64, so that a reader that loads it once sees one published state.
///
/// | bits | field |
/// | --- | --- |
/// | 0..24 | first line of the run in the arena |
/// | 24..28 | [`Kind`] |
/// | 28..32 | [`word_flags`] |
/// | 32..44 | generation: low bits of the run's own |
/// | 44..64 | fingerprint of the key |
///
/// The kernel may hand the element of a deleted or replaced key to another key at once, while a preempted program
/// still reads it. The fingerprint tells the reader that the word it loaded belongs to another key, the generation
/// that the run was written for another word; either way it looks the key up once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Word(pub u64);

/// What a frontend does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Picks from the list at random; weights are repeated ids.
    Random = 1,
    /// Picks by a Maglev table.
    Maglev = 2,
    /// Picks two from the list and takes the one with fewer open connections.
    LeastConnections = 3,
    /// Refuses: the service has no endpoint (features: REJECT).
    Refuse = 4,
    /// Drops: Local policy and no endpoint on this node.
    Drop = 5,
    /// Reports to the canary map and refuses.
    Canary = 6,
}

/// Bits 28..32 of the word.
pub mod word_flags {
    /// The client's address must be inside the service's source ranges.
    pub const SOURCE_RANGES: u8 = 1;
}

/// Bits of the value of the `addresses` maps.
pub mod address_flags {
    /// A service address that no device holds: an unknown port is refused.
    pub const REFUSE_UNKNOWN: u32 = 1;
    /// An address of this node that admits NodePorts.
    pub const NODE_PORT: u32 = 2;
    /// Counts for the host's own namespace only (loopback).
    pub const HOST_ONLY: u32 = 4;
}

/// The number of lines that a word can name: 1 GiB of arena.
pub const MAX_LINES: u32 = 1 << 24;

impl<A: Address> FrontendKey<A> {
    /// Builds a key from a port in host order.
    pub fn new(address: A, port: u16, protocol: u8, scope: u8) -> Self {
        Self { address, port: port.to_be_bytes(), protocol, scope }
    }

    /// Folds the key to the 20 bits that its word repeats.
    #[inline(always)]
    pub fn fingerprint(&self) -> u32 {
        let port = u32::from_be_bytes([self.port[0], self.port[1], self.protocol, self.scope]);
        let mixed = (u64::from(self.address.fold()) << 32 | u64::from(port)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 44) as u32
    }
}

impl Word {
    /// Packs a word; `line` and `generation` are cut to their bits.
    #[inline(always)]
    pub const fn new(line: u32, kind: Kind, flags: u8, generation: u32, fingerprint: u32) -> Self {
        Self(
            (line & (MAX_LINES - 1)) as u64
                | (kind as u64) << 24
                | ((flags & 0xf) as u64) << 28
                | ((generation & 0xfff) as u64) << 32
                | ((fingerprint & 0xf_ffff) as u64) << 44,
        )
    }

    /// The first line of the run.
    #[inline(always)]
    pub const fn line(self) -> u32 {
        (self.0 as u32) & (MAX_LINES - 1)
    }

    /// What the frontend does, or `None` for a word of a newer layout.
    #[inline(always)]
    pub const fn kind(self) -> Option<Kind> {
        match (self.0 >> 24) & 0xf {
            1 => Some(Kind::Random),
            2 => Some(Kind::Maglev),
            3 => Some(Kind::LeastConnections),
            4 => Some(Kind::Refuse),
            5 => Some(Kind::Drop),
            6 => Some(Kind::Canary),
            _ => None,
        }
    }

    /// Bits of [`word_flags`].
    #[inline(always)]
    pub const fn flags(self) -> u8 {
        ((self.0 >> 28) & 0xf) as u8
    }

    /// The low 12 bits of the run's generation.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        ((self.0 >> 32) & 0xfff) as u32
    }

    /// The fingerprint of the key that the word was written for.
    #[inline(always)]
    pub const fn fingerprint(self) -> u32 {
        (self.0 >> 44) as u32
    }
}

impl Kind {
    /// True for the kinds whose word names a run.
    pub const fn has_run(self) -> bool {
        matches!(self, Self::Random | Self::Maglev | Self::LeastConnections)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layouts_hold_no_padding() {
        assert_eq!(size_of::<FrontendKey<[u8; 4]>>(), 8);
        assert_eq!(size_of::<FrontendKey<[u8; 16]>>(), 20);
        let key = FrontendKey::new([10, 96, 0, 1], 80, 6, scope::INTERNAL);
        assert_eq!(key.as_bytes(), [10, 96, 0, 1, 0, 80, 6, 0]);
    }

    proptest! {
        #[test]
        fn a_word_gives_back_what_went_in(line in 0..MAX_LINES, flags in 0u8..16, generation in 0u32..4096, print in 0u32..1 << 20) {
            for kind in [Kind::Random, Kind::Maglev, Kind::LeastConnections, Kind::Refuse, Kind::Drop, Kind::Canary] {
                let word = Word::new(line, kind, flags, generation, print);
                prop_assert_eq!(
                    (word.line(), word.kind(), word.flags(), word.generation(), word.fingerprint()),
                    (line, Some(kind), flags, generation, print)
                );
            }
        }
    }

    #[test]
    fn fingerprints_of_neighbours_differ() {
        let mut prints = std::collections::BTreeSet::new();
        for host in 0..=255u8 {
            for port in [53, 80, 443, 8080] {
                prints.insert(FrontendKey::new([10, 96, 0, host], port, 6, 0).fingerprint());
            }
        }
        assert!(prints.len() > 1020, "1024 neighbours share {} fingerprints", prints.len());
    }
}
