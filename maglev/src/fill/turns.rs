//! Whose turn it is.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use super::Size;

/// An endless sequence of backends, as their places in the order of keys.
pub(super) trait Turns {
    /// The backend that has the next turn.
    fn next(&mut self) -> usize;
}

/// One after the other.
pub(super) struct RoundRobin {
    next: usize,
    count: usize,
}

impl RoundRobin {
    pub(super) fn new(count: usize) -> Self {
        Self { next: 0, count }
    }

    /// Takes up to `most` turns at once, fewer at the end of a round.
    pub(super) fn row(&mut self, most: usize) -> Range<usize> {
        let start = self.next;
        let end = self.count.min(start + most);
        self.next = if end == self.count { 0 } else { end };
        start..end
    }
}

impl Turns for RoundRobin {
    #[inline(always)]
    fn next(&mut self) -> usize {
        let turn = self.next;
        self.next = if turn + 1 == self.count { 0 } else { turn + 1 };
        turn
    }
}

/// By weight. Turn `n` (from 0) belongs to the first backend from `n mod count` on that is due: whose `(n + 1) *
/// weight` has come up to its mark. The mark starts at `weight / count`, rounded down, and each turn taken raises it
/// by the sum of weights.
///
/// Some backend is always due: after `n` turns the marks add up to `n * sum + sum / count` at most, and the other
/// sides to `(n + 1) * sum`.
///
/// Cilium keeps the marks as floating-point numbers and rounds them when it compares. What is added are integers, so
/// rounding first gives the same.
pub(super) struct InProportion {
    turn: u32,
    first: usize,
    due: Due,
    /// For each turn, the last backend that gets due with it; [`NOBODY`] for none.
    wakes: Vec<u32>,
    /// For each backend that waits, the one before it in the same turn's chain.
    chain: Vec<u32>,
    marks: Vec<Mark>,
}

const NOBODY: u32 = u32::MAX;

/// A mark, as quotient and remainder by the weight: the turn is due when `turn + 1` is the quotient, rounded up.
struct Mark {
    quotient: u64,
    remainder: u64,
    raise_quotient: u64,
    raise_remainder: u64,
    weight: u64,
}

impl Mark {
    fn new(weight: u32, count: u64, sum: u64) -> Self {
        let weight = u64::from(weight);
        let start = weight / count;
        Self {
            quotient: start / weight,
            remainder: start % weight,
            raise_quotient: sum / weight,
            raise_remainder: sum % weight,
            weight,
        }
    }

    fn raise(&mut self) {
        self.quotient += self.raise_quotient;
        self.remainder += self.raise_remainder;
        if self.remainder >= self.weight {
            self.remainder -= self.weight;
            self.quotient += 1;
        }
    }

    /// The first turn that is due.
    fn due(&self) -> u64 {
        (self.quotient + u64::from(self.remainder > 0)).saturating_sub(1)
    }
}

impl InProportion {
    pub(super) fn new(weights: &[u32], size: Size) -> Self {
        let count = weights.len();
        let sum = weights.iter().map(|&w| u64::from(w)).sum();
        Self {
            turn: 0,
            first: 0,
            // A mark starts at the weight or below, so all are due.
            due: Due::all(count),
            wakes: vec![NOBODY; size.get() as usize],
            chain: vec![NOBODY; count],
            marks: weights.iter().map(|&w| Mark::new(w, count as u64, sum)).collect(),
        }
    }

    fn wake(&mut self) {
        let mut next = self.wakes[self.turn as usize];
        while next != NOBODY {
            self.due.insert(next as usize);
            next = self.chain[next as usize];
        }
    }

    fn sleep(&mut self, backend: usize, until: u64) {
        self.due.remove(backend);
        if let Some(wake) = usize::try_from(until).ok().and_then(|turn| self.wakes.get_mut(turn)) {
            self.chain[backend] = core::mem::replace(wake, backend as u32);
        }
    }
}

impl Turns for InProportion {
    fn next(&mut self) -> usize {
        self.wake();
        let backend = self.due.first_from(self.first);
        self.marks[backend].raise();
        let due = self.marks[backend].due();
        self.turn += 1;
        self.first = if self.first + 1 == self.marks.len() { 0 } else { self.first + 1 };
        if due > u64::from(self.turn) {
            self.sleep(backend, due);
        }
        backend
    }
}

/// The backends that are due, a bit each.
struct Due(Vec<u64>);

impl Due {
    fn all(count: usize) -> Self {
        let mut words = vec![u64::MAX; count.div_ceil(64)];
        if let (Some(last), rest @ 1..) = (words.last_mut(), count % 64) {
            *last = (1 << rest) - 1;
        }
        Self(words)
    }

    fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    fn remove(&mut self, i: usize) {
        self.0[i / 64] &= !(1 << (i % 64));
    }

    /// The first in the set from `start` on, round the end.
    fn first_from(&self, start: usize) -> usize {
        let (word, bit) = (start / 64, start % 64);
        let here = self.0[word] & u64::MAX << bit;
        if here != 0 {
            return word * 64 + here.trailing_zeros() as usize;
        }
        let after = self.0.iter().enumerate().skip(word + 1);
        let before = self.0.iter().enumerate().take(word + 1);
        let (i, found) = after.chain(before).find(|(_, w)| **w != 0).expect("marks never pass the turns that add up");
        i * 64 + found.trailing_zeros() as usize
    }
}
