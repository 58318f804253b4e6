//! Grace periods: what was taken out of the maps is used again only when no program can still be reading it.
//!
//! Nothing here waits. Whoever frees something tags it with the current [`Epoch`]; the shell around the core sees to
//! it that every program that ran at that time has ended (`membarrier`, or a map-in-map update where that is refused)
//! and then reports the epoch as passed.

use std::{collections::VecDeque, fmt};

/// Counts the rounds of publishing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The round behind this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Things that wait for their grace period, oldest first.
#[derive(Clone, Debug)]
pub struct Quarantine<T> {
    waiting: VecDeque<(Epoch, T)>,
}

impl<T> Default for Quarantine<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> Quarantine<T> {
    /// Keeps `item` until `epoch` has passed. Epochs do not go back.
    pub fn keep(&mut self, epoch: Epoch, item: T) {
        debug_assert!(self.waiting.back().is_none_or(|(last, _)| *last <= epoch), "epochs do not go back");
        self.waiting.push_back((epoch, item));
    }

    /// Gives back the oldest item whose epoch lies at or before `epoch`.
    pub fn pop_passed(&mut self, epoch: Epoch) -> Option<T> {
        self.waiting.pop_front_if(|(kept, _)| *kept <= epoch).map(|(_, item)| item)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What waits, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_with_their_epoch() {
        let mut quarantine = Quarantine::default();
        for (epoch, item) in [(1, 'a'), (2, 'b'), (2, 'c'), (3, 'd')] {
            quarantine.keep(Epoch(epoch), item);
        }
        assert_eq!(quarantine.pop_passed(Epoch(0)), None);
        let passed: Vec<char> = std::iter::from_fn(|| quarantine.pop_passed(Epoch(2))).collect();
        assert_eq!(passed, ['a', 'b', 'c']);
        assert_eq!(quarantine.iter().collect::<String>(), "d");
    }
}
