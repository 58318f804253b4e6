//! Plays any packets through one flow: no panic, every invariant of the replay, the same verdicts twice.
#![no_main]

#[path = "../../../conntrack/tests/corpus/replay.rs"]
mod replay;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(replay::replay(bytes), replay::replay(bytes));
});
