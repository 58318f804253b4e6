//! The last slots of a fill: which of those that are left comes first in a walk.
//!
//! A walk from `at` by `skip` reaches a slot after `(slot - at) / skip` steps, modulo the size: one multiplication by
//! the inverse of `skip`. With few slots left that is less work than to look for them.

use alloc::vec::Vec;

use super::walk::Walk;

/// Bits below the point in a number of tables: a walk's step count over the size, as a fraction of 2^64.
const FRACTION_BITS: u32 = 47;

/// The slots that are left.
pub(super) struct Tail {
    slots: Vec<u32>,
    size: u32,
}

impl Tail {
    pub(super) fn new(slots: Vec<u32>, size: u32) -> Self {
        Self { slots, size }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes the first slot of a walk out of those that are left.
    ///
    /// Steps modulo the size are the fraction of `(slot - at) * (inverse / size)`, which 64 bits hold: the inverse
    /// over the size is cut to 47 bits, so a product is off by less than 2^17 * 2^17, while step counts are 2^64 /
    /// 2^17 apart.
    pub(super) fn take_first(&mut self, walk: &Walk) -> u32 {
        let inverse = u64::from(inverse(walk.skip, self.size));
        let turn = ((inverse << FRACTION_BITS) / u64::from(self.size)) << (64 - FRACTION_BITS);
        let mut best = (u64::MAX, 0);
        for (i, &slot) in self.slots.iter().enumerate() {
            let steps = u64::from(slot).wrapping_sub(u64::from(walk.at)).wrapping_mul(turn);
            if steps <= best.0 {
                best = (steps, i);
            }
        }
        self.slots.swap_remove(best.1)
    }
}

/// The number that gives 1 with `a`, modulo a prime.
fn inverse(a: u32, prime: u32) -> u32 {
    let (mut r, mut next_r) = (prime as i32, a as i32);
    let (mut t, mut next_t) = (0, 1);
    while next_r != 0 {
        let quotient = r / next_r;
        (r, next_r) = (next_r, r - quotient * next_r);
        (t, next_t) = (next_t, t - quotient * next_t);
    }
    (if t < 0 { t + prime as i32 } else { t }) as u32
}
