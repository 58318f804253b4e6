//! Units to the entries that the maps should hold.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Desired,
    claims::Claim,
    state::{Backend, BackendId, Frontend, Range},
    unit::Unit,
};
use crate::{ids::PortName, plan::Keys};

impl Desired {
    /// Puts a unit in the place of the one that the port had in that family.
    pub(super) fn replace(
        &mut self,
        port: &PortName,
        created: i128,
        old: Option<&Unit>,
        new: Option<&Arc<Unit>>,
        touched: &mut Keys,
    ) {
        if let Some(new) = new {
            self.tables.extend(new.tables.iter().flatten().cloned());
            self.seats.set_unit(Arc::clone(new));
            for (frontend, via, word) in &new.frontends {
                let claim = Claim { created, port: port.clone(), service: new.id, via: *via, word: *word };
                self.claims.set(*frontend, claim);
                self.settle(frontend, touched);
            }
        }
        let Some(old) = old else { return };
        let new = new.map(|new| &**new);
        for (frontend, ..) in &old.frontends {
            if new.is_none_or(|new| !new.has_frontend(frontend)) {
                self.claims.withdraw(frontend, old.id);
                self.settle(frontend, touched);
            }
        }
        for (line, _) in old.tables.iter().flatten().filter(|(line, _)| new.is_none_or(|new| !new.has_table(*line))) {
            self.tables.remove(line);
            touched.runs.insert(*line);
        }
        let kept: BTreeSet<BackendId> =
            new.into_iter().flat_map(|new| new.backends.iter().map(|(id, _)| *id)).collect();
        for (id, _) in old.backends.iter().filter(|(id, _)| !kept.contains(id)) {
            self.room.ids.drop_backend(*id);
            touched.backends.insert(*id);
        }
        if new.is_none() {
            self.seats.remove_unit(old);
        }
    }

    /// Gives a frontend to whoever claims it first.
    fn settle(&mut self, frontend: &Frontend, touched: &mut Keys) {
        let winner = self.claims.winner(frontend);
        self.seats.give(*frontend, winner.map(|claim| claim.service));
        let word = winner.map(|claim| claim.word);
        let before = match word {
            Some(word) => self.want.frontends.insert(*frontend, word),
            None => self.want.frontends.remove(frontend),
        };
        if before == word {
            return;
        }
        touched.frontends.insert(*frontend);
        if let Some(line) = word.and_then(|word| self.named.add(word)) {
            self.want.runs.insert(line, Arc::clone(&self.tables[&line]));
            touched.runs.insert(line);
        }
        if let Some(line) = before.and_then(|word| self.named.remove(word)) {
            self.want.runs.remove(&line);
            touched.runs.insert(line);
        }
    }

    /// Shows the backends and ranges of the units that have a frontend, and of no others.
    pub(super) fn follow_seats(&mut self, touched: &mut Keys) {
        for change in self.seats.follow() {
            let (old, new) = (Entries::of(&change.before), Entries::of(&change.now));
            let kept: BTreeSet<BackendId> = new.backends.iter().map(|(id, _)| *id).collect();
            for (id, _) in old.backends.iter().filter(|(id, _)| !kept.contains(id)) {
                self.want.backends.remove(id);
                touched.backends.insert(*id);
            }
            for (id, backend) in new.backends {
                if self.want.backends.insert(*id, *backend) != Some(*backend) {
                    touched.backends.insert(*id);
                }
            }
            for range in old.ranges.iter().filter(|range| !new.ranges.contains(range)) {
                self.want.ranges.remove(range);
                touched.ranges.insert(*range);
            }
            for range in new.ranges.iter().filter(|range| !old.ranges.contains(range)) {
                self.want.ranges.insert(*range);
                touched.ranges.insert(*range);
            }
        }
    }
}

/// What a unit shows besides its frontends and tables.
struct Entries<'a> {
    backends: &'a [(BackendId, Backend)],
    ranges: &'a [Range],
}

impl<'a> Entries<'a> {
    fn of(unit: &'a Option<Arc<Unit>>) -> Self {
        match unit {
            Some(unit) => Self { backends: &unit.backends, ranges: &unit.ranges },
            None => Self { backends: &[], ranges: &[] },
        }
    }
}
