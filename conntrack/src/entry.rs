//! The value of a flow: how its packets leave, and the two words that packets move.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{step::Direction, tuple::Tuple};

/// One half of a flow: the value behind the [`Tuple`] of one direction. 40 and 64 bytes.
///
/// The two words lie at offsets 0 and 8 of a size that is a multiple of 8, and map values start at a multiple of 8:
/// each is read and written as one aligned u64. The other fields never change while the entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Entry<A> {
    /// The [`Word`] of the direction that opened the flow, host order.
    pub original: [u8; 8],
    /// The [`Word`] of the direction that answers, host order.
    pub reply: [u8; 8],
    /// The backend's id, host order.
    pub backend_id: [u8; 4],
    /// The service port, host order.
    pub service: [u8; 4],
    /// The source that a packet of this half leaves with.
    pub source: A,
    /// The destination that a packet of this half leaves with.
    pub destination: A,
    /// The port of that source, network order.
    pub source_port: [u8; 2],
    /// The port of that destination, network order.
    pub destination_port: [u8; 2],
    /// [`flags`].
    pub flags: u8,
    /// Zero.
    pub _reserved: [u8; 3],
}

/// Bits of [`Entry::flags`], set when the flow is made.
pub mod flags {
    /// This half's packets answer; without it they are those of the side that opened the flow.
    pub const REPLY: u8 = 1;
    /// Direct server return: answers do not pass this node.
    pub const DSR: u8 = 2;
}

/// What one direction has said, and when it was last seen: one aligned u64, written in place.
///
/// | bits | field |
/// | --- | --- |
/// | 0..32 | [tick](crate::timeouts::TICK_NS) of the last packet that counted |
/// | 32..40 | [`marks`]; 0 means that the direction was never seen |
/// | 40..64 | zero |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Word(pub u64);

/// Bits of [`Word::marks`].
pub mod marks {
    /// A packet that is no RST has passed.
    pub const PASSED: u8 = 1;
    /// The opening side spoke again after an answer: the flow is no forgery of one packet.
    pub const CONFIRMED: u8 = 2;
    /// A FIN has passed.
    pub const FIN: u8 = 4;
    /// The last packet that counted was a RST.
    pub const RST: u8 = 8;
}

/// The part of an entry that a decision needs, copied out of the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What the opening side has said.
    pub original: Word,
    /// What the answering side has said.
    pub reply: Word,
    /// The entry's [`flags`].
    pub flags: u8,
}

impl<A: Copy> Entry<A> {
    /// Builds one half: its packets leave as `leaving`.
    #[inline(always)]
    pub const fn new(state: State, leaving: &Tuple<A>, backend_id: u32, service: u32) -> Self {
        Self {
            original: state.original.0.to_ne_bytes(),
            reply: state.reply.0.to_ne_bytes(),
            backend_id: backend_id.to_ne_bytes(),
            service: service.to_ne_bytes(),
            source: leaving.source,
            destination: leaving.destination,
            source_port: leaving.source_port,
            destination_port: leaving.destination_port,
            flags: state.flags,
            _reserved: [0; 3],
        }
    }

    /// Copies the words and the flags.
    #[inline(always)]
    pub const fn state(&self) -> State {
        State {
            original: Word(u64::from_ne_bytes(self.original)),
            reply: Word(u64::from_ne_bytes(self.reply)),
            flags: self.flags,
        }
    }

    /// Returns the tuple of this half's packets when they leave. Reversed, it is the key of the other half.
    #[inline(always)]
    pub const fn leaving(&self, protocol: u8) -> Tuple<A> {
        Tuple::new((self.source, self.source_port), (self.destination, self.destination_port), protocol)
    }

    /// Returns the state with each word taken from the half that is exact about it.
    #[inline(always)]
    pub const fn joined(&self, other: &Self) -> State {
        let (ours, theirs) = (self.state(), other.state());
        match self.direction() {
            Direction::Original => State { reply: theirs.reply, ..ours },
            Direction::Reply => State { original: theirs.original, ..ours },
        }
    }

    /// The direction of this half's packets.
    #[inline(always)]
    pub const fn direction(&self) -> Direction {
        if self.flags & flags::REPLY == 0 { Direction::Original } else { Direction::Reply }
    }
}

impl Word {
    /// Packs a tick and [`marks`].
    #[inline(always)]
    pub const fn new(ticks: u32, marks: u8) -> Self {
        Self((marks as u64) << 32 | ticks as u64)
    }

    /// When the direction was last seen.
    #[inline(always)]
    pub const fn ticks(self) -> u32 {
        self.0 as u32
    }

