//! Numbers from 1 to a capacity.

use std::collections::BTreeSet;

use crate::grace::{Epoch, Quarantine};

/// Which numbers are taken. The search for a free one goes round, so that a number rests as long as possible before
/// somebody else has it.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// One bit a number, set if it is taken; the bits past the capacity are set.
    words: Vec<u64>,
    capacity: u32,
    taken: u32,
    cursor: usize,
    waiting: Quarantine<u32>,
    resting: BTreeSet<u32>,
}

impl Pool {
    /// Builds a pool of the numbers from 1 to below `size`, the size of an array.
    pub(super) fn new(size: u32) -> Self {
        let mut words = vec![0; (size as usize).div_ceil(64)];
        if let Some(last) = words.last_mut().filter(|_| !size.is_multiple_of(64)) {
            *last = u64::MAX << (size % 64);
        }
        if let Some(first) = words.first_mut() {
            *first |= 1;
        }
        Self {
            words,
            capacity: size.saturating_sub(1),
            taken: 0,
            cursor: 0,
            waiting: Quarantine::default(),
            resting: BTreeSet::new(),
        }
    }

    /// Takes a given number; false if it is taken or none of the pool's. The next search starts behind it.
    pub(super) fn reserve(&mut self, number: u32) -> bool {
        let (word, bit) = place(number);
        let free = self.words.get(word).is_some_and(|bits| bits & bit == 0);
        if free {
            self.words[word] |= bit;
            self.taken += 1;
            self.cursor = self.cursor.max(word);
        }
        free
    }

    /// Takes a free number.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        let length = self.words.len();
        let word = (self.cursor..length).chain(0..self.cursor).find(|&i| self.words[i] != u64::MAX)?;
        let shift = self.words[word].trailing_ones();
        self.words[word] |= 1 << shift;
        self.cursor = word;
        self.taken += 1;
        Some(word as u32 * 64 + shift)
    }

    /// Frees a number at once.
    pub(super) fn cancel(&mut self, number: u32) {
        if self.is_taken(number) {
            let (word, bit) = place(number);
            self.words[word] &= !bit;
            self.taken -= 1;
        }
    }

    /// Frees a number when `epoch` has passed. One that is free already, or rests already, stays as it is.
    pub(super) fn release(&mut self, number: u32, epoch: Epoch) {
        if self.is_taken(number) && self.resting.insert(number) {
            self.waiting.keep(epoch, number);
        }
    }

    pub(super) fn passed(&mut self, epoch: Epoch) -> bool {
        let mut any = false;
        while let Some(number) = self.waiting.pop_passed(epoch) {
            self.resting.remove(&number);
            self.cancel(number);
            any = true;
        }
        any
    }

    pub(super) fn taken(&self) -> u32 {
        self.taken
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.len() as u32
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    fn is_taken(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        (1..=self.capacity).contains(&number) && self.words[word] & bit != 0
    }
}

fn place(number: u32) -> (usize, u64) {
    ((number / 64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_but_zero_is_given_once() {
        for size in [0, 1, 2, 63, 64, 65, 130] {
            let mut pool = Pool::new(size);
            let given: Vec<u32> = std::iter::from_fn(|| pool.allocate()).collect();
            assert_eq!(given, (1..size).collect::<Vec<_>>(), "an array of {size}");
            assert_eq!((pool.taken(), pool.capacity()), (given.len() as u32, given.len() as u32));
        }
    }

    #[test]
    fn a_released_number_waits() {
        let mut pool = Pool::new(3);
        let (one, two) = (pool.allocate().unwrap(), pool.allocate().unwrap());
        pool.release(one, Epoch(5));
        pool.release(one, Epoch(6));
        pool.release(0, Epoch(6));
        assert_eq!((pool.allocate(), pool.waiting()), (None, 1), "it rests once, and zero is nobody's");
        assert!(!pool.passed(Epoch(4)));
        assert!(pool.passed(Epoch(5)));
        assert_eq!((pool.allocate(), two), (Some(one), 2));
    }

    #[test]
    fn the_search_goes_round() {
        let mut pool = Pool::new(1024);
        let first: BTreeSet<u32> = (0..200).filter_map(|_| pool.allocate()).collect();
        for &number in &first {
            pool.release(number, Epoch(0));
        }
        pool.passed(Epoch(0));
        let again: BTreeSet<u32> = (0..200).filter_map(|_| pool.allocate()).collect();
        assert!(first.intersection(&again).count() <= 64, "numbers rest before they are given again");
    }

    #[test]
    fn reserve_refuses_what_is_taken() {
        let mut pool = Pool::new(100);
        for (name, number, want) in [
            ("free", 7, true),
            ("taken", 7, false),
            ("zero", 0, false),
            ("the last", 99, true),
            ("outside", 100, false),
        ] {
            assert_eq!(pool.reserve(number), want, "{name}");
        }
    }
}
