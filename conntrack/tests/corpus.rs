//! Replays `conntrack/corpus/`: flows written by hand, and what the fuzz target (`tests/fuzz`) found worth keeping.

#[path = "corpus/replay.rs"]
mod replay;

use std::{collections::BTreeSet, fs, path::Path};

use conntrack::Step;
use proptest::prelude::*;

use crate::replay::replay;

fn kind(step: Step) -> &'static str {
    match step {
        Step::New => "New",
        Step::Stray => "Stray",
        Step::Invalid => "Invalid",
        Step::Expired => "Expired",
        Step::Keep(change) => change.phase.name(),
    }
}

#[test]
fn corpus_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut seen = BTreeSet::new();
    for file in fs::read_dir(&folder).expect("the corpus is part of the crate") {
        let path = file.expect("the corpus is readable").path();
        let bytes = fs::read(&path).expect("the corpus is readable");
        let verdicts = replay(&bytes);
        assert!(!verdicts.is_empty(), "{} plays no packet", path.display());
        assert_eq!(verdicts, replay(&bytes), "{}: the same packets, other verdicts", path.display());
        for (first, last) in verdicts {
            seen.extend([kind(first), kind(last)]);
        }
    }
    let all = ["Closed", "Established", "Expired", "HalfClosed", "Invalid", "New", "Opening", "Reset", "Stray"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all, "the corpus reaches every verdict and phase");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_bytes_replay(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(replay(&bytes), replay(&bytes));
    }

    /// Bytes of packets that a connection is made of: these get further than any bytes.
    #[test]
    fn likely_packets_replay(
        head in 0u8..8,
        packets in prop::collection::vec(
            (
                prop::sample::select(vec![0x02u8, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14]),
                prop::sample::select(vec![0u8, 1, 0, 1, 2, 3, 4]),
                prop::sample::select(vec![0u8, 1, 9, 10, 0x18, 0x3f, 0x7f, 0xbf, 0xff]),
            ),
            0..60,
        ),
    ) {
        let bytes: Vec<u8> = [head].into_iter().chain(packets.into_iter().flat_map(|(a, b, c)| [a, b, c])).collect();
        prop_assert_eq!(replay(&bytes), replay(&bytes));
    }
}
