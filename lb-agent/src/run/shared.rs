//! What the threads of the agent share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::core::Core;
use crate::{
    api::status::Canary,
    datapath::node::NodeSettings,
    health::Health,
    maps::raw::RawMap,
    metrics::Metrics,
    problem::{Problem, Problems},
};

/// Everything that more than one thread looks at.
pub(super) struct Shared {
    /// This node's name.
    pub(super) node: String,
    /// The part of the configuration that the programs read.
    pub(super) settings: NodeSettings,
    /// Objects and maps.
    pub(super) core: Mutex<Core>,
    /// What the last canary found.
    pub(super) canary: Mutex<Canary>,
    /// The maps, for what the programs write.
    pub(super) maps: BTreeMap<&'static str, RawMap>,
    /// What is wrong.
    pub(super) problems: Arc<Mutex<Problems>>,
    /// What health probes are told.
    pub(super) health: Arc<Health>,
    /// What is counted.
    pub(super) metrics: Arc<Metrics>,
}

impl Shared {
    /// Waits for the core.
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        locked(&self.core)
    }

    /// Replaces what one part of the agent complains of.
    pub(super) fn report(&self, part: &'static str, problems: BTreeSet<Problem>) {
        locked(&self.problems).set(part, problems);
    }
}

/// A lock whose holder panicked is taken all the same: the process is about to end, or the state is whole.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
