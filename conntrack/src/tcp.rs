//! TCP: what the flags of both directions make of a flow.
//!
//! | phase | what was seen |
//! | --- | --- |
//! | [`Opening`](Phase::Opening) | the client, perhaps an answer, not yet the client again |
//! | [`Established`](Phase::Established) | the client after an answer (DSR: the client twice) |
//! | [`HalfClosed`](Phase::HalfClosed) | then a FIN from one side |
//! | [`Closed`](Phase::Closed) | then a FIN from both (DSR: from the client, the only one that is seen) |
//! | [`Reset`](Phase::Reset) | a RST, and nothing from either side since |
//!
//! Other protocols know the first two only.

use crate::{
    entry::{State, Word, flags as entry_flags, marks},
    step::Direction,
    timeouts::seconds,
};

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Opens a connection; with [`ACK`], answers that.
pub const SYN: u8 = 0x02;
/// Ends a connection at once.
pub const RST: u8 = 0x04;
/// Hand the data to the application.
pub const PSH: u8 = 0x08;
/// The acknowledgment number counts.
pub const ACK: u8 = 0x10;
/// The urgent pointer counts.
pub const URG: u8 = 0x20;

const BELIEVED_RESET: u32 = seconds(1);

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not confirmed by the side that opened it.
    Opening = 0,
    /// Confirmed.
    Established = 1,
    /// One side has finished.
    HalfClosed = 2,
    /// Both sides have finished.
    Closed = 3,
    /// Aborted, and nothing has passed since.
    Reset = 4,
}

impl Phase {
    /// True for a connection that carries data, at least one way.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Established | Self::HalfClosed)
    }

    /// The name in `lbctl flow list` and in filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "Opening",
            Self::Established => "Established",
            Self::HalfClosed => "HalfClosed",
            Self::Closed => "Closed",
            Self::Reset => "Reset",
        }
    }
}

/// True for the combinations that a TCP sends: the list of the kernel's connection tracking (`tcp_valid_flags`,
/// net/netfilter/nf_conntrack_proto_tcp.c), in which PSH, ECE and CWR stand with everything.
#[inline(always)]
pub const fn is_valid(flags: u8) -> bool {
    const ONES: u64 = 1 << SYN
        | 1 << (SYN | URG)
        | 1 << (SYN | ACK)
        | 1 << RST
        | 1 << (RST | ACK)
        | 1 << (FIN | ACK)
        | 1 << (FIN | ACK | URG)
        | 1 << ACK
        | 1 << (ACK | URG);
    ONES >> (flags & (FIN | SYN | RST | ACK | URG)) & 1 != 0
}

