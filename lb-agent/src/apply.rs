//! Runs a plan, and knows afterwards what the maps hold.
//!
//! A write that fails leaves its entry as it was. What would lead readers into the gap is not written either, what
//! they may still be led to is not removed, and everything else goes on: the next diff holds what is left to do.

use std::{collections::BTreeSet, sync::Arc};

use lb_ebpf::abi::frontend::Word;

use crate::{
    desired::{
        state::{BackendId, Frontend, MapState, Named, named_line},
        wire,
    },
    maps::{Map, MapStore, StoreError},
    model::addr::Family,
    plan::Op,
};

/// What the maps hold, as far as the agent has seen.
#[derive(Clone, Debug, Default)]
pub struct Held {
    state: MapState,
    named: Named,
}

/// Says why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The store refused.
    #[error(transparent)]
    Store(StoreError),
    /// An operation that must come first was not done.
    #[error("it must wait for a write that was not done")]
    Waits,
}

/// An operation that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The operation.
    pub op: Op,
    /// Why.
    pub cause: Cause,
}

/// What came of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// How many operations were done.
    pub done: usize,
    /// Those that were not.
    pub failures: Vec<Failure>,
    /// The lines of runs that words named before and none names any more.
    pub unnamed: BTreeSet<u32>,
}

impl Held {
    /// Reads back what the maps hold. Of the arena, the runs that words name count.
    pub fn read(store: &impl MapStore) -> Result<Self, StoreError> {
        let mut held = Self::default();
        let mut words = Vec::new();
        for family in Family::ALL {
            let entries = store.dump(Map::frontends(family))?;
            words.extend(entries.iter().filter_map(|(key, value)| wire::read_frontend(family, key, value)));
            let entries = store.dump(Map::backends(family))?;
            held.state
                .backends
                .extend(entries.iter().filter_map(|(key, value)| wire::read_backend(family, key, value)));
            let entries = store.dump(Map::addresses(family))?;
            held.state
                .addresses
                .extend(entries.iter().filter_map(|(key, value)| wire::read_address(family, key, value)));
            let entries = store.dump(Map::ranges(family))?;
            held.state.ranges.extend(entries.keys().filter_map(|key| wire::read_range(family, key)));
        }
        let arena = store.dump(Map::Arena)?;
        for (frontend, word) in words {
            if let Some(line) = named_line(word)
                && let Some(bytes) = arena.get(line.to_ne_bytes().as_slice())
                && let Some(run) = wire::read_run(frontend.family(), bytes)
            {
                held.state.runs.insert(line, Arc::new(run));
            }
            held.set_frontend(frontend, word);
        }
        Ok(held)
    }

    /// The entries.
    pub fn state(&self) -> &MapState {
        &self.state
    }

    /// True if a word names the run at that line.
    pub fn is_named(&self, line: u32) -> bool {
        self.named.contains(line)
    }

    /// Forgets a run that no word names and nobody wants.
    pub fn forget_run(&mut self, line: u32) {
        if !self.is_named(line) {
            self.state.runs.remove(&line);
        }
    }

    /// Follows a frontend's write; returns the line that no word names since. The run stays known: it is still there,
    /// and another word of the same plan may name it.
    fn set_frontend(&mut self, frontend: Frontend, word: Word) -> Option<u32> {
        self.named.add(word);
        let before = self.state.frontends.insert(frontend, word);
        before.and_then(|word| self.named.remove(word))
    }

    fn remove_frontend(&mut self, frontend: &Frontend) -> Option<u32> {
        let before = self.state.frontends.remove(frontend);
        before.and_then(|word| self.named.remove(word))
    }
}

/// Runs the operations in order. Idempotent: what is done already is done again.
pub fn apply(plan: &[Op], held: &mut Held, store: &mut impl MapStore) -> Applied {
    let mut run = Running { held, store, missing: BTreeSet::new(), kept: BTreeSet::new(), applied: Applied::default() };
    for op in plan {
        match run.execute(op) {
            Ok(()) => run.applied.done += 1,
            Err(cause) => {
                run.remember(op);
                run.applied.failures.push(Failure { op: op.clone(), cause });
            }
        }
    }
    run.applied
}

