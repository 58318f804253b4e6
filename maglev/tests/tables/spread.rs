//! How evenly slots are shared, and how few change hands: the paper's bounds, and maglev-hash as the yardstick.

use crate::backends::{backends, counts, key, table, weighted};
use maglev::{
    fill::{Backend, Seed, Size},
    hash, slot,
};
use maglev_hash::MaglevTable;

#[test]
fn equal_backends_differ_by_a_slot_at_most() {
    for size in Size::ALL {
        for count in [1, 2, 3, 10, 100, 250, 1000].into_iter().filter(|count| *count <= size) {
            let backends = backends(0, count);
            let counts = counts(&table(size, &backends), &backends);
            let (min, max) = (counts.iter().min().expect("a backend"), counts.iter().max().expect("a backend"));
            assert!(max - min <= 1, "{size} slots, {count} backends: {min} to {max}");
            // The paper: a table of 100 slots a backend keeps the imbalance below 1 %.
            if size >= 100 * count {
                let over = f64::from(*max) * f64::from(count) / f64::from(size);
                assert!(over < 1.01, "{size} slots, {count} backends: {over} of the average");
            }
        }
    }
}

#[test]
fn slots_are_in_proportion_to_weights() {
    for (name, weights) in [
        ("one and two, which Cilium would take as equal", vec![1, 2]),
        ("three small ones", vec![1, 1, 2]),
        ("a canary", vec![99, 1]),
        ("all that an annotation can say", (1..=100).collect()),
        ("the light ones first", [[1; 50], [100; 50]].concat()),
        ("every weight a large one", vec![u32::MAX, u32::MAX / 2, u32::MAX / 4]),
    ] {
        let backends = weighted(&weights);
        let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let counts = counts(&table(16_381, &backends), &backends);
        for (weight, slots) in weights.iter().zip(counts) {
            let want = 16_381.0 * f64::from(*weight) / sum;
            // Who comes late in the order of keys stays behind by a few turns.
            let near = 2.0 + 16_381.0 / 1000.0;
            assert!((f64::from(slots) - want).abs() <= near, "{name}: weight {weight} has {slots} slots for {want}");
        }
    }
}

#[test]
fn weights_that_no_table_has_room_for_leave_nobody_out() {
    // The light ones' share is a tenth of a slot; each has its turn in the first round.
    let weights = [[1; 100].as_slice(), &[100_000]].concat();
    let backends = weighted(&weights);
    let counts = counts(&table(16_381, &backends), &backends);
    assert!(counts[..100].iter().all(|&slots| slots == 1), "{counts:?}");
}

/// The share of slots that went from one backend that stays to another when one left, least and mean and most.
fn disruption(size: u32, count: u32, sets: u32) -> (f64, f64, f64) {
    let mut shares = Vec::new();
    for set in 0..sets {
        let backends = backends(set, count);
        let before = table(size, &backends);
        let gone = (set * 31) % count;
        let rest: Vec<Backend> = backends.iter().filter(|b| b.key != key(set, gone)).copied().collect();
        let after = table(size, &rest);
        let moved = before.iter().zip(&after).filter(|(old, new)| {
            let old = backends[**old as usize].key;
            old != key(set, gone) && old != rest[**new as usize].key
        });
        shares.push(moved.count() as f64 / f64::from(size));
    }
    let mean = shares.iter().sum::<f64>() / f64::from(sets);
    (shares.iter().copied().fold(1.0, f64::min), mean, shares.iter().copied().fold(0.0, f64::max))
}

#[test]
fn few_slots_move_when_a_backend_leaves() {
    for (size, count, sets) in [(16_381, 100, 100), (65_537, 100, 25), (65_537, 1000, 25)] {
        let (least, mean, most) = disruption(size, count, sets);
        println!("{size} slots, {count} backends: {:.2} % ({:.2} to {:.2})", mean * 100.0, least * 100.0, most * 100.0);
        assert!(mean < 0.015, "{size} slots, {count} backends: {mean} on average");
        assert!(most < 0.03, "{size} slots, {count} backends: {most} at most");
    }
}

