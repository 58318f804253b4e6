//! What a collector asks before it deletes a flow.
//!
//! A collector reads both halves, joins them, asks [`should_drop`], reads both once more and deletes both, together,
//! only if they are [`unmoved`].

use crate::{
    entry::State,
    step::{Backend, is_over},
    tcp,
    timeouts::Timeouts,
};

/// Why a flow is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Silent for its lifetime.
    Idle,
    /// Its backend is gone ([`Backend::removed`]).
    BackendGone,
}

impl Reason {
    /// The label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::BackendGone => "BackendGone",
        }
    }
}

/// Tells whether a flow is over at `now` ([ticks](crate::timeouts::TICK_NS)). `state` is the
/// [joined](crate::Entry::joined) one: a half alone may not know that the other side speaks.
#[inline(always)]
pub const fn should_drop(
    state: &State,
    protocol: u8,
    backend: Backend,
    timeouts: &Timeouts,
    now: u32,
) -> Option<Reason> {
    if is_over(state, protocol, tcp::phase(state), timeouts, now) {
        return Some(Reason::Idle);
    }
    match backend {
        Backend::Active | Backend::Draining => None,
        Backend::Gone => Some(Reason::BackendGone),
    }
}

/// True if no packet has counted between two looks at a flow.
#[inline(always)]
pub const fn unmoved(before: &State, after: &State) -> bool {
    before.original.0 == after.original.0 && before.reply.0 == after.reply.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        entry::{Word, marks},
        step::{Direction, Facts, Step, step},
        tuple::protocol,
    };

    const OPEN: u8 = marks::PASSED | marks::CONFIRMED;

    #[test]
    fn should_drop_table() {
        use Backend::{Active, Draining, Gone};
        use protocol::{TCP, UDP};
        let state = |original: (u32, u8), reply: (u32, u8)| State {
            original: Word::new(original.0, original.1),
            reply: Word::new(reply.0, reply.1),
            flags: 0,
        };
        let open = state((100, OPEN), (100, marks::PASSED));
        let half_open = state((100, marks::PASSED), (0, 0));
        let closed = state((100, OPEN | marks::FIN), (100, marks::PASSED | marks::FIN));
        let one_way = state((100, OPEN), (1000, marks::PASSED));
        for (name, state, protocol, backend, now, want) in [
            ("fresh", open, TCP, Active, 100, None),
            ("within a day", open, TCP, Active, 864_099, None),
            ("after a day", open, TCP, Active, 864_100, Some(Reason::Idle)),
            ("unanswered", half_open, TCP, Active, 699, None),
            ("unanswered for a minute", half_open, TCP, Active, 700, Some(Reason::Idle)),
            ("both finished", closed, TCP, Active, 199, None),
            ("both finished, ten seconds on", closed, TCP, Active, 200, Some(Reason::Idle)),
            ("the server alone speaks", one_way, UDP, Active, 2199, None),
            ("and falls silent", one_way, UDP, Active, 2200, Some(Reason::Idle)),
            ("drains", open, TCP, Draining, 100, None),
            ("backend gone", open, UDP, Gone, 100, Some(Reason::BackendGone)),
            ("nothing was ever seen", state((0, 0), (0, 0)), TCP, Active, 0, Some(Reason::Idle)),
        ] {
            assert_eq!(should_drop(&state, protocol, backend, &Timeouts::DEFAULT, now), want, "{name}");
        }
    }

    #[test]
    fn unmoved_table() {
        let before = State { original: Word::new(5, OPEN), reply: Word::new(5, marks::PASSED), flags: 0 };
        for (name, after, want) in [
            ("nothing", before, true),
            ("other half, same words", State { flags: 1, ..before }, true),
            ("client spoke", State { original: Word::new(6, OPEN), ..before }, false),
            ("server finished within the tick", State { reply: Word::new(5, marks::FIN), ..before }, false),
        ] {
            assert_eq!(unmoved(&before, &after), want, "{name}");
        }
    }

    proptest! {
        /// The collector and the packet path agree on which flows are over.
        #[test]
        fn sweep_and_step_agree(
            words in any::<(u64, u64)>(),
            flags in 0u8..4,
            now in any::<u32>(),
            protocol in prop::sample::select(vec![1u8, 6, 17, 58, 132, 47]),
            direction in prop::sample::select(vec![Direction::Original, Direction::Reply]),
        ) {
            let state = State { original: Word(words.0), reply: Word(words.1), flags };
            let facts = Facts { protocol, flags: tcp::ACK, direction, backend: Backend::Active };
            let dropped = should_drop(&state, protocol, Backend::Active, &Timeouts::DEFAULT, now).is_some();
            prop_assert_eq!(dropped, step(Some(state), facts, &Timeouts::DEFAULT, now) == Step::Expired);
        }
    }
}
