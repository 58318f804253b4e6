//! The loop between objects and maps, without clock, threads or kernel.
//!
//! The shell reports changes ([`Reconciler::event`]), calls [`Reconciler::step`] when something has changed or when
//! the last [`Outcome`] asked for it, waits for grace periods, and reads the maps back from time to time. Whatever
//! could not be written stays in the next diff.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    apply::{Cause, Failure, Held, apply},
    desired::{Capacity, Desired, Settings, facts::Facts, problems},
    grace::Epoch,
    maps::{Map, MapStore, StoreError},
    model::{Changes, Model, Name, addr::Family},
    plan::{Keys, Op, additions, diff_keys},
    problem::Problem,
};

/// For how long slices may be without their Service before that counts as a problem.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before a failed write is tried again: `first`, then twice as long each time, up to `longest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after that many failures in a row, from 1.
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The map.
    pub map: Map,
    /// Entries in use; of the arena, lines in use or waiting for a grace period.
    pub used: u32,
    /// Entries that it has room for.
    pub capacity: u32,
}

/// What a step did, and what it asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was planned, in order.
    pub plan: Vec<Op>,
    /// What of it was not done.
    pub failures: Vec<Failure>,
    /// Everything that is wrong at the moment.
    pub problems: BTreeSet<Problem>,
    /// Something was taken out of use: to be reported by [`Reconciler::passed`] when every program that runs now has
    /// ended.
    pub grace: Option<Epoch>,
    /// Call [`Reconciler::step`] again after this time even if nothing changes.
    pub again: Option<Duration>,
}

/// Keeps a store as the objects want it.
#[derive(Debug)]
pub struct Reconciler<S> {
    store: S,
    desired: Desired,
    held: Held,
    changes: Changes,
    /// Keys whose entries may differ from what is wanted.
    open: Keys,
    /// All keys may differ.
    all_open: bool,
    synced: bool,
    epoch: Epoch,
    backoff: Backoff,
    failed: u32,
    failures: BTreeSet<Problem>,
    orphans: BTreeMap<Name, Duration>,
}

impl<S: MapStore> Reconciler<S> {
    /// Reads back what the store holds and adopts its numbers. Nothing is written yet.
    pub fn new(store: S, settings: Settings, backoff: Backoff) -> Result<Self, StoreError> {
        let held = Held::read(&store)?;
        let mut desired = Desired::new(settings, Capacity::of(&store));
        desired.restore(held.state());
        Ok(Self {
            store,
            desired,
            held,
            changes: Changes::default(),
            open: Keys::default(),
            all_open: true,
            synced: false,
            epoch: Epoch::default(),
            backoff,
            failed: 0,
            failures: BTreeSet::new(),
            orphans: BTreeMap::new(),
        })
    }

    /// Notes that objects changed.
    pub fn event(&mut self, changes: Changes) {
        self.changes.merge(changes);
    }

    /// Notes that the model holds every first list: from the next step on, what no object wants is removed. Until
    /// then nothing is taken away or replaced, only added.
    pub fn synced(&mut self) {
        if !self.synced {
            self.synced = true;
            self.all_open = true;
        }
    }

    /// True if a step has something to do without any further change.
    pub fn has_work(&self) -> bool {
        !self.changes.is_empty() || self.all_open || !self.open.is_empty() || self.desired.has_work()
    }

    /// Brings the maps to what the objects want, as far as they let it. `now` is any clock that does not go back.
    pub fn step(&mut self, model: &Model, facts: &Facts, now: Duration) -> Outcome {
        self.epoch = self.epoch.next();
        let changes = std::mem::take(&mut self.changes);
        self.open.extend(self.desired.update(model, facts, &changes));
        if self.all_open {
            self.open.extend(Keys::all(self.held.state(), self.desired.state()));
        }
        let mut plan = diff_keys(self.held.state(), self.desired.state(), &self.open);
        if self.synced {
            self.desired.forget_restored();
        } else {
            plan = additions(plan, self.held.state());
        }
        let applied = apply(&plan, &mut self.held, &mut self.store);
        let done = std::mem::take(&mut self.open);
        self.all_open = false;
        for failure in &applied.failures {
            self.open.add(&failure.op);
        }
        self.release(&done, &applied.unnamed);
        self.failed = if applied.failures.is_empty() { 0 } else { self.failed.saturating_add(1) };
        self.failures = self.reported(&applied.failures);
        let next_orphan = self.follow_orphans(now);
        let retry = (self.failed > 0).then(|| self.backoff.after(self.failed));
        Outcome {
            plan,
            failures: applied.failures,
            problems: self.problems(now),
            grace: self.desired.is_waiting().then_some(self.epoch),
            again: retry.into_iter().chain(next_orphan).min(),
        }
    }

