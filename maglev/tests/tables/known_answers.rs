//! Tables slot by slot, as Cilium makes them.

use std::{collections::BTreeMap, str::FromStr};

use maglev::fill::{Backend, BackendKey, Filler, Protocol, Seed, Size, fill};

/// One case of `known_answers.txt`, which says what the lines mean.
#[derive(Default)]
struct Case {
    name: String,
    size: Option<Size>,
    seed: Option<Seed>,
    ids: Vec<u32>,
    backends: Vec<Backend>,
    slots: Option<Vec<u32>>,
    counts: BTreeMap<u32, usize>,
    remove: Option<(u32, usize)>,
}

#[test]
fn tables_are_those_of_cilium() {
    let cases = cases(include_str!("known_answers.txt"));
    assert_eq!(cases.len(), 7);
    for case in &cases {
        let ids = table(case, &case.backends);
        if let Some(want) = &case.slots {
            assert_eq!(&ids, want, "{}", case.name);
        }
        assert!(case.slots.is_some() || !case.counts.is_empty(), "{}: nothing to compare with", case.name);
        for (id, want) in &case.counts {
            assert_eq!(ids.iter().filter(|slot| *slot == id).count(), *want, "{}: backend {id}", case.name);
        }
        if let Some((removed, want)) = case.remove {
            let rest: Vec<Backend> =
                case.backends.iter().zip(&case.ids).filter(|(_, id)| **id != removed).map(|(b, _)| *b).collect();
            let after = table(case, &rest);
            let moved = ids.iter().zip(&after).filter(|(old, new)| **old != removed && old != new).count();
            assert_eq!(moved, want, "{}: without {removed}", case.name);
            assert!(!after.contains(&removed), "{}: without {removed}", case.name);
        }
    }
}

/// The table as ids, from the list in both directions and from a [`Filler`]: they must agree.
fn table(case: &Case, backends: &[Backend]) -> Vec<u32> {
    let (size, seed) = (case.size.expect("a table line"), case.seed.expect("a table line"));
    let id =
        |key: &BackendKey| case.ids[case.backends.iter().position(|b| b.key == *key).expect("a backend of the case")];

    let mut forward = Vec::new();
    fill(size, seed, backends, &mut forward);
    let forward: Vec<u32> = forward.iter().map(|&i| id(&backends[i as usize].key)).collect();

    let reversed: Vec<Backend> = backends.iter().rev().copied().collect();
    let mut backward = Vec::new();
    fill(size, seed, &reversed, &mut backward);
    let backward: Vec<u32> = backward.iter().map(|&i| id(&reversed[i as usize].key)).collect();
    assert_eq!(forward, backward, "{}: the order of the input", case.name);

    let mut filler = Filler::new(size, seed);
    for backend in backends {
        filler.set(backend.key, backend.weight, id(&backend.key));
    }
    let mut filled = Vec::new();
    filler.fill(&mut filled);
    assert_eq!(forward, filled, "{}: the filler", case.name);
    forward
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').expect("a word and its values");
        if word == "case" {
            cases.push(Case { name: rest.to_string(), ..Case::default() });
            continue;
        }
        let case = cases.last_mut().expect("a case line first");
        let values: Vec<&str> = rest.split(' ').collect();
        match (word, values.as_slice()) {
            ("table", [size, seed]) => {
                case.size = Some(Size::new(number(size)).expect("a known size"));
                case.seed = Some(Seed::parse(seed).expect("a seed"));
            }
            ("backend", [id, address, port, protocol, weight]) => {
                case.ids.push(number(id));
                let protocol = match *protocol {
                    "TCP" => Protocol::Tcp,
                    "UDP" => Protocol::Udp,
                    other => panic!("protocol {other}"),
                };
                let key = BackendKey::new(address.parse().expect("an address"), number(port), protocol);
                case.backends.push(Backend { key, weight: number(weight) });
            }
            ("slots", [runs]) => {
                let runs = runs.split(',').map(|run| run.strip_suffix(')').and_then(|run| run.split_once('(')));
                let runs = runs.map(|run| run.expect("ID(COUNT)"));
                case.slots = Some(runs.flat_map(|(id, count)| vec![number(id); number(count)]).collect());
            }
            ("count", [id, slots]) => {
                case.counts.insert(number(id), number(slots));
            }
            ("remove", [id, moved]) => case.remove = Some((number(id), number(moved))),
            (word, values) => panic!("{word} with {} values", values.len()),
        }
    }
    cases
}

fn number<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}