/// What flows see of two tables, before and after the last backend left: the most flows of one backend over the
/// average, and the share of flows that moved although their backend stayed.
fn of_flows(before: &[usize], after: &[usize], count: usize) -> (f64, f64) {
    let mut taken = vec![0u32; count];
    before.iter().for_each(|&backend| taken[backend] += 1);
    let most = taken.into_iter().max().expect("a backend");
    let moved = before.iter().zip(after).filter(|(old, new)| **old != count - 1 && old != new).count();
    (f64::from(most) * count as f64 / before.len() as f64, moved as f64 / before.len() as f64)
}

/// maglev-hash keeps its table to itself, so both are asked through the same flows.
#[test]
fn spread_and_disruption_are_those_of_maglev_hash() {
    const SIZE: u32 = 4093;
    const FLOWS: u32 = 20_000;
    const SETS: u32 = 30;
    for count in [5, 20, 40] {
        let last = count as usize - 1;
        let mut sums = [[0.0; 2]; 2];
        for set in 0..SETS {
            let backends = backends(set, count);
            let pick = |table: Vec<u32>| -> Vec<usize> {
                let slot = |flow| slot(hash(&[flow, set], Seed::DEFAULT.flow()), SIZE);
                (0..FLOWS).map(|flow| table[slot(flow) as usize] as usize).collect()
            };
            let ours = of_flows(&pick(table(SIZE, &backends)), &pick(table(SIZE, &backends[..last])), count as usize);

            let names: Vec<String> = backends.iter().map(|b| b.key.to_string()).collect();
            let pick = |of: &[String]| -> Vec<usize> {
                let table = MaglevTable::with_capacity(of.to_vec(), SIZE as usize);
                assert_eq!(table.capacity(), SIZE as usize);
                let backend = |flow| table.get(&(flow, set)).and_then(|name| of.iter().position(|other| other == name));
                (0..FLOWS).map(|flow| backend(flow).expect("a backend")).collect()
            };
            let theirs = of_flows(&pick(&names), &pick(&names[..last]), count as usize);

            for (sum, (most, moved)) in sums.iter_mut().zip([ours, theirs]) {
                sum[0] += most / f64::from(SETS);
                sum[1] += moved / f64::from(SETS);
            }
        }
        let [[our_most, our_moved], [their_most, their_moved]] = sums;
        println!("{count} backends: most {our_most:.4} and {their_most:.4}, moved {our_moved:.4} and {their_moved:.4}");
        assert!((our_most - their_most).abs() < 0.02, "{count} backends, most: {our_most} and {their_most}");
        assert!(our_moved < 1.2 * their_moved + 0.001, "{count} backends, moved: {our_moved} and {their_moved}");
        assert!(their_moved < 1.2 * our_moved + 0.001, "{count} backends, moved: {our_moved} and {their_moved}");
    }
}

#[test]
fn flows_of_random_ports_choose_backends_by_chance() {
    for count in [2, 3, 10, 50] {
        let backends = backends(7, count);
        let table = table(16_381, &backends);
        let mut taken = vec![0u32; count as usize];
        for i in 0..10_000u32 {
            let port = 32_768 + (i.wrapping_mul(0x9e37_79b1) >> 17);
            let client = u32::from_be_bytes([10, 1, 0, 0]) + i % 16;
            let words = [client, u32::from_be_bytes([10, 96, 0, 10]), port << 16 | 80, 6];
            taken[table[slot(hash(&words, Seed::DEFAULT.flow()), 16_381) as usize] as usize] += 1;
        }
        let want = 10_000.0 / f64::from(count);
        let chi: f64 = taken.iter().map(|&n| (f64::from(n) - want).powi(2) / want).sum();
        // Exceeded by chance once in 1000 (Wilson and Hilferty's approximation).
        let freedom = f64::from(count - 1);
        let limit = freedom * (1.0 - 2.0 / (9.0 * freedom) + 3.09 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
        assert!(chi < limit, "{count} backends: {chi} over {limit}: {taken:?}");
    }
}
