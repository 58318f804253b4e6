//! Runs: selection tables as they lie in the arena.
//!
//! The arena is an array of lines of 64 bytes. A run starts at a line with a [`RunHeader`] of 32 bytes; its backend
//! ids (host-order u32) follow in the rest of that line and in the lines behind it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One line of the arena: the value of the `arena` map.
pub const LINE_BYTES: usize = 64;
/// The number of u32 words in a line.
pub const LINE_WORDS: u32 = 16;
/// The number of u32 words that the header takes.
pub const HEADER_WORDS: u32 = 8;

/// Tells what a run is; the first 32 bytes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RunHeader {
    /// Counts the runs that the agent has written; its low 12 bits stand in every word that names this run.
    pub generation: u32,
    /// The service port that owns the run; each of its backends repeats it.
    pub service: u32,
    /// The number of ids.
    pub length: u32,
    /// Session affinity by client IP lasts so long, in [ticks](super::flow::TICK_NS); 0 is none.
    pub affinity_ticks: u32,
    /// The [pool bit](super::backend::flags) that a backend of this table carries.
    pub pool: u32,
    /// Zero.
    pub _reserved: [u32; 3],
}

/// Returns how many lines a run of `length` ids takes.
#[inline(always)]
pub const fn lines(length: u32) -> u32 {
    (length + HEADER_WORDS).div_ceil(LINE_WORDS)
}

/// Returns the line (counted from the run's first) and the word in it that hold id `index`.
#[inline(always)]
pub const fn place(index: u32) -> (u32, u32) {
    let word = index + HEADER_WORDS;
    (word / LINE_WORDS, word % LINE_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fills_its_words() {
        assert_eq!(size_of::<RunHeader>(), HEADER_WORDS as usize * 4);
    }

    #[test]
    fn ids_follow_the_header() {
        for (name, index, want) in [
            ("first id is behind the header", 0, (0, 8)),
            ("first line ends", 7, (0, 15)),
            ("second line starts", 8, (1, 0)),
            ("and so on", 24, (2, 0)),
        ] {
            assert_eq!(place(index), want, "{name}");
            assert!(lines(index + 1) > want.0, "{name}: the last id lies inside the run");
        }
        assert_eq!((lines(0), lines(8), lines(9)), (1, 1, 2));
    }
}