/// A plan in the middle of its run.
struct Running<'a, S> {
    held: &'a mut Held,
    store: &'a mut S,
    /// Backends that are not as wanted: no run that holds them may be published.
    missing: BTreeSet<BackendId>,
    /// Backends that a word still leads to which should have been replaced: they stay.
    kept: BTreeSet<BackendId>,
    applied: Applied,
}

impl<S: MapStore> Running<'_, S> {
    fn execute(&mut self, op: &Op) -> Result<(), Cause> {
        match op {
            Op::ClearAddress { address, flags } | Op::SetAddress { address, flags } => {
                wire::set_address(self.store, address, *flags)?;
                match flags {
                    0 => drop(self.held.state.addresses.remove(address)),
                    flags => drop(self.held.state.addresses.insert(*address, *flags)),
                }
            }
            Op::RemoveFrontend { frontend } => {
                wire::remove_frontend(self.store, frontend)?;
                let unnamed = self.held.remove_frontend(frontend);
                self.applied.unnamed.extend(unnamed);
            }
            Op::SetRange { range } => {
                wire::set_range(self.store, range)?;
                self.held.state.ranges.insert(*range);
            }
            Op::SetBackend { id, backend } => {
                wire::set_backend(self.store, *id, backend)?;
                self.held.state.backends.insert(*id, *backend);
            }
            Op::SetTable { line, run } => {
                let id = |id: &u32| BackendId { family: run.family, id: *id };
                if !self.missing.is_empty() && run.ids.iter().any(|i| self.missing.contains(&id(i))) {
                    return Err(Cause::Waits);
                }
                wire::set_run(self.store, *line, run)?;
                self.held.state.runs.insert(*line, Arc::clone(run));
            }
            Op::SetFrontend { frontend, word } => {
                if !self.leads_somewhere(*word) {
                    return Err(Cause::Waits);
                }
                wire::set_frontend(self.store, frontend, *word)?;
                let unnamed = self.held.set_frontend(*frontend, *word);
                self.applied.unnamed.extend(unnamed);
            }
            Op::SettleBackend { id, backend } => {
                self.may_change(id)?;
                wire::set_backend(self.store, *id, backend)?;
                self.held.state.backends.insert(*id, *backend);
            }
            Op::RemoveBackend { id, backend: _ } => {
                self.may_change(id)?;
                wire::remove_backend(self.store, *id)?;
                self.held.state.backends.remove(id);
            }
            Op::RemoveRange { range } => {
                wire::remove_range(self.store, range)?;
                self.held.state.ranges.remove(range);
            }
        }
        Ok(())
    }

    /// Draws the consequences of an operation that was not done.
    fn remember(&mut self, op: &Op) {
        match op {
            Op::SetBackend { id, .. } => {
                self.missing.insert(*id);
            }
            Op::RemoveFrontend { frontend } | Op::SetFrontend { frontend, .. } => {
                let word = self.held.state.frontends.get(frontend);
                let Some(run) = word.and_then(|word| self.held.state.runs.get(&named_line(*word)?)) else { return };
                self.kept.extend(run.ids.iter().map(|id| BackendId { family: run.family, id: *id }));
            }
            Op::ClearAddress { .. }
            | Op::SetRange { .. }
            | Op::SetTable { .. }
            | Op::SetAddress { .. }
            | Op::SettleBackend { .. }
            | Op::RemoveBackend { .. }
            | Op::RemoveRange { .. } => {}
        }
    }

    fn leads_somewhere(&self, word: Word) -> bool {
        named_line(word).is_none() || self.held.state.run_of(word).is_some()
    }

    fn may_change(&self, id: &BackendId) -> Result<(), Cause> {
        if self.kept.contains(id) { Err(Cause::Waits) } else { Ok(()) }
    }
}

impl From<StoreError> for Cause {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use lb_ebpf::abi::{
        backend::flags::{CLUSTER, LIVE},
        frontend::Kind,
    };

    use super::*;
    use crate::{
        desired::state::{Backend, Run},
        maps::memory::MemoryStore,
        model::addr::Protocol,
        plan::diff,
    };

    /// Refuses every operation on one key.
    struct Refusing {
        inner: MemoryStore,
        map: Map,
        key: Vec<u8>,
    }

    impl Refusing {
        fn check(&self, map: Map, key: &[u8]) -> Result<(), StoreError> {
            let refused = map == self.map && key == self.key;
            if refused { Err(StoreError::Kernel { map, operation: "update", errno: libc::EPERM }) } else { Ok(()) }
        }
    }

