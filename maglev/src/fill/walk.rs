//! The fill itself: turn after turn, the first free slot of a backend's walk.
//!
//! A walk starts at `offset` and goes on by `skip`, modulo the size. The later the turn, the more slots on the way
//! are taken: on average `size / free` are looked at. Hence three stages, which differ in speed alone: slot by slot
//! while most are free, then eight at a time, and for the last turns the other way round, over the slots that are
//! left ([`Tail`]).

use alloc::vec::Vec;

use super::{
    BackendKey, Seed, Size,
    tail::Tail,
    turns::{InProportion, RoundRobin, Turns},
};

/// Words of the bitmap: a bit for each slot of the largest size.
const WORDS: usize = 131_072 / 64;

/// Slots looked at together.
const BLOCK: usize = 8;

/// Where a backend is in its walk over the slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// The slot that its next turn looks at first.
    pub(super) at: u32,
    /// The distance to the slot after that, from 1 to `size - 1`.
    pub(super) skip: u32,
    /// What its slots hold.
    pub(super) value: u32,
}

impl Walk {
    /// Starts the walk that a key has under a seed.
    pub(super) fn new(key: &BackendKey, size: Size, seed: Seed, value: u32) -> Self {
        let (offset, skip) = key.permutation(seed);
        let size = u64::from(size.get());
        Self { at: (offset % size) as u32, skip: (skip % (size - 1) + 1) as u32, value }
    }
}

/// Fills `out` by the walks, which are in the order of their first turns, each with its weight above 0.
pub(super) fn fill(size: Size, walks: Vec<Walk>, weights: &[u32], out: &mut Vec<u32>) {
    out.clear();
    let (Some(first), Some(&weight)) = (walks.first(), weights.first()) else { return };
    out.resize(size.get() as usize, first.value);
    if walks.len() == 1 {
        return;
    }
    if weights.iter().all(|&w| w == weight) {
        take_turns(walks, RoundRobin::new(weights.len()), out);
    } else {
        take_turns(walks, InProportion::new(weights, size), out);
    }
}

fn take_turns(mut walks: Vec<Walk>, mut turns: impl Turns, out: &mut [u32]) {
    let size = out.len() as u32;
    let mut free = Free::new(size);
    let tail = size.isqrt();
    let blocks = size / 16;
    for _ in blocks..size {
        let walk = &mut walks[turns.next()];
        let mut slot = walk.at;
        while !free.has(slot) {
            slot = add(slot, walk.skip, size);
        }
        free.take(slot);
        out[slot as usize] = walk.value;
        walk.at = add(slot, walk.skip, size);
    }
    for _ in tail..blocks {
        let walk = &mut walks[turns.next()];
        let slot = free.first_in_blocks(walk, size);
        free.take(slot);
        out[slot as usize] = walk.value;
        walk.at = add(slot, walk.skip, size);
    }
    let mut tail = Tail::new(free.slots(), size);
    while !tail.is_empty() {
        let walk = &mut walks[turns.next()];
        let slot = tail.take_first(walk);
        out[slot as usize] = walk.value;
        walk.at = slot;
    }
}

/// `a + b` modulo `size`, for numbers below it.
#[inline(always)]
fn add(a: u32, b: u32, size: u32) -> u32 {
    let sum = a + b;
    sum.min(sum.wrapping_sub(size))
}

/// The slots that nobody has taken, a bit each.
struct Free([u64; WORDS]);

impl Free {
    fn new(size: u32) -> Self {
        let mut words = [0; WORDS];
        let (whole, rest) = ((size / 64) as usize, size % 64);
        words[..whole].fill(u64::MAX);
        words[whole] = (1 << rest) - 1;
        Self(words)
    }

    #[inline(always)]
    fn bit(&self, slot: u32) -> u64 {
        // The modulus is a power of two that no slot reaches: it only spares the bounds check.
        self.0[(slot / 64) as usize % WORDS] >> (slot % 64) & 1
    }

    #[inline(always)]
    fn has(&self, slot: u32) -> bool {
        self.bit(slot) != 0
    }

    #[inline(always)]
    fn take(&mut self, slot: u32) {
        self.0[(slot / 64) as usize % WORDS] &= !(1 << (slot % 64));
    }

    /// The first free slot of a walk; there must be one.
    #[inline(always)]
    fn first_in_blocks(&self, walk: &Walk, size: u32) -> u32 {
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

    fn slots(&self) -> Vec<u32> {
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
