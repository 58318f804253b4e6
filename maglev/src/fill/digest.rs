//! One number that says whether two nodes hold the same table.

use core::fmt;

use super::{Backend, BackendKey};
use crate::hash::murmur3::Murmur3;

/// A table's digest: equal where the same backend, by key, has the same slot.
///
/// Each slot gives the first half of murmur3_x64_128 (seed 0) of its backend's key. The digest is the first half of
/// murmur3_x64_128 (seed 0) of those numbers in the order of the slots, each as 8 bytes, little-endian. Shown as 16
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u64);

/// Digests a table of indices into `backends`, as [`fill`](super::fill) makes it.
///
/// # Panics
///
/// On an index that `backends` does not have.
pub fn digest(table: &[u32], backends: &[Backend]) -> Digest {
    let fingerprints: alloc::vec::Vec<u64> = backends.iter().map(|b| b.key.fingerprint()).collect();
    Digest::of_fingerprints(table.iter().map(|&i| fingerprints[i as usize]))
}

impl Digest {
    /// Digests a table that is given as the key of each slot.
    pub fn of_keys<'a>(slots: impl IntoIterator<Item = &'a BackendKey>) -> Self {
        Self::of_fingerprints(slots.into_iter().map(BackendKey::fingerprint))
    }

    /// The digest as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    fn of_fingerprints(mut slots: impl Iterator<Item = u64>) -> Self {
        let mut state = Murmur3::new(0);
        let mut length = 0;
        let last = loop {
            let Some(first) = slots.next() else { break 0 };
            length += 8;
            let Some(second) = slots.next() else { break first };
            length += 8;
            state.block(first, second);
        };
        Self(state.finish(last, 0, length).0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
