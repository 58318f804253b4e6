//! One packet: what it does to a flow.

use crate::{
    entry::{State, Word, marks},
    tcp::{self, Phase},
    timeouts::Timeouts,
    tuple::protocol,
};

/// Which way a packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the side that opened the flow.
    Original,
    /// Back to it.
    Reply,
}

/// What has become of the flow's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// Takes new connections.
    Active,
    /// Serves what it has, takes nothing new: terminating and still serving (KEP-1672).
    Draining,
    /// Its flows are over.
    Gone,
}

/// What a decision must know of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// IP [protocol] number.
    pub protocol: u8,
    /// Byte 13 of the TCP header ([`tcp`]); other protocols are not asked for any.
    pub flags: u8,
    /// The direction of the half that the packet's tuple found.
    pub direction: Direction,
    /// The flow's backend. Only packets of the original direction care.
    pub backend: Backend,
}

/// What to do with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No flow, and the packet may open one: choose a backend.
    New,
    /// No flow, and a TCP packet from the middle of one: a table that every node agrees on (Maglev) tells its backend,
    /// nothing else does.
    Stray,
    /// TCP flags that no TCP sends: drop the packet, the flow stays as it is.
    Invalid,
    /// The flow is over: silent for too long, without a backend, or dialled anew while its backend drains. Judged on
    /// one half, ask again with the [joined](crate::Entry::joined) state; if that is over too, forget both halves and
    /// step without state.
    Expired,
    /// The flow goes on: rewrite the packet as the entry says.
    Keep(Change),
}

/// What a packet changes in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The word of the packet's direction from here on.
    pub word: Word,
    /// How far the flow has come with this packet.
    pub phase: Phase,
    /// The word differs: write it to this half, in place. Of packets that say nothing new, one per tick.
    pub store: bool,
    /// The other half must know too: write the word there as well.
    pub share: bool,
    /// The flow has proved itself with this packet: move both halves to the tier that evicts nothing, unless they are
    /// there.
    pub promote: bool,
}

/// Advances a flow by one packet at `now` ([ticks](crate::timeouts::TICK_NS)). Pure: no clock, no map, no packet.
#[inline(always)]
pub const fn step(state: Option<State>, facts: Facts, timeouts: &Timeouts, now: u32) -> Step {
    let is_tcp = facts.protocol == protocol::TCP;
    if is_tcp && !tcp::is_valid(facts.flags) {
        return Step::Invalid;
    }
    let Some(state) = state else {
        return if is_tcp && !tcp::is_first(facts.flags) { Step::Stray } else { Step::New };
    };
    let phase = tcp::phase(&state);
    if is_over(&state, facts.protocol, phase, timeouts, now) || must_move(&state, phase, facts, now) {
        return Step::Expired;
    }
    let before = state.word(facts.direction);
    let word = if is_tcp {
        tcp::advance(&state, phase, facts.direction, facts.flags, now)
    } else {
        Word::new(now, before.marks() | marks::PASSED | tcp::confirmation(&state, facts.direction))
    };
    let store = word.0 != before.0;
    // Whether a RST holds is a matter of which tick is later: both halves must know both.
    let resets = word.has(marks::RST) || other(&state, facts.direction).has(marks::RST);
    Step::Keep(Change {
        word,
        phase: tcp::phase(&state.with(facts.direction, word)),
        store,
        share: store && (word.marks() != before.marks() || resets),
        promote: word.has(marks::CONFIRMED) && !before.has(marks::CONFIRMED),
    })
}

impl State {
    /// The state that a first packet makes: one that [`step`] called [`Step::New`], or a [`Step::Stray`] that found
    /// its backend. `None` for a RST, after which there is nothing to keep. Both halves start with this state, each
    /// with its own [`flags`](crate::entry::flags).
    #[inline(always)]
    pub const fn opened(facts: Facts, flags: u8, now: u32) -> Option<Self> {
        let mut marks = marks::PASSED;
        if facts.protocol == protocol::TCP {
            if facts.flags & tcp::RST != 0 {
                return None;
            }
            if facts.flags & tcp::FIN != 0 {
                marks |= marks::FIN;
            }
        }
        Some(Self { original: Word::new(now, marks), reply: Word(0), flags })
    }

    /// How far the flow has come.
    #[inline(always)]
    pub const fn phase(&self) -> Phase {
        tcp::phase(self)
    }
}

impl Backend {
    /// What a backend is to its flows once its endpoint is removed, or terminates without serving. As behind
    /// kube-proxy, TCP connections stay where they are, since the pod may well live on outside its Service;
    /// `close_tcp` ends them. Everything else chooses anew.
    #[inline(always)]
    pub const fn removed(protocol: u8, close_tcp: bool) -> Self {
        if protocol == protocol::TCP && !close_tcp { Self::Draining } else { Self::Gone }
    }
}

/// True once a flow has been silent for its lifetime.
#[inline(always)]
pub(crate) const fn is_over(state: &State, protocol: u8, phase: Phase, timeouts: &Timeouts, now: u32) -> bool {
    state.idle(now) >= timeouts.lifetime(protocol, phase)
}

/// True if the packet must find another backend: its own is gone, or drains and the packet dials anew.
#[inline(always)]
const fn must_move(state: &State, phase: Phase, facts: Facts, now: u32) -> bool {
    match (facts.direction, facts.backend) {
        (Direction::Original, Backend::Gone) => true,
        (Direction::Original, Backend::Draining) => dials_anew(state, phase, facts, now),
        (Direction::Original, Backend::Active)
        | (Direction::Reply, Backend::Active | Backend::Draining | Backend::Gone) => false,
    }
}

/// True for a SYN that no connection can own: the last one has ended, or none was answered yet.
#[inline(always)]
const fn dials_anew(state: &State, phase: Phase, facts: Facts, now: u32) -> bool {
    let answered = matches!(phase, Phase::Opening) && state.reply.has(marks::PASSED);
    facts.protocol == protocol::TCP && tcp::begins(state, phase, facts.direction, facts.flags, now) && !answered
}

#[inline(always)]
const fn other(state: &State, direction: Direction) -> Word {
    match direction {
        Direction::Original => state.reply,
        Direction::Reply => state.original,
    }
}

#[cfg(test)]
mod tests;
