//! A cluster's objects, a node, and the loop between them.

use std::time::Duration;

use lb_agent::{
    desired::{Settings, facts::Facts},
    dump::Dump,
    maps::{MapStore, faulty::FaultyStore, memory::MemoryStore},
    model::{Event, Model},
    reconcile::{Backoff, Outcome, Reconciler},
};

use crate::{
    cluster::{Step, facts, relist},
    reader,
};

/// The maps inside a store, which the reader looks at.
pub(crate) trait Inside {
    fn maps(&self) -> &MemoryStore;
}

impl Inside for MemoryStore {
    fn maps(&self) -> &MemoryStore {
        self
    }
}

impl Inside for FaultyStore<MemoryStore> {
    fn maps(&self) -> &MemoryStore {
        self.inner()
    }
}

pub(crate) struct World<S> {
    pub(crate) model: Model,
    pub(crate) facts: Facts,
    pub(crate) reconciler: Reconciler<S>,
    pub(crate) now: Duration,
}

pub(crate) fn settings() -> Settings {
    // The smallest table: the default one makes every step of a Maglev service slow in a debug build.
    Settings { maglev_size: maglev::fill::Size::new(251).unwrap(), ..Settings::default() }
}

impl<S: MapStore + Inside> World<S> {
    /// A synced agent without objects.
    pub(crate) fn new(store: S) -> Self {
        let mut world = Self::unsynced(store);
        world.reconciler.synced();
        world
    }

    /// An agent whose first lists are not in yet.
    pub(crate) fn unsynced(store: S) -> Self {
        let reconciler = Reconciler::new(store, settings(), Backoff::default()).unwrap();
        Self { model: Model::default(), facts: facts(None, &[]), reconciler, now: Duration::ZERO }
    }

    pub(crate) fn happen(&mut self, step: &Step) {
        match step {
            Step::Event(event) => self.event(event.clone()),
            Step::Facts(facts) => self.facts = facts.clone(),
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        let changes = self.model.apply(event);
        self.reconciler.event(changes);
    }

    /// One step; whatever it did, readers find nothing torn.
    pub(crate) fn step(&mut self) -> Outcome {
        let outcome = self.reconciler.step(&self.model, &self.facts, self.now);
        reader::read(self.maps()).unwrap_or_else(|torn| panic!("{torn}, after\n{}", plan_text(&outcome)));
        outcome
    }

    /// Steps, with grace periods that pass, until there is nothing left to do; the last outcome.
    pub(crate) fn settle(&mut self) -> Outcome {
        for _ in 0..1000 {
            let outcome = self.step();
            let more = outcome.grace.is_some_and(|epoch| self.reconciler.passed(epoch));
            if outcome.failures.is_empty() && !more && !self.reconciler.has_work() {
                return outcome;
            }
        }
        panic!("1000 steps were not enough");
    }

    pub(crate) fn maps(&self) -> &MemoryStore {
        self.reconciler.store().maps()
    }

    /// The golden text of what the maps hold.
    pub(crate) fn dump(&self) -> String {
        let desired = self.reconciler.desired();
        let name = |id| desired.port_name(id).map(ToString::to_string);
        Dump { state: self.reconciler.held().state(), name, verbose: false }.text()
    }

    /// The golden text of the same cluster, compiled from nothing on a store that never fails.
    pub(crate) fn dump_from_scratch(&self) -> String {
        let mut fresh = World::new(MemoryStore::new());
        fresh.facts = self.facts.clone();
        fresh.event(relist(&self.model));
        fresh.settle();
        fresh.dump()
    }

    pub(crate) fn problem_texts(&self) -> Vec<String> {
        self.reconciler.problems(self.now).iter().map(|problem| format!("{} {problem}", problem.kind)).collect()
    }
}

pub(crate) fn plan_text(outcome: &Outcome) -> String {
    outcome.plan.iter().map(|op| format!("  {op}\n")).collect()
}
