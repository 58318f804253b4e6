//! The slots that nobody has taken.

use alloc::vec::Vec;

use super::walk::{Walk, add};

/// Words of the bitmap: room for the largest size.
const WORDS: usize = 131_072 / 64;

/// Slots looked at together.
const BLOCK: usize = 8;

/// A set of slots, a bit each: 8 KiB for the paper's size, which stay in the first cache.
pub(super) struct Free([u64; WORDS]);

impl Free {
    /// Starts with all slots.
    pub(super) fn new(size: u32) -> Self {
        let mut words = [0; WORDS];
        let (whole, rest) = ((size / 64) as usize, size % 64);
        words[..whole].fill(u64::MAX);
        words[whole] = (1 << rest) - 1;
        Self(words)
    }

    #[inline(always)]
    fn bit(&self, slot: u32) -> u64 {
        // No slot reaches the modulus: it spares the bounds check.
        self.0[(slot / 64) as usize % WORDS] >> (slot % 64) & 1
    }

    #[inline(always)]
    pub(super) fn has(&self, slot: u32) -> bool {
        self.bit(slot) != 0
    }

    #[inline(always)]
    pub(super) fn take(&mut self, slot: u32) {
        self.0[(slot / 64) as usize % WORDS] &= !(1 << (slot % 64));
    }

    /// Moves a walk on by one slot unless it is at a free one, and says whether it is. Without a branch, since which
    /// one it is nobody can predict.
    #[inline(always)]
    pub(super) fn step(&self, walk: &mut Walk, size: u32) -> bool {
        let free = self.has(walk.at);
        let next = add(walk.at, walk.skip, size);
        walk.at = if free { walk.at } else { next };
        free
    }

    /// The first free slot of a walk; there must be one.
    #[inline(always)]
    pub(super) fn first_of(&self, walk: &Walk, size: u32) -> u32 {
        let skip2 = add(walk.skip, walk.skip, size);
        let skip4 = add(skip2, skip2, size);
        let skip8 = add(skip4, skip4, size);
        let (a, c) = (walk.at, add(walk.at, skip2, size));
        let (b, d) = (add(a, walk.skip, size), add(c, walk.skip, size));
        let mut slots: [u32; BLOCK] =
            [a, b, c, d, add(a, skip4, size), add(b, skip4, size), add(c, skip4, size), add(d, skip4, size)];
        loop {
            let mut found = 0;
            for (i, &slot) in slots.iter().enumerate() {
                found |= self.bit(slot) << i;
            }
            if found != 0 {
                return slots[found.trailing_zeros() as usize % BLOCK];
            }
            for slot in &mut slots {
                *slot = add(*slot, skip8, size);
            }
        }
    }

    /// All slots in the set, in order.
    pub(super) fn slots(&self) -> Vec<u32> {
        let mut slots = Vec::new();
        for (i, &word) in (0u32..).zip(&self.0) {
            let mut word = word;
            while word != 0 {
                slots.push(i * 64 + word.trailing_zeros());
                word &= word - 1;
            }
        }
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::Size;
    use alloc::vec;

    #[test]
    fn a_new_set_holds_every_slot_and_no_other() {
        for size in Size::ALL {
            assert_eq!(Free::new(size).slots(), (0..size).collect::<Vec<_>>(), "{size}");
        }
    }

    #[test]
    fn first_of_finds_what_a_walk_meets_first() {
        let size = 251;
        let mut free = Free::new(size);
        (0..size).for_each(|slot| free.take(slot));
        for (name, left, walk, want) in [
            ("where it stands", vec![7, 8], Walk { at: 7, skip: 1, value: 0 }, 7),
            ("the last of a block", vec![7], Walk { at: 0, skip: 1, value: 0 }, 7),
            ("the first of the next", vec![8], Walk { at: 0, skip: 1, value: 0 }, 8),
            ("two in a block", vec![9, 3], Walk { at: 10, skip: 250, value: 0 }, 9),
            ("round the end", vec![2], Walk { at: 248, skip: 5, value: 0 }, 2),
            ("the last slot of the walk", vec![249], Walk { at: 0, skip: 2, value: 0 }, 249),
        ] {
            let mut only = Free::new(size);
            (0..size).filter(|slot| !left.contains(slot)).for_each(|slot| only.take(slot));
            assert_eq!(only.first_of(&walk, size), want, "{name}");
        }
    }
}
