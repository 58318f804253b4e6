//! What readers find in the middle of a plan.

use std::{collections::BTreeSet, net::IpAddr};

use lb_agent::{apply::apply, maps::memory::MemoryStore};
use proptest::prelude::*;

use crate::{
    cluster::{any_steps, relist},
    reader::{self, Answer, Key, Seen, Table},
    world::{World, plan_text},
};

/// Checks a moment between two states.
fn check(old: &Seen, now: &Seen, new: &Seen) -> Result<(), String> {
    let keys: BTreeSet<_> = [old, now, new].iter().flat_map(|seen| seen.frontends.keys()).collect();
    for key in keys {
        let [before, current, after] = [old, now, new].map(|seen| seen.frontends.get(key));
        if same_choice(before, current) || same_choice(after, current) {
            check_ranges(old, key, now, new).map_err(|ranges| format!("{key:?} {ranges}"))?;
        } else {
            return Err(format!("{key:?} is neither old nor new: {before:?}, {current:?}, {after:?}"));
        }
    }
    for address in now.addresses.keys().filter(|address| now.refuses(**address)) {
        // Only a port that both sides refuse, or that is refused on the side that lacks it, may be refused between.
        let all = |side: &Seen, other: &Seen| {
            side.at(*address).all(|(key, _)| {
                now.frontends.contains_key(key) || (other.refuses(*address) && !other.frontends.contains_key(key))
            })
        };
        if !all(old, new) || !all(new, old) {
            return Err(format!("{address} refuses ports that are served"));
        }
    }
    Ok(())
}

/// True if both choose from the same endpoints in the same way; ranges are looked at apart.
fn same_choice(a: Option<&Answer>, b: Option<&Answer>) -> bool {
    match (a, b) {
        (Some(Answer::Table(a)), Some(Answer::Table(b))) => {
            a.kind == b.kind
                && a.affinity_ticks == b.affinity_ticks
                && a.endpoints == b.endpoints
                && a.ranges.is_some() == b.ranges.is_some()
        }
        (a, b) => a == b,
    }
}

/// A client that is admitted before and after is admitted in between. One that is not, neither here nor on another
/// frontend of the service, is not.
fn check_ranges(old: &Seen, key: &Key, now: &Seen, new: &Seen) -> Result<(), String> {
    let Some(Answer::Table(Table { service, ranges: Some(current), .. })) = now.frontends.get(key) else {
        return Ok(());
    };
    let tables = |seen: &Seen| -> Vec<(Key, BTreeSet<(u32, IpAddr)>)> {
        let table = |(key, answer): (&Key, &Answer)| match answer {
            Answer::Table(table) if table.service == *service => Some((*key, table.ranges.clone()?)),
            Answer::Table(_) | Answer::Refuse | Answer::Drop | Answer::Canary => None,
        };
        seen.frontends.iter().filter_map(table).collect()
    };
    let sides = [tables(old), tables(new)];
    if !current.iter().all(|range| sides.iter().flatten().any(|(_, ranges)| ranges.contains(range))) {
        return Err(format!("a foreign range in {current:?}"));
    }
    let [before, after] = sides.map(|side| side.into_iter().find(|(other, _)| other == key).map(|(_, ranges)| ranges));
    let (Some(first), Some(last)) = (before.clone().or(after.clone()), after.or(before)) else {
        return Err("ranges from nowhere".to_owned());
    };
    if first.intersection(&last).any(|range| !current.contains(range)) {
        return Err(format!("a range is missing in {current:?}"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_prefix_is_closed(first in any_steps(0..12), second in any_steps(1..6)) {
        let mut world = World::new(MemoryStore::new());
        first.iter().for_each(|step| world.happen(step));
        world.settle();
        let (store, held) = (world.maps().clone(), world.reconciler.held().clone());
        let old = reader::read(&store).unwrap();
        second.iter().for_each(|step| world.happen(step));
        let outcome = world.step();
        prop_assert_eq!(&outcome.failures, &vec![]);
        prop_assert_eq!(world.reconciler.held().state(), world.reconciler.desired().state(), "apply after diff is what was wanted");
        let new = reader::read(world.maps()).unwrap();
        for end in 0..=outcome.plan.len() {
            let (mut store, mut held) = (store.clone(), held.clone());
            apply(&outcome.plan[..end], &mut held, &mut store);
            let now = reader::read(&store).map_err(|torn| format!("{torn} after {end} of\n{}", plan_text(&outcome)));
            let checked = now.and_then(|now| check(&old, &now, &new));
            prop_assert!(checked.is_ok(), "{} after {end} of\n{}", checked.unwrap_err(), plan_text(&outcome));
        }
    }

    #[test]
    fn before_the_first_list_nothing_is_taken_away(first in any_steps(0..12), second in any_steps(1..6)) {
        let mut world = World::new(MemoryStore::new());
        first.iter().for_each(|step| world.happen(step));
        world.settle();
        let old = reader::read(world.maps()).unwrap();
        let mut restarted = World::unsynced(world.maps().clone());
        restarted.facts = world.facts.clone();
        for step in &second {
            restarted.happen(step);
            restarted.step();
            let now = reader::read(restarted.maps()).unwrap();
            for (key, answer) in &old.frontends {
                prop_assert!(same_choice(now.frontends.get(key), Some(answer)), "{key:?} was {answer:?}, is {:?}", now.frontends.get(key));
            }
            for (address, flags) in &old.addresses {
                prop_assert_eq!(now.addresses.get(address).copied().unwrap_or(0) & flags, *flags);
            }
        }
        restarted.reconciler.synced();
        restarted.settle();
        prop_assert_eq!(restarted.dump(), restarted.dump_from_scratch());
        // The objects that the first life had come back.
        restarted.event(relist(&world.model));
        restarted.facts = world.facts.clone();
        restarted.settle();
        prop_assert_eq!(restarted.dump(), world.dump());
    }
}
