//! Which lines of the arena are taken.
//!
//! A run is never changed in place: new content gets new lines, and the old lines are used again after a grace
//! period. Allocation takes the smallest gap that fits, the first of equals, so that the same history gives the same
//! lines.

use std::collections::{BTreeMap, BTreeSet};

use crate::grace::{Epoch, Quarantine};

/// Says that no gap is wide enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the arena has no {wanted} free lines in a row ({taken} of {capacity} are taken, {waiting} of them until a grace period ends)"
)]
pub struct ArenaFull {
    /// The length asked for.
    pub wanted: u32,
    /// The number of lines in use or in quarantine.
    pub taken: u32,
    /// The number of those that wait for a grace period.
    pub waiting: u32,
    /// The number of lines.
    pub capacity: u32,
}

/// The lines of the arena and who holds them.
#[derive(Clone, Debug)]
pub struct Arena {
    capacity: u32,
    /// Runs in use and runs in quarantine, by first line.
    taken: BTreeMap<u32, Lines>,
    taken_lines: u32,
    /// Gaps by first line, and by length.
    gaps: BTreeMap<u32, u32>,
    by_length: BTreeSet<(u32, u32)>,
    waiting: Quarantine<u32>,
    waiting_lines: u32,
    generation: u32,
}

/// A run that is taken.
#[derive(Clone, Copy, Debug)]
struct Lines {
    length: u32,
    resting: bool,
}

impl Arena {
    /// Builds an empty arena of that many lines.
    pub fn new(capacity: u32) -> Self {
        let mut arena = Self {
            capacity: 0,
            taken: BTreeMap::new(),
            taken_lines: 0,
            gaps: BTreeMap::new(),
            by_length: BTreeSet::new(),
            waiting: Quarantine::default(),
            waiting_lines: 0,
            generation: 0,
        };
        arena.grow(capacity);
        arena
    }

    /// Adds lines at the end, after the map itself has grown. An arena does not shrink.
    pub fn grow(&mut self, capacity: u32) {
        let more = capacity.saturating_sub(self.capacity);
        if more > 0 {
            let start = self.capacity;
            self.capacity += more;
            self.open(start, more);
        }
    }

    /// Takes the lines of a run that the map holds already. False, and nothing taken, if they lie outside or overlap
    /// another run.
    pub fn reserve(&mut self, line: u32, length: u32) -> bool {
        let Some((&start, &gap)) = self.gaps.range(..=line).next_back() else { return false };
        let Some(end) = line.checked_add(length).filter(|end| *end <= start + gap) else { return false };
        self.close(start, gap);
        self.open(start, line - start);
        self.open(end, start + gap - end);
        self.take(line, length);
        true
    }

    /// Takes `length` free lines in a row and returns the first.
    pub fn allocate(&mut self, length: u32) -> Result<u32, ArenaFull> {
        let Some(&(gap, start)) = self.by_length.range((length, 0)..).next() else {
            return Err(ArenaFull {
                wanted: length,
                taken: self.taken_lines,
                waiting: self.waiting_lines,
                capacity: self.capacity,
            });
        };
        self.close(start, gap);
        self.open(start + length, gap - length);
        self.take(start, length);
        Ok(start)
    }

    /// Gives a run back whose lines no program has ever seen.
    pub fn cancel(&mut self, line: u32) {
        if let Some(lines) = self.taken.remove(&line) {
            self.taken_lines -= lines.length;
            self.open(line, lines.length);
        }
    }

    /// Gives a run back that programs may still read, until `epoch` has passed. Lines that are free already, or rest
    /// already, stay as they are.
    pub fn release(&mut self, line: u32, epoch: Epoch) {
        if let Some(lines) = self.taken.get_mut(&line).filter(|lines| !lines.resting) {
            lines.resting = true;
            self.waiting_lines += lines.length;
            self.waiting.keep(epoch, line);
        }
    }

    /// Opens the lines whose grace period has passed; true if there were any.
    pub fn passed(&mut self, epoch: Epoch) -> bool {
        let mut any = false;
        while let Some(line) = self.waiting.pop_passed(epoch) {
            self.waiting_lines -= self.taken[&line].length;
            self.cancel(line);
            any = true;
        }
        any
    }

