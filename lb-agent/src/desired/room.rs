//! What is given out of the maps' fixed sizes: ids and lines, with the way back when a service does not fit.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::state::{Frontend, MapState, Run};
use crate::{
    arena::{Arena, ArenaFull},
    grace::Epoch,
    ids::{Given, Ids, IdsFull},
};

/// Says what there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoomError {
    /// The arena.
    #[error(transparent)]
    Arena(#[from] ArenaFull),
    /// The backend ids of a family.
    #[error(transparent)]
    Ids(#[from] IdsFull),
}

/// Ids and lines.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) ids: Ids,
    pub(crate) arena: Arena,
    restored: BTreeMap<Frontend, u32>,
    restored_runs: BTreeMap<u32, Arc<Run>>,
}

/// What one compilation was given so far.
#[derive(Debug, Default)]
pub(crate) struct Receipt {
    backends: Vec<Given>,
    runs: Vec<(u32, Option<Arc<Run>>)>,
}

impl Room {
    pub(crate) fn new(backends: [u32; 2], arena_lines: u32) -> Self {
        Self {
            ids: Ids::new(backends),
            arena: Arena::new(arena_lines),
            restored: BTreeMap::new(),
            restored_runs: BTreeMap::new(),
        }
    }

    /// Remembers what the maps hold, so that it keeps its numbers and its place.
    pub(crate) fn restore(&mut self, held: &MapState) {
        self.ids.restore(held);
        for (line, run) in &held.runs {
            self.arena.seen_generation(run.generation);
            if self.arena.reserve(*line, run.lines()) {
                self.restored_runs.insert(*line, Arc::clone(run));
            }
        }
        for (frontend, word) in &held.frontends {
            if held.run_of(*word).is_some_and(|run| run.family == frontend.family()) {
                self.restored.insert(*frontend, word.line());
            }
        }
    }

    /// Forgets what the maps held at the start: what nobody has claimed is about to be removed.
    pub(crate) fn forget_restored(&mut self) {
        self.ids.forget_restored();
        self.restored.clear();
        self.restored_runs.clear();
    }

    /// Keeps what the maps turn out to hold from being given out, whoever wrote it.
    pub(crate) fn reserve(&mut self, held: &MapState) {
        for id in held.backends.keys() {
            self.ids.reserve_backend(*id);
        }
        for (line, run) in &held.runs {
            self.arena.reserve(*line, run.lines());
        }
    }

    /// Gives an id to a backend.
    pub(crate) fn backend(
        &mut self,
        service: u32,
        address: IpAddr,
        port: u16,
        receipt: &mut Receipt,
    ) -> Result<u32, RoomError> {
        let given = self.ids.backend(service, address, port)?;
        receipt.backends.push(given);
        Ok(given.id.id)
    }

    /// Gives lines to a run: those where the maps held the same content at the start behind one of the frontends, or
    /// free ones and the next generation.
    pub(crate) fn run<'a>(
        &mut self,
        mut run: Run,
        mut frontends: impl Iterator<Item = &'a Frontend>,
        receipt: &mut Receipt,
    ) -> Result<(u32, Arc<Run>), RoomError> {
        let restored = frontends.find_map(|frontend| {
            let line = *self.restored.get(frontend)?;
            self.restored_runs.get(&line).filter(|held| held.same_content(&run)).map(|_| line)
        });
        if let Some(line) = restored {
            let held = self.restored_runs.remove(&line).expect("it was just found");
            receipt.runs.push((line, Some(Arc::clone(&held))));
            return Ok((line, held));
        }
        let line = self.arena.allocate(run.lines())?;
        receipt.runs.push((line, None));
        run.generation = self.arena.next_generation();
        Ok((line, Arc::new(run)))
    }

    /// Takes back what a compilation was given.
    pub(crate) fn cancel(&mut self, receipt: Receipt) {
        for given in receipt.backends {
            self.ids.cancel_backend(given);
        }
        for (line, restored) in receipt.runs {
            match restored {
                Some(run) => drop(self.restored_runs.insert(line, run)),
                None => self.arena.cancel(line),
            }
        }
    }

    /// Frees what waited for an epoch; true if there was anything.
    pub(crate) fn passed(&mut self, epoch: Epoch) -> bool {
        // Both must run.
        self.ids.passed(epoch) | self.arena.passed(epoch)
    }

    /// True if something waits for a grace period.
    pub(crate) fn is_waiting(&self) -> bool {
        self.ids.is_waiting() || self.arena.is_waiting()
    }
}
