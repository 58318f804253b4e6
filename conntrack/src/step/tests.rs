use proptest::prelude::*;

use super::*;
use crate::{
    entry::flags,
    tcp::{ACK, FIN, PSH, RST, SYN},
};

const T: u32 = 1000;
const PASSED: u8 = marks::PASSED;
const OPEN: u8 = marks::PASSED | marks::CONFIRMED;

fn state(original: (u32, u8), reply: (u32, u8)) -> State {
    State { original: Word::new(original.0, original.1), reply: Word::new(reply.0, reply.1), flags: 0 }
}

fn facts(protocol: u8, flags: u8, direction: Direction, backend: Backend) -> Facts {
    Facts { protocol, flags, direction, backend }
}

fn advance(state: Option<State>, facts: Facts, now: u32) -> Step {
    step(state, facts, &Timeouts::DEFAULT, now)
}

/// Plays packets of (direction, flags, ticks since the last one) and returns the state and the last change.
fn play(mut state: State, protocol: u8, packets: &[(Direction, u8, u32)]) -> (State, Option<Change>) {
    let (mut now, mut last) = (state.original.ticks(), None);
    for (direction, flags, after) in packets {
        now += after;
        match advance(Some(state), facts(protocol, *flags, *direction, Backend::Active), now) {
            Step::Keep(change) => {
                state = state.with(*direction, change.word);
                last = Some(change);
            }
            Step::New | Step::Stray | Step::Invalid | Step::Expired => panic!("flow ended at {now}: {state:?}"),
        }
    }
    (state, last)
}

fn opened(protocol: u8, tcp_flags: u8, entry_flags: u8) -> State {
    State::opened(facts(protocol, tcp_flags, Direction::Original, Backend::Active), entry_flags, T).expect("no RST")
}

