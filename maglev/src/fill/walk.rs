//! The fill itself: turn after turn, the first free slot of a backend's walk.
//!
//! The later the turn, the more slots of a walk are taken: on average `size / left` are looked at. Hence three stages
//! that differ in speed alone: many turns at a time while a good part is free ([`batch`]), then a turn at a time with
//! eight slots at once, and for the last turns the other way round, over the slots that are left ([`Tail`]).

use alloc::vec::Vec;

use super::{
    BackendKey, Seed, Size, batch,
    free::Free,
    tail::Tail,
    turns::{InProportion, RoundRobin, Turns},
};

/// Where a backend is in its walk over the slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// The slot that its next turn looks at first.
    pub(super) at: u32,
    /// The distance to the slot after that, modulo the size; from 1 to `size - 1`.
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
pub(super) fn fill(size: Size, mut walks: Vec<Walk>, weights: &[u32], out: &mut Vec<u32>) {
    out.clear();
    let (Some(first), Some(&weight)) = (walks.first(), weights.first()) else { return };
    out.resize(size.get() as usize, first.value);
    if walks.len() == 1 {
        return;
    }
    let mut free = Free::new(size.get());
    if weights.iter().all(|&w| w == weight) {
        let mut turns = RoundRobin::new(walks.len());
        let left = batch::take_turns(&mut walks, &mut turns, &mut free, out);
        take_turns(left, walks, turns, free, out);
    } else {
        let turns = InProportion::new(weights, size);
        take_turns(size.get(), walks, turns, free, out);
    }
}

/// Takes the turns from the one on with which `left` slots are free.
fn take_turns(left: u32, mut walks: Vec<Walk>, mut turns: impl Turns, mut free: Free, out: &mut [u32]) {
    let size = out.len() as u32;
    // With fewer slots left than a walk looks at to find one, it is less work to look at those.
    let tail = size.isqrt();
    for _ in tail..left {
        let walk = &mut walks[turns.next()];
        let slot = free.first_of(walk, size);
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
pub(super) fn add(a: u32, b: u32, size: u32) -> u32 {
    let sum = a + b;
    sum.min(sum.wrapping_sub(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    /// The algorithm as Cilium writes it down: no bitmap, no stages, marks in floating point.
    fn reference(size: Size, walks: &[Walk], weights: &[u32]) -> Vec<u32> {
        let m = u64::from(size.get());
        let count = walks.len();
        let sum: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        let mut marks: Vec<f64> = weights.iter().map(|&w| f64::from(w) / count as f64).collect();
        let mut next = vec![0; count];
        let mut table = vec![None; m as usize];
        for turn in 0..m {
            let mut i = turn as usize % count;
            while (turn + 1) * u64::from(weights[i]) < marks[i] as u64 {
                i = (i + 1) % count;
            }
            marks[i] += sum as f64;
            let slot = loop {
                let slot = (u64::from(walks[i].at) + next[i] * u64::from(walks[i].skip)) % m;
                next[i] += 1;
                if table[slot as usize].is_none() {
                    break slot;
                }
            };
            table[slot as usize] = Some(walks[i].value);
        }
        table.into_iter().map(|value| value.expect("every slot is taken")).collect()
    }

    fn check(size: Size, starts: &[(u32, u32, u32)]) -> Result<(), TestCaseError> {
        let m = size.get();
        let walks: Vec<Walk> =
            starts.iter().zip(0..).map(|(s, value)| Walk { at: s.0 % m, skip: s.1 % (m - 1) + 1, value }).collect();
        let weights: Vec<u32> = starts.iter().map(|s| s.2).collect();
        let want = reference(size, &walks, &weights);
        let mut table = vec![];
        fill(size, walks, &weights, &mut table);
        prop_assert!(table == want, "size {m}, {} backends, weights {weights:?}", starts.len());
        Ok(())
    }

    fn starts(
        count: core::ops::Range<usize>,
        weight: core::ops::Range<u32>,
    ) -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
        prop::collection::vec((any::<u32>(), any::<u32>(), weight), count)
    }

    fn sizes() -> impl Strategy<Value = Size> {
        prop::sample::select(&Size::ALL[..5]).prop_map(|size| Size::new(size).expect("a known size"))
    }

    proptest! {
        #[test]
        fn equal_weights_fill_as_the_reference(size in sizes(), starts in starts(1..300, 1..2)) {
            check(size, &starts)?;
        }

        #[test]
        fn unequal_weights_fill_as_the_reference(size in sizes(), starts in starts(1..300, 1..101)) {
            check(size, &starts)?;
        }

        #[test]
        fn extreme_weights_fill_as_the_reference(size in sizes(), mut starts in starts(2..50, 1..3), heavy in any::<u32>()) {
            starts[0].2 = heavy.max(1);
            check(size, &starts)?;
        }

        #[test]
        fn a_shared_walk_fills_as_the_reference(size in sizes(), mut starts in starts(2..100, 1..4), of in 0usize..100) {
            let (at, skip, _) = starts[of % starts.len()];
            for start in &mut starts {
                (start.0, start.1) = (at, skip);
            }
            check(size, &starts)?;
        }
    }

    #[test]
    fn large_tables_fill_as_the_reference() {
        for size in &Size::ALL[5..] {
            for (count, weight) in [(2, 1), (15, 1), (16, 1), (1000, 1), (1000, 100), (5000, 7)] {
                let starts: Vec<(u32, u32, u32)> = (1..=count)
                    .map(|i: u32| (i.wrapping_mul(0x9e37_79b1), i.wrapping_mul(0x85eb_ca6b), i % weight + 1))
                    .collect();
                let size = Size::new(*size).expect("a known size");
                check(size, &starts).expect("the reference's table");
            }
        }
    }
}