/// True for the packet that opens a connection.
#[inline(always)]
pub const fn is_first(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// Tells how far a flow has come; for every protocol.
#[inline(always)]
pub const fn phase(state: &State) -> Phase {
    let (original, reply) = (state.original, state.reply);
    if reset_holds(original, reply) || reset_holds(reply, original) {
        return Phase::Reset;
    }
    if !original.has(marks::CONFIRMED) {
        return Phase::Opening;
    }
    let answers_seen = state.flags & entry_flags::DSR == 0;
    match (original.has(marks::FIN), reply.has(marks::FIN) || !answers_seen) {
        (true, true) => Phase::Closed,
        (true, false) => Phase::HalfClosed,
        (false, _) if reply.has(marks::FIN) => Phase::HalfClosed,
        (false, _) => Phase::Established,
    }
}

/// Returns the word of `direction` after a packet with valid `flags`. A SYN that does not start a connection leaves
/// the word as it is.
#[inline(always)]
pub const fn advance(state: &State, phase: Phase, direction: Direction, flags: u8, now: u32) -> Word {
    let word = state.word(direction);
    if flags & RST != 0 {
        return Word::new(now, word.marks() | marks::RST);
    }
    if flags & SYN != 0 {
        return if begins(state, phase, direction, flags, now) { Word::new(now, marks::PASSED) } else { word };
    }
    let finished = if flags & FIN != 0 { marks::FIN } else { 0 };
    Word::new(now, (word.marks() & !marks::RST) | marks::PASSED | finished | confirmation(state, direction))
}

/// True if a packet begins a connection: the client's SYN where none is live, the server's answer to one that the
/// client has not confirmed.
///
/// After a RST that takes a second of silence, for both the RST and the SYN behind it may be forged, and a flow that
/// is not silent must stay where it is. A SYN is repeated after a second (RFC 6298), and begins then.
#[inline(always)]
pub(crate) const fn begins(state: &State, phase: Phase, direction: Direction, flags: u8, now: u32) -> bool {
    let confirmed = state.original.has(marks::CONFIRMED);
    match direction {
        Direction::Original => {
            is_first(flags)
                && match phase {
                    Phase::Opening | Phase::Closed => true,
                    Phase::Established | Phase::HalfClosed => false,
                    Phase::Reset => !(confirmed || state.reply.has(marks::PASSED)) || state.idle(now) >= BELIEVED_RESET,
                }
        }
        Direction::Reply => flags & (SYN | ACK) == SYN | ACK && !confirmed,
    }
}

/// The mark that a packet of `direction` earns by following an answer; with DSR, by following any packet.
#[inline(always)]
pub(crate) const fn confirmation(state: &State, direction: Direction) -> u8 {
    let heard = state.reply.has(marks::PASSED) || state.flags & entry_flags::DSR != 0;
    match direction {
        Direction::Original if heard => marks::CONFIRMED,
        Direction::Original | Direction::Reply => 0,
    }
}

/// True if a RST of `word` is the last thing that was heard. Every packet of the same direction clears the mark; one
/// of the other direction outdates it, for a side that was reset answers with a RST of its own.
#[inline(always)]
const fn reset_holds(word: Word, other: Word) -> bool {
    word.has(marks::RST) && (other.marks() == 0 || !is_later(other.ticks(), word.ticks()))
}

#[inline(always)]
const fn is_later(ticks: u32, than: u32) -> bool {
    let ahead = ticks.wrapping_sub(than);
    ahead != 0 && ahead <= u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: u8 = marks::PASSED;
    const OPEN: u8 = marks::PASSED | marks::CONFIRMED;

    fn state(original: (u32, u8), reply: (u32, u8), flags: u8) -> State {
        State { original: Word::new(original.0, original.1), reply: Word::new(reply.0, reply.1), flags }
    }

    #[test]
    fn valid_flags_are_the_kernels() {
        let valid: Vec<u8> = (0..64).filter(|flags| flags & PSH == 0 && is_valid(*flags)).collect();
        assert_eq!(valid, [0x02, 0x04, 0x10, 0x11, 0x12, 0x14, 0x22, 0x30, 0x31]);
        for flags in 0..=u8::MAX {
            assert_eq!(is_valid(flags), is_valid(flags & !(PSH | 0xc0)), "{flags:#x}: PSH, ECE and CWR do not matter");
        }
    }

    #[test]
    fn phase_table() {
        const DSR: u8 = entry_flags::DSR;
        for (name, original, reply, flags, want) in [
            ("nothing", (0, 0), (0, 0), 0, Phase::Opening),
            ("one side", (5, PASSED), (0, 0), 0, Phase::Opening),
            ("answered", (5, PASSED), (5, PASSED), 0, Phase::Opening),
            ("confirmed", (5, OPEN), (5, PASSED), 0, Phase::Established),
            ("confirmed, answers unseen", (5, OPEN), (0, 0), DSR, Phase::Established),
            ("client finished", (6, OPEN | marks::FIN), (5, PASSED), 0, Phase::HalfClosed),
            ("server finished", (6, OPEN), (6, PASSED | marks::FIN), 0, Phase::HalfClosed),
            ("both finished", (6, OPEN | marks::FIN), (6, PASSED | marks::FIN), 0, Phase::Closed),
            ("client finished, answers unseen", (6, OPEN | marks::FIN), (0, 0), DSR, Phase::Closed),
            ("server refuses", (5, PASSED), (5, marks::RST), 0, Phase::Reset),
            ("client aborts", (7, OPEN | marks::RST), (6, PASSED), 0, Phase::Reset),
            ("the server speaks on", (7, OPEN | marks::RST), (8, PASSED), 0, Phase::Established),
            ("and is reset in turn", (8, OPEN | marks::RST), (8, PASSED), 0, Phase::Reset),
            ("both abort", (7, OPEN | marks::RST), (8, PASSED | marks::RST), 0, Phase::Reset),
            ("spoke on across the wrap", (u32::MAX, OPEN | marks::RST), (1, PASSED), 0, Phase::Established),
        ] {
            assert_eq!(phase(&state(original, reply, flags)), want, "{name}");
        }
    }

    #[test]
    fn advance_table() {
        use Direction::{Original, Reply};
        let fin = marks::FIN;
        let rst = marks::RST;
        for (name, original, reply, direction, flags, want) in [
            ("SYN repeated", (5, PASSED), (0, 0), Original, SYN, (30, PASSED)),
            ("SYN answered", (5, PASSED), (0, 0), Reply, SYN | ACK, (30, PASSED)),
            ("answer confirmed", (5, PASSED), (5, PASSED), Original, ACK, (30, OPEN)),
            ("ACK without an answer", (5, PASSED), (0, 0), Original, ACK, (30, PASSED)),
            ("ACK after a refusal", (5, PASSED), (5, rst), Original, ACK, (30, PASSED)),
            ("data from the server", (5, OPEN), (5, PASSED), Reply, ACK | PSH, (30, PASSED)),
            ("forged SYN", (5, OPEN), (5, PASSED), Original, SYN, (5, OPEN)),
            ("forged SYN|ACK", (5, OPEN), (5, PASSED | fin), Reply, SYN | ACK, (5, PASSED | fin)),
            ("client finishes", (5, OPEN), (5, PASSED), Original, FIN | ACK, (30, OPEN | fin)),
            ("last ACK keeps the FIN", (6, OPEN | fin), (6, PASSED | fin), Original, ACK, (30, OPEN | fin)),
            ("client aborts", (5, OPEN), (5, PASSED), Original, RST, (30, OPEN | rst)),
            ("forged RST, client goes on", (5, OPEN | rst), (5, PASSED), Original, ACK, (30, OPEN)),
            ("SYN after the end", (6, OPEN | fin), (6, PASSED | fin), Original, SYN, (30, PASSED)),
            ("answered, the old FIN is gone", (29, PASSED), (6, PASSED | fin), Reply, SYN | ACK, (30, PASSED)),
            ("SYN after an abort", (20, OPEN | rst), (20, PASSED), Original, SYN, (30, PASSED)),
            ("SYN right behind a RST", (21, OPEN | rst), (20, PASSED), Original, SYN, (21, OPEN | rst)),
            ("SYN right behind a refusal", (29, PASSED), (29, rst), Original, SYN, (30, PASSED)),
            ("client sends SYN|ACK", (5, PASSED), (0, 0), Original, SYN | ACK, (5, PASSED)),
        ] {
            let state = state(original, reply, 0);
            let got = advance(&state, phase(&state), direction, flags, 30);
            assert_eq!((got.ticks(), got.marks()), want, "{name}");
        }
    }

    #[test]
    fn direct_server_return_confirms_without_answers() {
        let state = state((5, PASSED), (0, 0), entry_flags::DSR);
        assert_eq!(advance(&state, phase(&state), Direction::Original, SYN, 9).marks(), PASSED, "SYN repeated");
        assert_eq!(advance(&state, phase(&state), Direction::Original, ACK, 9).marks(), OPEN, "ACK behind the SYN");
    }
}
