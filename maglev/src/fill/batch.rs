//! Many turns at a time.
//!
//! A turn by itself is one mispredicted branch: nobody knows how far a walk goes on. Here all backends of a batch look
//! for the first slot that was free when it began, each moving on by a slot in each round, without a branch on what
//! it found. Then the turns are taken in order. What was taken before is still taken, so a backend whose slot
//! another one of the batch got first only has to go on from there: the table is the same as turn by turn.

use super::{
    free::Free,
    turns::Turns,
    walk::{Walk, add},
};

/// The room for a batch.
pub(super) struct Batch {
    backends: [u32; Self::TURNS],
    walks: [Walk; Self::TURNS],
    /// Turns of the batch that have no slot in view yet.
    searching: [u16; Self::TURNS],
}

impl Batch {
    /// The most turns in one batch. A power of two: index modulo it spares the bounds check.
    pub(super) const TURNS: usize = 512;

    /// With fewer backends, a batch is too short to gain anything.
    pub(super) const WORTH_IT: usize = 16;

    pub(super) fn new() -> Self {
        Self { backends: [0; Self::TURNS], walks: [Walk::default(); Self::TURNS], searching: [0; Self::TURNS] }
    }

    /// Takes `count` turns, [`Batch::TURNS`] at most.
    #[inline(always)]
    pub(super) fn take_turns(
        &mut self,
        count: usize,
        walks: &mut [Walk],
        turns: &mut impl Turns,
        free: &mut Free,
        out: &mut [u32],
    ) {
        let size = out.len() as u32;
        let mut searching = 0;
        for i in 0..count {
            let backend = turns.next();
            self.backends[i % Self::TURNS] = backend as u32;
            self.walks[i % Self::TURNS] = walks[backend];
            self.searching[searching % Self::TURNS] = i as u16;
            searching += usize::from(!free.step(&mut self.walks[i % Self::TURNS], size));
        }
        while searching > 0 {
            let round = searching;
            searching = 0;
            for r in 0..round {
                let i = self.searching[r % Self::TURNS];
                self.searching[searching % Self::TURNS] = i;
                searching += usize::from(!free.step(&mut self.walks[usize::from(i) % Self::TURNS], size));
            }
        }
        for i in 0..count {
            let mut walk = self.walks[i % Self::TURNS];
            while !free.has(walk.at) {
                walk.at = add(walk.at, walk.skip, size);
            }
            free.take(walk.at);
            out[walk.at as usize] = walk.value;
            walks[self.backends[i % Self::TURNS] as usize].at = add(walk.at, walk.skip, size);
        }
    }
}
