//! Many turns at a time.
//!
//! A turn by itself is a mispredicted branch: nobody knows how far a walk goes on. Here all backends of a batch look
//! for the first slot that was free when it began, each moving on by a slot in each round, without a branch on what
//! it found. Then the turns are taken in order. What was taken before is still taken, so a backend whose slot
//! another one of the batch got first only has to go on from there: the table is the same as turn by turn.

use super::{
    free::Free,
    turns::RoundRobin,
    walk::{Walk, add},
};

/// The most turns in one batch. A power of two: an index modulo it spares the bounds check.
const TURNS: usize = 512;

/// With fewer backends, a batch is too short to gain anything.
const BACKENDS: usize = 16;

/// Takes the turns while batches pay, and gives the number of slots left.
pub(super) fn take_turns(walks: &mut [Walk], turns: &mut RoundRobin, free: &mut Free, out: &mut [u32]) -> u32 {
    let size = out.len() as u32;
    let mut left = size;
    if walks.len() < BACKENDS {
        return left;
    }
    // With few slots free, many of a batch would meet, and the last ones to find a slot keep it waiting.
    while left > size / 16 {
        let batch = &mut walks[turns.row((left as usize / 8).min(TURNS))];
        search(batch, free, size);
        take(batch, free, out);
        left -= batch.len() as u32;
    }
    left
}

/// Moves each walk on to a slot that is free.
fn search(batch: &mut [Walk], free: &Free, size: u32) {
    // Walks that are not there yet, by index.
    let mut waiting = [0; TURNS];
    let mut count = 0;
    for (walk, i) in batch.iter_mut().zip(0u16..) {
        waiting[count % TURNS] = i;
        count += usize::from(!free.step(walk, size));
    }
    while count > 0 {
        let before = count;
        count = 0;
        for w in 0..before {
            let i = waiting[w % TURNS];
            waiting[count % TURNS] = i;
            count += usize::from(!free.step(&mut batch[usize::from(i)], size));
        }
    }
}

/// Takes for each walk, in order, the first free slot from where it stands.
fn take(batch: &mut [Walk], free: &mut Free, out: &mut [u32]) {
    let size = out.len() as u32;
    for walk in batch {
        let mut slot = walk.at;
        while !free.has(slot) {
            slot = add(slot, walk.skip, size);
        }
        free.take(slot);
        out[slot as usize] = walk.value;
        walk.at = add(slot, walk.skip, size);
    }
}
