//! What a table depends on, and what it does not.

use std::collections::BTreeMap;

use crate::backends::{backends, counts, key, table, weighted};
use maglev::fill::{Backend, Digest, Filler, Seed, Size, digest, fill};
use proptest::{prelude::*, sample::Index};

#[test]
fn edges() {
    let one = backends(0, 1);
    let silent = weighted(&[0, 0]);
    for (name, backends, want) in [
        ("nobody", &[] as &[Backend], None),
        ("nobody with a weight", &silent, None),
        ("one takes all", &one, Some(0)),
        ("one that speaks beside one that does not", &weighted(&[0, 3]), Some(1)),
    ] {
        // What is in the vector before does not matter.
        let mut out = vec![7; 3];
        fill(Size::new(251).expect("a known size"), Seed::DEFAULT, backends, &mut out);
        assert_eq!(out, want.map_or(vec![], |i| vec![i; 251]), "{name}");
    }
}

#[test]
fn a_key_that_comes_twice_counts_once_with_the_larger_weight() {
    let mut doubled = weighted(&[1, 2, 0]);
    doubled.extend(weighted(&[3, 1, 2]));
    assert_eq!(
        table(251, &doubled),
        table(251, &weighted(&[3, 2, 2])).iter().map(|&i| [0, 1, 5][i as usize]).collect::<Vec<_>>()
    );
}

#[test]
fn more_backends_than_slots_leave_the_last_by_key_out() {
    let backends = backends(0, 300);
    let counts = counts(&table(251, &backends), &backends);
    let mut by_key: Vec<_> = backends.iter().zip(counts).map(|(b, slots)| (b.key, slots)).collect();
    by_key.sort();
    let slots: Vec<u32> = by_key.into_iter().map(|(_, slots)| slots).collect();
    assert_eq!(slots, [vec![1; 251], vec![0; 49]].concat());
}

#[test]
fn the_digest_tells_tables_apart_and_not_their_indices() {
    let digest_of = |backends: &[Backend]| digest(&table(251, backends), backends);
    let three = backends(0, 3);
    let mut turned = three.clone();
    turned.reverse();
    assert_eq!(digest_of(&three), digest_of(&turned), "the order of the list");
    assert_ne!(digest_of(&three), digest_of(&backends(0, 2)), "one backend fewer");
    assert_ne!(digest_of(&three), digest_of(&backends(1, 3)), "other backends");
    assert_ne!(digest_of(&three), digest_of(&weighted(&[1, 1, 2])), "another weight");
    let slots = table(251, &three);
    assert_eq!(Digest::of_keys(slots.iter().map(|&i| &three[i as usize].key)), digest_of(&three), "from keys");
}

#[test]
fn digests_stay_what_they_are() {
    let three = backends(0, 3);
    for (name, size, weights, want) in [
        ("nobody", 251, vec![], "0000000000000000"),
        ("one backend", 251, vec![1], "4ddb014c495cf1ed"),
        ("three backends", 251, vec![1, 1, 1], "25a76a30fdf1b4fc"),
        ("weights", 16_381, vec![1, 2, 3], "f182e5de55b06cc1"),
        ("the paper's size", 65_537, vec![1, 1, 1], "90dd6b5cb9cb1364"),
    ] {
        let backends: Vec<Backend> = three.iter().zip(&weights).map(|(b, &weight)| Backend { weight, ..*b }).collect();
        assert_eq!(digest(&table(size, &backends), &backends).to_string(), want, "{name}");
    }
}

/// A change to a set of backends.
#[derive(Clone, Debug)]
enum Change {
    Set { i: u32, weight: u32, value: u32 },
    Remove { i: Index },
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0u32..200, prop_oneof![Just(0), Just(1), 1u32..5, 1u32..101], any::<u32>())
            .prop_map(|(i, weight, value)| Change::Set { i, weight, value }),
        2 => any::<Index>().prop_map(|i| Change::Remove { i }),
    ]
}

proptest! {
    #[test]
    fn a_filler_fills_as_from_nothing(size in prop::sample::select(&Size::ALL[..5]), start in 0u32..100, changes in prop::collection::vec(change(), 1..15)) {
        let size = Size::new(size).expect("a known size");
        let mut filler = Filler::new(size, Seed::DEFAULT);
        let mut wanted = BTreeMap::new();
        for i in 0..start {
            filler.set(key(0, i), 1, i);
            wanted.insert(key(0, i), (1, i));
        }
        let mut before = Vec::new();
        filler.fill(&mut before);
        for change in changes {
            let changed = match change {
                Change::Set { i, weight, value } => {
                    wanted.insert(key(0, i), (weight, value));
                    filler.set(key(0, i), weight, value)
                }
                Change::Remove { i } if wanted.is_empty() => filler.remove(&key(0, i.index(200) as u32)),
                Change::Remove { i } => {
                    let gone = *wanted.keys().nth(i.index(wanted.len())).expect("an index of a key");
                    wanted.remove(&gone);
                    filler.remove(&gone)
                }
            };
            prop_assert!(filler.keys().eq(wanted.keys()));

            let list: Vec<Backend> = wanted.iter().map(|(key, (weight, _))| Backend { key: *key, weight: *weight }).collect();
            let values: Vec<u32> = wanted.values().map(|(_, value)| *value).collect();
            let mut full = Vec::new();
            fill(size, Seed::DEFAULT, &list, &mut full);
            full.iter_mut().for_each(|slot| *slot = values[*slot as usize]);
            let mut incremental = Vec::new();
            filler.fill(&mut incremental);
            prop_assert!(incremental == full, "{change:?}");
            if !changed {
                prop_assert!(incremental == before, "{change:?} changed the table");
            }
            before = incremental;
        }
    }

    #[test]
    fn only_keys_and_weights_count(size in prop::sample::select(&Size::ALL[..6]), weights in prop::collection::vec(0u32..101, 1..100), shuffled in any::<prop::sample::Selector>()) {
        let backends = weighted(&weights);
        let mut other = backends.clone();
        let mut pool: Vec<usize> = (0..backends.len()).collect();
        for place in &mut other {
            let chosen = shuffled.select(0..pool.len());
            *place = backends[pool.swap_remove(chosen)];
        }
        let (a, b) = (table(size, &backends), table(size, &other));
        let keys = |table: &[u32], list: &[Backend]| table.iter().map(|&i| list[i as usize].key).collect::<Vec<_>>();
        prop_assert!(keys(&a, &backends) == keys(&b, &other));
        prop_assert_eq!(digest(&a, &backends), digest(&b, &other));
    }

    #[test]
    fn slots_go_to_weights_alone(size in prop::sample::select(&Size::ALL[..6]), weights in prop::collection::vec(prop_oneof![Just(0u32), any::<u32>()], 0..50)) {
        let backends = weighted(&weights);
        let table = table(size, &backends);
        prop_assert_eq!(table.len(), if weights.iter().any(|&w| w > 0) { size as usize } else { 0 });
        for (slots, weight) in counts(&table, &backends).iter().zip(&weights) {
            prop_assert_eq!(*slots > 0, *weight > 0);
        }
    }
}