#[test]
fn verdict_table() {
    use Backend::{Active, Draining, Gone};
    use Direction::{Original, Reply};
    use protocol::{ICMP, TCP, UDP};
    let open = Some(state((T, OPEN), (T, PASSED)));
    let half_open = Some(state((T, PASSED), (0, 0)));
    let answered = Some(state((T, PASSED), (T, PASSED)));
    let half_closed = Some(state((T, OPEN | marks::FIN), (T, PASSED)));
    let closed = Some(state((T, OPEN | marks::FIN), (T, PASSED | marks::FIN)));
    let refused = Some(state((T, PASSED), (T, marks::RST)));
    let reset = Some(state((T, OPEN | marks::RST), (T, PASSED)));
    for (name, state, protocol, flags, direction, backend, now, want) in [
        ("SYN opens", None, TCP, SYN, Original, Active, T, "new"),
        ("SYN with ECN opens", None, TCP, SYN | 0xc0, Original, Active, T, "new"),
        ("datagram opens", None, UDP, 0, Original, Active, T, "new"),
        ("echo opens", None, ICMP, 0, Original, Active, T, "new"),
        ("ACK of no flow", None, TCP, ACK, Original, Active, T, "stray"),
        ("FIN of no flow", None, TCP, FIN | ACK, Original, Active, T, "stray"),
        ("RST of no flow", None, TCP, RST, Original, Active, T, "stray"),
        ("SYN|ACK of no flow", None, TCP, SYN | ACK, Original, Active, T, "stray"),
        ("no flags", open, TCP, 0, Original, Active, T, "invalid"),
        ("SYN|FIN", None, TCP, SYN | FIN, Original, Active, T, "invalid"),
        ("SYN|RST", open, TCP, SYN | RST, Reply, Active, T, "invalid"),
        ("christmas tree", open, TCP, 0x3f, Original, Active, T, "invalid"),
        ("UDP is not asked for flags", None, UDP, SYN | FIN, Original, Active, T, "new"),
        ("data", open, TCP, ACK | PSH, Original, Active, T, "keep"),
        ("last tick of a day", open, TCP, ACK, Reply, Active, T + 863_999, "keep"),
        ("a day of silence", open, TCP, ACK, Reply, Active, T + 864_000, "expired"),
        ("a minute half-open", half_open, TCP, SYN, Original, Active, T + 600, "expired"),
        ("ten seconds closed", closed, TCP, ACK, Original, Active, T + 100, "expired"),
        ("forty seconds reset", reset, TCP, ACK, Original, Active, T + 400, "expired"),
        ("drains: data stays", open, TCP, ACK, Original, Draining, T, "keep"),
        ("drains: FIN stays", half_closed, TCP, FIN | ACK, Reply, Draining, T, "keep"),
        ("drains: SYN of a live flow stays", open, TCP, SYN, Original, Draining, T, "keep"),
        ("drains: SYN of a half-closed flow stays", half_closed, TCP, SYN, Original, Draining, T, "keep"),
        ("drains: unanswered SYN moves", half_open, TCP, SYN, Original, Draining, T, "expired"),
        ("drains: answered SYN stays", answered, TCP, SYN, Original, Draining, T, "keep"),
        ("drains: SYN in time-wait moves", closed, TCP, SYN, Original, Draining, T, "expired"),
        ("drains: SYN right behind a RST stays", reset, TCP, SYN, Original, Draining, T + 9, "keep"),
        ("drains: SYN a second behind a RST moves", reset, TCP, SYN, Original, Draining, T + 10, "expired"),
        ("drains: SYN right behind a refusal moves", refused, TCP, SYN, Original, Draining, T, "expired"),
        ("drains: datagrams stay", answered, UDP, 0, Original, Draining, T, "keep"),
        ("time-wait reuse stays on a good backend", closed, TCP, SYN, Original, Active, T, "keep"),
        ("gone: datagram moves", answered, UDP, 0, Original, Gone, T, "expired"),
        ("gone: data moves", open, TCP, ACK, Original, Gone, T, "expired"),
        ("gone: an answer under way is delivered", open, TCP, ACK, Reply, Gone, T, "keep"),
    ] {
        let got = match advance(state, facts(protocol, flags, direction, backend), now) {
            Step::New => "new",
            Step::Stray => "stray",
            Step::Invalid => "invalid",
            Step::Expired => "expired",
            Step::Keep(_) => "keep",
        };
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn phases_along_a_connection() {
    use Direction::{Original, Reply};
    let mut state = opened(protocol::TCP, SYN, 0);
    let mut now = T;
    for (name, direction, flags, after, phase, (store, share, promote)) in [
        ("SYN|ACK", Reply, SYN | ACK, 0, Phase::Opening, (true, true, false)),
        ("ACK", Original, ACK, 0, Phase::Established, (true, true, true)),
        ("request in the same tick", Original, ACK | PSH, 0, Phase::Established, (false, false, false)),
        ("answer a tick later", Reply, ACK | PSH, 1, Phase::Established, (true, false, false)),
        ("ACK a tick later", Original, ACK, 0, Phase::Established, (true, false, false)),
        ("client finishes", Original, FIN | ACK, 5, Phase::HalfClosed, (true, true, false)),
        ("server sends on", Reply, ACK | PSH, 0, Phase::HalfClosed, (true, false, false)),
        ("server finishes", Reply, FIN | ACK, 0, Phase::Closed, (true, true, false)),
        ("last ACK", Original, ACK, 1, Phase::Closed, (true, false, false)),
        ("port dialled anew", Original, SYN, 9, Phase::Opening, (true, true, false)),
        ("answered anew", Reply, SYN | ACK, 0, Phase::Opening, (true, true, false)),
        ("confirmed anew", Original, ACK, 0, Phase::Established, (true, true, true)),
        ("client aborts", Original, RST, 1, Phase::Reset, (true, true, false)),
        ("data under way, a tick later", Reply, ACK | PSH, 1, Phase::Established, (true, true, false)),
        ("is reset too", Original, RST, 0, Phase::Reset, (true, true, false)),
    ] {
        now += after;
        let Step::Keep(change) = advance(Some(state), facts(protocol::TCP, flags, direction, Backend::Active), now)
        else {
            panic!("{name}: the flow ended")
        };
        assert_eq!(change.phase, phase, "{name}");
        assert_eq!(
            (change.store, change.share, change.promote),
            (store, share, promote),
            "{name}: store, share, promote"
        );
        state = state.with(direction, change.word);
    }
}

#[test]
fn datagrams_are_confirmed_by_the_second_query() {
    use Direction::{Original, Reply};
    let query = opened(protocol::UDP, 0, 0);
    for (name, packets, phase) in [
        ("queries without an answer", &[(Original, 0, 1), (Original, 0, 1)][..], Phase::Opening),
        ("one answer", &[(Reply, 0, 1)], Phase::Opening),
        ("many answers", &[(Reply, 0, 1), (Reply, 0, 1), (Reply, 0, 1)], Phase::Opening),
        ("a query behind an answer", &[(Reply, 0, 1), (Original, 0, 1)], Phase::Established),
    ] {
        assert_eq!(play(query, protocol::UDP, packets).0.phase(), phase, "{name}");
    }
    let direct = opened(protocol::UDP, 0, flags::DSR);
    let (state, change) = play(direct, protocol::UDP, &[(Original, 0, 1)]);
    assert_eq!(state.phase(), Phase::Established, "with direct server return the second datagram counts");
    assert!(change.is_some_and(|change| change.promote));
}

#[test]
fn direct_server_return_ends_with_the_clients_fin() {
    use Direction::Original;
    let state = opened(protocol::TCP, SYN, flags::DSR);
    for (name, packets, phase) in [
        ("SYN repeated", &[(Original, SYN, 10)][..], Phase::Opening),
        ("ACK behind it", &[(Original, ACK, 1)], Phase::Established),
        ("FIN", &[(Original, ACK, 1), (Original, FIN | ACK, 1)], Phase::Closed),
        ("ACKs of a long answer", &[(Original, FIN | ACK, 1), (Original, ACK, 90), (Original, ACK, 90)], Phase::Closed),
        ("RST", &[(Original, ACK, 1), (Original, RST, 1)], Phase::Reset),
    ] {
        assert_eq!(play(state, protocol::TCP, packets).0.phase(), phase, "{name}");
    }
}

#[test]
fn first_packets() {
    for (name, protocol, tcp_flags, want) in [
        ("SYN", protocol::TCP, SYN, Some(PASSED)),
        ("taken over mid-flow", protocol::TCP, ACK | PSH, Some(PASSED)),
        ("taken over at its end", protocol::TCP, FIN | ACK, Some(PASSED | marks::FIN)),
        ("RST leaves nothing", protocol::TCP, RST | ACK, None),
        ("datagram", protocol::UDP, RST, Some(PASSED)),
    ] {
        let state = State::opened(facts(protocol, tcp_flags, Direction::Original, Backend::Active), flags::DSR, T);
        assert_eq!(state.map(|state| state.original.marks()), want, "{name}");
        assert!(state.is_none_or(|state| state.phase() == Phase::Opening), "{name}: one packet confirms nothing");
    }
}

#[test]
fn removed_backends() {
    for (name, protocol, close_tcp, want) in [
        ("TCP stays", protocol::TCP, false, Backend::Draining),
        ("TCP is closed by option", protocol::TCP, true, Backend::Gone),
        ("UDP moves", protocol::UDP, false, Backend::Gone),
        ("SCTP moves", protocol::SCTP, false, Backend::Gone),
    ] {
        assert_eq!(Backend::removed(protocol, close_tcp), want, "{name}");
    }
}

fn a_direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(vec![Direction::Original, Direction::Reply])
}

fn a_backend() -> impl Strategy<Value = Backend> {
    prop::sample::select(vec![Backend::Active, Backend::Draining, Backend::Gone])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any words in the map, any packet: the same verdict twice, and repeating a packet settles.
    #[test]
    fn repeating_a_packet_settles(
        words in any::<(u64, u64)>(),
        entry_flags in any::<u8>(),
        now in any::<u32>(),
        protocol in prop::sample::select(vec![1u8, 6, 17, 58, 132, 47]),
        tcp_flags in any::<u8>(),
        direction in a_direction(),
        backend in a_backend(),
    ) {
        let state = State { original: Word(words.0), reply: Word(words.1), flags: entry_flags };
        let facts = facts(protocol, tcp_flags, direction, backend);
        let first = advance(Some(state), facts, now);
        prop_assert_eq!(first, advance(Some(state), facts, now));
        let Step::Keep(first) = first else { return Ok(()) };
        prop_assert_eq!(first.store, first.word != state.word(direction));
        prop_assert!(first.store || !(first.share || first.promote));
        let Step::Keep(second) = advance(Some(state.with(direction, first.word)), facts, now) else {
            return Err(TestCaseError::fail("the second copy of a packet ended the flow"));
        };
        let Step::Keep(third) = advance(Some(state.with(direction, second.word)), facts, now) else {
            return Err(TestCaseError::fail("the third copy of a packet ended the flow"));
        };
        prop_assert!(!third.store, "the third copy of a packet changed {:?} to {:?}", second.word, third.word);
    }

    /// Who never receives an answer never leaves the first tier, whatever it sends.
    #[test]
    fn one_side_alone_confirms_nothing(packets in prop::collection::vec((any::<u8>(), 0u32..300), 1..40)) {
        let (mut state, mut now) = (opened(protocol::TCP, SYN, 0), T);
        for (tcp_flags, after) in packets {
            now += after;
            let facts = facts(protocol::TCP, tcp_flags, Direction::Original, Backend::Active);
            if let Step::Keep(change) = advance(Some(state), facts, now) {
                prop_assert!(!change.promote);
                state = state.with(Direction::Original, change.word);
            }
            prop_assert!(matches!(state.phase(), Phase::Opening | Phase::Reset));
        }
    }

    /// A forger who knows the tuple of a flow that speaks at least once a second, backend draining or not, takes
    /// nothing from it: no packet finds the flow ended, and after the next exchange it is live.
    #[test]
    fn forged_packets_break_no_flow(
        backend in prop::sample::select(vec![Backend::Active, Backend::Draining]),
        packets in prop::collection::vec(
            prop_oneof![
                (Just(Direction::Original), prop::sample::select(vec![SYN, RST, RST | ACK, FIN | ACK, SYN | ACK, ACK]), Just(0u32)),
                (a_direction(), prop::sample::select(vec![ACK, ACK | PSH]), 0u32..9),
            ],
            1..200,
        ),
    ) {
        let (mut state, _) = play(
            opened(protocol::TCP, SYN, 0),
            protocol::TCP,
            &[(Direction::Reply, SYN | ACK, 0), (Direction::Original, ACK, 0)],
        );
        let mut now = T;
        let exchange = [(Direction::Original, ACK, 1), (Direction::Reply, ACK, 1), (Direction::Original, ACK, 1)];
        for (direction, tcp_flags, after) in packets.into_iter().chain(exchange) {
            now += after;
            let facts = facts(protocol::TCP, tcp_flags, direction, backend);
            let Step::Keep(change) = advance(Some(state), facts, now) else {
                return Err(TestCaseError::fail(format!("{facts:?} at {now} ended {state:?}")));
            };
            state = state.with(direction, change.word);
        }
        prop_assert!(state.phase().is_live(), "{:?}", state);
    }
}