    /// Bits of [`marks`].
    #[inline(always)]
    pub const fn marks(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// True if one of `marks` is set.
    #[inline(always)]
    pub const fn has(self, marks: u8) -> bool {
        self.marks() & marks != 0
    }

    /// How long the direction has been silent; `u32::MAX` if it was never seen. A stamp of another CPU may be ahead
    /// of `now`: that counts as no silence.
    #[inline(always)]
    pub const fn silence(self, now: u32) -> u32 {
        let age = now.wrapping_sub(self.ticks());
        if self.marks() == 0 {
            u32::MAX
        } else if age > u32::MAX / 2 {
            0
        } else {
            age
        }
    }
}

impl State {
    /// The word of a direction.
    #[inline(always)]
    pub const fn word(&self, direction: Direction) -> Word {
        match direction {
            Direction::Original => self.original,
            Direction::Reply => self.reply,
        }
    }

    /// The state after `word` is written.
    #[inline(always)]
    pub const fn with(self, direction: Direction, word: Word) -> Self {
        match direction {
            Direction::Original => Self { original: word, ..self },
            Direction::Reply => Self { reply: word, ..self },
        }
    }

    /// How long both directions have been silent, in ticks; `u32::MAX` if none was ever seen.
    #[inline(always)]
    pub const fn idle(&self, now: u32) -> u32 {
        let (original, reply) = (self.original.silence(now), self.reply.silence(now));
        if original < reply { original } else { reply }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use proptest::prelude::*;

    use super::*;
    use crate::tuple::{Tuple4, protocol};

    #[test]
    fn layouts_keep_the_words_aligned() {
        assert_eq!((size_of::<Entry<[u8; 4]>>(), size_of::<Entry<[u8; 16]>>()), (40, 64));
        assert_eq!((offset_of!(Entry<[u8; 4]>, original), offset_of!(Entry<[u8; 4]>, reply)), (0, 8));
        assert_eq!((offset_of!(Entry<[u8; 16]>, original), offset_of!(Entry<[u8; 16]>, reply)), (0, 8));
        assert_eq!((offset_of!(Entry<[u8; 4]>, flags), offset_of!(Entry<[u8; 16]>, flags)), (36, 60));
    }

    #[test]
    fn halves_name_each_other() {
        let client = ([192, 0, 2, 1], [0x9c, 0x40]);
        let frontend = ([198, 51, 100, 1], [0, 80]);
        let node = ([10, 0, 0, 1], [0x80, 0]);
        let backend = ([10, 1, 0, 7], [0x1f, 0x90]);
        let arriving = Tuple4::new(client, frontend, protocol::TCP);
        let original = Entry::new(State::default(), &Tuple4::new(node, backend, protocol::TCP), 7, 3);
        let reply = Entry::new(State { flags: flags::REPLY, ..State::default() }, &arriving.reversed(), 7, 3);
        let other_key = original.leaving(protocol::TCP).reversed();
        assert_eq!(other_key, Tuple4::new(backend, node, protocol::TCP), "answers come from the backend to the node");
        assert_eq!(reply.leaving(protocol::TCP).reversed(), arriving, "and lead back to the first half");
    }

    #[test]
    fn silence_table() {
        for (name, word, now, want) in [
            ("never seen", Word::default(), 9, u32::MAX),
            ("just seen", Word::new(9, marks::PASSED), 9, 0),
            ("a while ago", Word::new(4, marks::PASSED), 9, 5),
            ("stamped ahead by another CPU", Word::new(10, marks::PASSED), 9, 0),
            ("across the wrap", Word::new(u32::MAX, marks::PASSED), 4, 5),
            ("only a RST was seen", Word::new(4, marks::RST), 9, 5),
        ] {
            assert_eq!(word.silence(now), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn an_entry_gives_back_its_state(original in any::<u64>(), reply in any::<u64>(), flags in any::<u8>()) {
            let state = State { original: Word(original), reply: Word(reply), flags };
            let leaving = Tuple4::new(([1; 4], [2; 2]), ([3; 4], [4; 2]), protocol::UDP);
            let entry = Entry::new(state, &leaving, 7, 3);
            prop_assert_eq!(entry.state(), state);
            prop_assert_eq!(entry.leaving(protocol::UDP), leaving);
        }

        #[test]
        fn joining_takes_each_word_from_its_own_half(a in any::<(u64, u64)>(), b in any::<(u64, u64)>(), dsr in any::<bool>()) {
            let common = if dsr { flags::DSR } else { 0 };
            let leaving = Tuple4::new(([1; 4], [2; 2]), ([3; 4], [4; 2]), protocol::UDP);
            let half = |words: (u64, u64), flags| {
                Entry::new(State { original: Word(words.0), reply: Word(words.1), flags }, &leaving, 7, 3)
            };
            let (first, second) = (half(a, common), half(b, common | flags::REPLY));
            let (one, other) = (first.joined(&second), second.joined(&first));
            prop_assert_eq!((one.original, one.reply), (Word(a.0), Word(b.1)));
            prop_assert_eq!((other.original, other.reply), (Word(a.0), Word(b.1)));
        }
    }
}