    /// Notes that every program that ran at the time of that step has ended. True if a step has something to do since.
    pub fn passed(&mut self, epoch: Epoch) -> bool {
        self.desired.passed(epoch)
    }

    /// Reads the maps back; the next step repairs what somebody else has changed.
    pub fn read_back(&mut self) -> Result<(), StoreError> {
        let held = Held::read(&self.store)?;
        self.desired.reserve(held.state());
        // What has vanished is to be released too.
        self.open.extend(Keys::all(self.held.state(), held.state()));
        self.held = held;
        self.all_open = true;
        Ok(())
    }

    /// Follows an arena that was made larger.
    pub fn grow_arena(&mut self) {
        self.desired.grow_arena(self.store.capacity(Map::Arena));
    }

    /// Everything that is wrong: what cannot be served, what could not be written, and slices that have waited for
    /// their Service for longer than [`PATIENCE`].
    pub fn problems(&self, now: Duration) -> BTreeSet<Problem> {
        let late = self.orphans.iter().filter(|(_, since)| now.saturating_sub(**since) >= PATIENCE);
        let mut problems = self.desired.problems();
        problems.extend(late.map(|(name, _)| problems::orphaned(name)));
        problems.extend(self.failures.iter().cloned());
        problems
    }

    /// How full the maps are. Counts them: not for every step.
    pub fn usage(&self) -> Vec<Usage> {
        let held = self.held.state();
        let count = |family: Family, families: &mut dyn Iterator<Item = Family>| {
            u32::try_from(families.filter(|other| *other == family).count()).unwrap_or(u32::MAX)
        };
        Map::ALL
            .into_iter()
            .map(|map| {
                let frontends = |family| count(family, &mut held.frontends.keys().map(|frontend| frontend.family()));
                let backends = |family| count(family, &mut held.backends.keys().map(|id| id.family));
                let addresses = |family| count(family, &mut held.addresses.keys().map(Family::of));
                let ranges = |family| count(family, &mut held.ranges.iter().map(|range| Family::of(&range.address)));
                let used = match map {
                    Map::Frontends4 => frontends(Family::V4),
                    Map::Frontends6 => frontends(Family::V6),
                    Map::Backends4 => backends(Family::V4),
                    Map::Backends6 => backends(Family::V6),
                    Map::Arena => self.desired.arena_used(),
                    Map::Addresses4 => addresses(Family::V4),
                    Map::Addresses6 => addresses(Family::V6),
                    Map::Ranges4 => ranges(Family::V4),
                    Map::Ranges6 => ranges(Family::V6),
                };
                Usage { map, used, capacity: self.store.capacity(map) }
            })
            .collect()
    }

    /// What the objects want.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What the maps hold.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for its owner: what is changed in it behind the loop shows at the next [`Reconciler::read_back`].
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Takes back ids and lines that neither the maps nor the objects have any more.
    fn release(&mut self, done: &Keys, unnamed: &BTreeSet<u32>) {
        let held = &mut self.held;
        let lines = || done.runs.union(unnamed).copied();
        for line in lines().filter(|line| !self.desired.state().runs.contains_key(line)) {
            held.forget_run(line);
        }
        let backends = done.backends.iter().copied().filter(|id| !held.state().backends.contains_key(id));
        let lines = lines().filter(|line| !held.is_named(*line));
        self.desired.release(backends, lines, self.epoch);
    }

    /// The failures of a step by object. What only waits for another write is not named.
    fn reported(&self, failures: &[Failure]) -> BTreeSet<Problem> {
        let problem = |failure: &Failure| {
            let Cause::Store(error) = &failure.cause else { return None };
            let (kind, map) = match error {
                StoreError::Full { map, .. } | StoreError::Outside { map, .. } => ("MapFull", map),
                StoreError::Shape { map, .. } | StoreError::Kernel { map, .. } => ("MapWrite", map),
            };
            let owner = self.desired.owner(&failure.op, self.held.state());
            Some(Problem {
                kind,
                object: owner.map_or_else(|| format!("Map {map}"), problems::object),
                field: String::new(),
                message: format!("cannot {}: {error}", failure.op),
            })
        };
        failures.iter().filter_map(problem).collect()
    }

    /// Keeps the time since when slices wait for their Service; returns when the next of them becomes a problem.
    fn follow_orphans(&mut self, now: Duration) -> Option<Duration> {
        if !self.synced {
            return None;
        }
        let current = self.desired.orphans();
        self.orphans.retain(|name, _| current.contains(name));
        for name in current {
            if !self.orphans.contains_key(name) {
                self.orphans.insert(name.clone(), now);
            }
        }
        self.orphans
            .values()
            .map(|since| PATIENCE.saturating_sub(now.saturating_sub(*since)))
            .filter(|left| !left.is_zero())
            .min()
    }
}