    /// Returns the number of the next run. 0 is never one, so that a zeroed line is no run.
    pub fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.generation
    }

    /// Continues the count behind a run that the map holds already.
    pub fn seen_generation(&mut self, generation: u32) {
        self.generation = self.generation.max(generation);
    }

    /// The number of lines in use or in quarantine.
    pub fn used(&self) -> u32 {
        self.taken_lines
    }

    /// The number of lines.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// True if lines wait for a grace period.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn take(&mut self, line: u32, length: u32) {
        self.taken.insert(line, Lines { length, resting: false });
        self.taken_lines += length;
    }

    /// Adds a gap and joins it with its neighbours.
    fn open(&mut self, mut start: u32, mut length: u32) {
        if length == 0 {
            return;
        }
        if let Some(&after) = self.gaps.get(&(start + length)) {
            self.close(start + length, after);
            length += after;
        }
        if let Some((&before, &gap)) = self.gaps.range(..start).next_back()
            && before + gap == start
        {
            self.close(before, gap);
            start = before;
            length += gap;
        }
        self.gaps.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn close(&mut self, start: u32, length: u32) {
        self.gaps.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn freed_lines_wait() {
        let mut arena = Arena::new(4);
        let first = arena.allocate(3).unwrap();
        arena.release(first, Epoch(1));
        let full = arena.allocate(2).unwrap_err();
        assert_eq!(
            full.to_string(),
            "the arena has no 2 free lines in a row (3 of 4 are taken, 3 of them until a grace period ends)"
        );
        assert!(!arena.passed(Epoch(0)));
        assert!(arena.allocate(2).is_err());
        assert!(arena.passed(Epoch(1)));
        assert_eq!(arena.allocate(4), Ok(0), "the gaps have joined");
    }

    #[test]
    fn growth_makes_room() {
        let mut arena = Arena::new(2);
        assert_eq!(arena.allocate(1), Ok(0));
        assert!(arena.allocate(3).is_err());
        arena.grow(4);
        assert_eq!(arena.allocate(3), Ok(1), "the last gap and the new lines are one");
        assert_eq!((arena.used(), arena.capacity()), (4, 4));
    }

    #[test]
    fn reserve_takes_exactly_what_is_free() {
        let mut arena = Arena::new(8);
        for (name, line, length, want) in [
            ("in the middle", 2, 2, true),
            ("overlaps its end", 3, 2, false),
            ("overlaps its start", 1, 2, false),
            ("right behind", 4, 1, true),
            ("outside", 7, 2, false),
            ("far outside", u32::MAX, 2, false),
            ("the end", 7, 1, true),
        ] {
            assert_eq!(arena.reserve(line, length), want, "{name}");
        }
        assert_eq!((arena.allocate(2), arena.allocate(2)), (Ok(0), Ok(5)));
    }

    #[test]
    fn generations_continue_and_skip_zero() {
        let mut arena = Arena::new(1);
        arena.seen_generation(41);
        arena.seen_generation(7);
        assert_eq!(arena.next_generation(), 42);
        arena.seen_generation(u32::MAX);
        assert_eq!(arena.next_generation(), 1);
    }

    proptest! {
        /// Takes and frees at random; a plain array of lines is the witness.
        #[test]
        fn runs_never_overlap_and_no_line_is_lost(steps in vec((any::<bool>(), 1u32..7, any::<prop::sample::Index>()), 1..200)) {
            let mut arena = Arena::new(40);
            let (mut lines, mut live) = ([false; 40], Vec::new());
            for (i, (allocate, length, index)) in steps.into_iter().enumerate() {
                if allocate || live.is_empty() {
                    match arena.allocate(length) {
                        Ok(start) => {
                            let run = start as usize..(start + length) as usize;
                            prop_assert!(lines[run.clone()].iter().all(|taken| !taken), "{:?} is taken already", run);
                            lines[run].fill(true);
                            live.push((start, length));
                        }
                        Err(_) => {
                            let fits = lines.windows(length as usize).any(|gap| gap.iter().all(|taken| !taken));
                            prop_assert!(!fits, "there was room for {length}");
                        }
                    }
                } else {
                    let (start, length) = live.swap_remove(index.index(live.len()));
                    arena.release(start, Epoch(i as u64));
                    arena.passed(Epoch(i as u64));
                    lines[start as usize..(start + length) as usize].fill(false);
                }
                prop_assert_eq!(arena.used() as usize, lines.iter().filter(|taken| **taken).count());
            }
        }
    }
}
