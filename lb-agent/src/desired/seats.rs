//! Which units have a frontend: only they show in the maps.
//!
//! A unit that lost all of its frontends to an older Service keeps its ids and lines, so that it can follow at once,
//! but what nobody can reach is not written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{state::Frontend, unit::Unit};
use crate::model::addr::Family;

/// Names a unit: the number of the service port, and the family.
type Seat = (u32, Family);

/// Units, and how many frontends each has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats {
    units: BTreeMap<Seat, Arc<Unit>>,
    holders: BTreeMap<Frontend, u32>,
    frontends: BTreeMap<Seat, u32>,
    /// Units as they show in the maps.
    shown: BTreeMap<Seat, Arc<Unit>>,
    changed: BTreeSet<Seat>,
}

/// A unit as it showed, and as it shows.
pub(crate) struct Change {
    pub(crate) before: Option<Arc<Unit>>,
    pub(crate) now: Option<Arc<Unit>>,
}

impl Seats {
    /// Enters a unit in the place of its port's older one.
    pub(crate) fn set_unit(&mut self, unit: Arc<Unit>) {
        let seat = (unit.id, unit.family);
        self.units.insert(seat, unit);
        self.changed.insert(seat);
    }

    /// Removes a unit.
    pub(crate) fn remove_unit(&mut self, unit: &Unit) {
        let seat = (unit.id, unit.family);
        self.units.remove(&seat);
        self.changed.insert(seat);
    }

    /// Gives a frontend to a service port, or to nobody.
    pub(crate) fn give(&mut self, frontend: Frontend, holder: Option<u32>) {
        let before = match holder {
            Some(holder) => self.holders.insert(frontend, holder),
            None => self.holders.remove(&frontend),
        };
        if before == holder {
            return;
        }
        if let Some(holder) = holder {
            let seat = (holder, frontend.family());
            *self.frontends.entry(seat).or_default() += 1;
            self.changed.insert(seat);
        }
        if let Some(before) = before {
            let seat = (before, frontend.family());
            let count = self.frontends.get_mut(&seat).expect("a holder has at least this frontend");
            *count -= 1;
            if *count == 0 {
                self.frontends.remove(&seat);
            }
            self.changed.insert(seat);
        }
    }

    /// Returns each unit whose part in the maps may have changed.
    pub(crate) fn follow(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for seat in std::mem::take(&mut self.changed) {
            let now = self.units.get(&seat).filter(|_| self.frontends.contains_key(&seat)).cloned();
            let before = match &now {
                Some(unit) => self.shown.insert(seat, Arc::clone(unit)),
                None => self.shown.remove(&seat),
            };
            changes.push(Change { before, now });
        }
        changes
    }
}
