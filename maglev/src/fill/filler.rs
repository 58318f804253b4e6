//! A set of backends that changes.

use alloc::vec::Vec;

use super::{BackendKey, Seed, Size, walk, walk::Walk};

/// Backends in the order of their keys, with the start of each walk at hand.
///
/// A change hashes the key that is new and no other, and sorts nothing. The turns are taken anew by each fill: whose
/// slot is whose depends on all backends from the first round on, so no part of an older table can be kept without
/// a check that costs as much. The table is the one that [`fill`](super::fill()) makes of the same keys and weights.
#[derive(Clone, Debug)]
pub struct Filler {
    size: Size,
    seed: Seed,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: BackendKey,
    weight: u32,
    walk: Walk,
}

impl Entry {
    /// What the table sees of it.
    fn share(&self) -> Option<(u32, u32)> {
        (self.weight > 0).then_some((self.weight, self.walk.value))
    }
}

impl Filler {
    /// Starts with no backend.
    pub const fn new(size: Size, seed: Seed) -> Self {
        Self { size, seed, entries: Vec::new() }
    }

    /// Adds a backend, or changes it: `value` is what its slots hold, `weight` its share; 0 for none.
    ///
    /// Gives false if that leaves the table as it was.
    pub fn set(&mut self, key: BackendKey, weight: u32, value: u32) -> bool {
        let found = self.find(&key);
        let before = found.ok().and_then(|i| self.entries[i].share());
        let i = found.unwrap_or_else(|i| {
            self.entries.insert(i, Entry { key, weight, walk: Walk::new(&key, self.size, self.seed, value) });
            i
        });
        let entry = &mut self.entries[i];
        entry.weight = weight;
        entry.walk.value = value;
        entry.share() != before
    }

    /// Takes a backend out.
    ///
    /// Gives false if that leaves the table as it was.
    pub fn remove(&mut self, key: &BackendKey) -> bool {
        let removed = self.find(key).ok().map(|i| self.entries.remove(i));
        removed.and_then(|entry| entry.share()).is_some()
    }

    /// The keys in it, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &BackendKey> {
        self.entries.iter().map(|entry| &entry.key)
    }

    /// Fills `out` with the values of the backends, or empties it if none of them has a weight.
    pub fn fill(&self, out: &mut Vec<u32>) {
        let live = || self.entries.iter().filter(|entry| entry.weight > 0);
        let walks = live().map(|entry| entry.walk).collect();
        let weights: Vec<u32> = live().map(|entry| entry.weight).collect();
        walk::fill(self.size, walks, &weights, out);
    }

    fn find(&self, key: &BackendKey) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key.cmp(key))
    }
}