    impl MapStore for Refusing {
        fn set(&mut self, map: Map, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
            self.check(map, key)?;
            self.inner.set(map, key, value)
        }

        fn remove(&mut self, map: Map, key: &[u8]) -> Result<(), StoreError> {
            self.check(map, key)?;
            self.inner.remove(map, key)
        }

        fn dump(&self, map: Map) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
            self.inner.dump(map)
        }

        fn capacity(&self, map: Map) -> u32 {
            self.inner.capacity(map)
        }
    }

    fn vip(last: u8) -> Frontend {
        Frontend::internal(IpAddr::from([10, 96, 0, last]), 80, Protocol::Tcp)
    }

    /// Service 1 and service 2, each with one backend, and a run at the line of its number.
    fn services() -> MapState {
        let mut state = MapState::default();
        for service in [1, 2] {
            let id = BackendId { family: Family::V4, id: service };
            let address = IpAddr::from([10, 244, 0, service as u8]);
            let backend = Backend { address, port: 80, protocol: 6, flags: LIVE | CLUSTER, service };
            let run =
                Run { family: Family::V4, generation: 1, service, affinity_ticks: 0, pool: 1, ids: vec![service] };
            let frontend = vip(service as u8);
            state.frontends.insert(frontend, Word::new(service, Kind::Random, 0, 1, frontend.fingerprint()));
            state.backends.insert(id, backend);
            state.runs.insert(service, Arc::new(run));
        }
        state
    }

    fn undone(applied: &Applied) -> Vec<String> {
        let reason = |failure: &Failure| match failure.cause {
            Cause::Store(_) => "refused",
            Cause::Waits => "waits",
        };
        applied.failures.iter().map(|failure| format!("{}: {}", reason(failure), failure.op)).collect()
    }

    #[test]
    fn what_needs_a_failed_write_waits_and_the_rest_goes_on() {
        let backend_1 = 1u32.to_ne_bytes().to_vec();
        let mut store = Refusing { inner: MemoryStore::new(), map: Map::Backends4, key: backend_1 };
        let mut held = Held::default();
        let applied = apply(&diff(held.state(), &services()), &mut held, &mut store);
        assert_eq!(
            undone(&applied),
            [
                "refused: set IPv4 backend 1 to 10.244.0.1:80/TCP, flags 0x9",
                "waits: write run 1 of 1 ids for service 1 at line 1",
                "waits: publish frontend 10.96.0.1:80/TCP as Random, run 1 at line 1",
            ]
        );
        assert_eq!(held.state().frontends.keys().copied().collect::<Vec<_>>(), [vip(2)]);
        assert_eq!(Held::read(&store).unwrap().state(), held.state());
    }

    #[test]
    fn what_a_frontend_still_leads_to_stays() {
        let mut store = Refusing { inner: MemoryStore::new(), map: Map::Arena, key: vec![] };
        let mut held = Held::default();
        apply(&diff(held.state(), &services()), &mut held, &mut store);
        (store.map, store.key) = (Map::Frontends4, vec![10, 96, 0, 1, 0, 80, 6, 0]);
        let applied = apply(&diff(held.state(), &MapState::default()), &mut held, &mut store);
        assert_eq!(
            undone(&applied),
            ["refused: remove frontend 10.96.0.1:80/TCP", "waits: remove IPv4 backend 1, 10.244.0.1:80/TCP"]
        );
        assert_eq!(applied.unnamed, BTreeSet::from([2]));
        assert!(held.is_named(1) && !held.is_named(2));
        store.key.clear();
        let applied = apply(&diff(held.state(), &MapState::default()), &mut held, &mut store);
        assert_eq!((applied.failures, applied.unnamed), (vec![], BTreeSet::from([1])));
    }

    #[test]
    fn a_plan_can_run_twice() {
        let (mut store, mut held) = (MemoryStore::new(), Held::default());
        let plan = diff(held.state(), &services());
        apply(&plan, &mut held, &mut store);
        let once = Held::read(&store).unwrap();
        assert_eq!(apply(&plan, &mut held, &mut store).done, plan.len());
        assert_eq!(Held::read(&store).unwrap().state(), once.state());
        assert_eq!(*held.state(), services());
    }
}
