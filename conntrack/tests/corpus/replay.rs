//! Bytes -> packets of one flow, played through two halves as a packet path keeps them. Shared by the corpus test and
//! the fuzz target.
//!
//! The first byte names the protocol (bits 0..2) and direct server return (bit 2). Three bytes follow per packet: TCP
//! flags; direction (bit 0) and backend (bits 1..3); ticks since the last packet, a mantissa (bits 0..4) and an
//! exponent (bits 4..8).

use conntrack::{
    Backend, Change, Direction, Facts, Phase, State, Step, Timeouts,
    entry::{flags, marks},
    should_drop, step,
    tcp::{is_first, is_valid},
    tuple::protocol,
};

const TIMEOUTS: Timeouts = Timeouts::DEFAULT;
/// Close below the wrap of the clock, which long gaps cross.
const START: u32 = u32::MAX - 500_000;

/// What one packet came to: the first verdict on its own half, and the last.
pub(crate) type Verdict = (Step, Step);

/// Plays `bytes` and returns the verdicts. Panics where an invariant breaks.
pub(crate) fn replay(bytes: &[u8]) -> Vec<Verdict> {
    let Some((&head, packets)) = bytes.split_first() else { return Vec::new() };
    let mut flow = Flow {
        protocol: [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::ICMP][usize::from(head & 3)],
        dsr: if head & 4 == 0 { 0 } else { flags::DSR },
        halves: None,
        answered: false,
        promoted: false,
    };
    let mut now = START;
    let (packets, _) = packets.as_chunks();
    packets
        .iter()
        .map(|&[flags, control, gap]| {
            now = now.wrapping_add(ticks(gap));
            let direction = if control & 1 == 0 { Direction::Original } else { Direction::Reply };
            let backend =
                [Backend::Active, Backend::Draining, Backend::Gone, Backend::Active][usize::from(control >> 1 & 3)];
            flow.packet(Facts { protocol: flow.protocol, flags, direction, backend }, now)
        })
        .collect()
}

/// 0 to 983,040 ticks: a day and more.
fn ticks(gap: u8) -> u32 {
    let exponent = gap >> 4;
    u32::from(gap & 15) << (exponent + exponent / 15)
}

struct Flow {
    protocol: u8,
    dsr: u8,
    /// The states of the original and of the reply half.
    halves: Option<[State; 2]>,
    /// A reply other than a RST has passed since the flow was made.
    answered: bool,
    promoted: bool,
}

impl Flow {
    fn packet(&mut self, facts: Facts, now: u32) -> Verdict {
        let first = step(self.own(facts.direction), facts, &TIMEOUTS, now);
        let last = match first {
            Step::Expired => self.ask_again(facts, now),
            Step::New | Step::Stray | Step::Invalid | Step::Keep(_) => first,
        };
        if facts.protocol == protocol::TCP {
            assert_eq!(last == Step::Invalid, !is_valid(facts.flags), "flags {:#x}", facts.flags);
        }
        match last {
            Step::Keep(change) => self.keep(change, facts, now),
            // A reply that finds no half is no packet of this flow.
            Step::New | Step::Stray if facts.direction == Direction::Original => self.open(facts, now),
            Step::New | Step::Stray | Step::Invalid => {}
            Step::Expired => unreachable!("a step without state expires nothing"),
        }
        self.check(now);
        (first, last)
    }

    /// The half was over: judges both together, and forgets the flow if that is over too.
    fn ask_again(&mut self, facts: Facts, now: u32) -> Step {
        let joined = self.joined().expect("no state, no expiry");
        let again = step(Some(joined), facts, &TIMEOUTS, now);
        if again != Step::Expired {
            return again;
        }
        let moves = facts.backend == Backend::Draining && is_first(facts.flags);
        let collected = should_drop(&joined, facts.protocol, facts.backend, &TIMEOUTS, now);
        assert!(collected.is_some() || moves, "{facts:?} ended {joined:?}, which a sweep keeps");
        self.halves = None;
        step(None, facts, &TIMEOUTS, now)
    }

    fn open(&mut self, facts: Facts, now: u32) {
        self.halves = State::opened(facts, self.dsr, now)
            .map(|state| [state, State { flags: state.flags | flags::REPLY, ..state }]);
        (self.answered, self.promoted) = (false, false);
    }

    fn keep(&mut self, change: Change, facts: Facts, now: u32) {
        let before = self.joined().expect("kept");
        let [original, reply] = self.halves.as_mut().expect("kept");
        let (own, other) = match facts.direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        };
        if change.store {
            assert_eq!(change.word.ticks(), now, "a word changes with the time of its packet");
            *own = own.with(facts.direction, change.word);
        }
        if change.share {
            *other = other.with(facts.direction, change.word);
        }
        if facts.direction == Direction::Reply && !before.reply.has(marks::PASSED) {
            self.answered |= change.word.has(marks::PASSED);
        }
        if change.promote {
            assert!(self.answered || self.dsr != 0, "promoted without an answer");
            self.promoted = true;
        }
        assert_eq!(self.joined().map(|state| state.phase()), Some(change.phase));
        let dropped = should_drop(&self.joined().expect("kept"), facts.protocol, Backend::Active, &TIMEOUTS, now);
        assert_eq!(dropped, None, "{facts:?} kept what a sweep drops");
    }

    /// What holds after every packet.
    fn check(&self, now: u32) {
        let (Some(halves), Some(joined)) = (&self.halves, self.joined()) else { return };
        for half in halves {
            assert_eq!(half.original.marks(), joined.original.marks(), "halves lag in time only");
            assert_eq!(half.reply.marks(), joined.reply.marks(), "halves lag in time only");
            assert_eq!(half.phase(), joined.phase(), "both halves tell the same phase");
            assert!(half.idle(now) >= joined.idle(now), "a half never knows of more than both");
            assert_eq!((half.original.0 | half.reply.0) >> 40, 0, "reserved bits stay zero");
        }
        assert!(!joined.reply.has(marks::CONFIRMED), "only the opening side confirms");
        match joined.phase() {
            Phase::Established | Phase::HalfClosed | Phase::Closed => {
                assert!(self.promoted, "{joined:?} in the LRU tier")
            }
            Phase::Opening | Phase::Reset => {}
        }
        if self.protocol != protocol::TCP {
            assert!(matches!(joined.phase(), Phase::Opening | Phase::Established));
        }
    }

    fn own(&self, direction: Direction) -> Option<State> {
        self.halves.map(|[original, reply]| match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        })
    }

    fn joined(&self) -> Option<State> {
        self.halves.map(|[original, reply]| State { reply: reply.reply, ..original })
    }
}
