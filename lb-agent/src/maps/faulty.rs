//! A store that fails now and then, so that tests see what a failing kernel does to the loop.

use std::collections::BTreeMap;

use super::{Map, MapStore, StoreError};

/// Wraps a store; a seeded share of its writes and removals fails with EAGAIN and does nothing.
#[derive(Clone, Debug)]
pub struct FaultyStore<S> {
    inner: S,
    per_mille: u32,
    state: u64,
    failed: u64,
}

impl<S: MapStore> FaultyStore<S> {
    /// Wraps `inner`; of 1000 writes, `per_mille` fail. The same seed fails the same writes.
    pub fn new(inner: S, per_mille: u32, seed: u64) -> Self {
        Self { inner, per_mille, state: seed, failed: 0 }
    }

    /// The store inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The store inside, which does not fail.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Lets another share of the writes fail.
    pub fn set_rate(&mut self, per_mille: u32) {
        self.per_mille = per_mille;
    }

    /// How many writes were failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    fn draw(&mut self, map: Map, operation: &'static str) -> Result<(), StoreError> {
        // SplitMix64 (Steele, Lea, Flood 2014): any seed will do, zero too.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        if mixed % 1000 < u64::from(self.per_mille) {
            self.failed += 1;
            return Err(StoreError::Kernel { map, operation, errno: libc::EAGAIN });
        }
        Ok(())
    }
}

impl<S: MapStore> MapStore for FaultyStore<S> {
    fn set(&mut self, map: Map, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.draw(map, "update")?;
        self.inner.set(map, key, value)
    }

    fn remove(&mut self, map: Map, key: &[u8]) -> Result<(), StoreError> {
        self.draw(map, "delete")?;
        self.inner.remove(map, key)
    }

    fn dump(&self, map: Map) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        self.inner.dump(map)
    }

    fn capacity(&self, map: Map) -> u32 {
        self.inner.capacity(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::memory::MemoryStore;

    #[test]
    fn about_the_share_fails_and_does_nothing() {
        let mut store = FaultyStore::new(MemoryStore::new(), 100, 7);
        let done =
            (0..10_000u32).filter(|n| store.set(Map::Addresses4, &n.to_be_bytes(), &[1, 0, 0, 0]).is_ok()).count();
        assert_eq!(done as u64 + store.failed(), 10_000);
        assert!((800..1200).contains(&store.failed()), "{} of 10000 failed", store.failed());
        assert_eq!(store.dump(Map::Addresses4).unwrap().len(), done);
    }
}
