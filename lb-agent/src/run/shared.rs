//! What the threads of the agent share.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::core::Core;
use crate::{api::status::Canary, health::Health, logging::Problems, maps::raw::RawMap, metrics::Metrics};

/// Everything that more than one thread looks at.
pub(super) struct Shared {
    /// This node's name.
    pub(super) node: String,
    /// Slots of a Maglev table.
    pub(super) core: Mutex<Core>,
    /// What the last canary found.
    pub(super) canary: Mutex<Canary>,
    /// The maps, for what the programs write.
    pub(super) maps: BTreeMap<&'static str, RawMap>,
    /// What is wrong.
    pub(super) problems: Problems,
    /// What health probes are told.
    pub(super) health: std::sync::Arc<Health>,
    /// What is counted.
    pub(super) metrics: std::sync::Arc<Metrics>,
}

impl Shared {
    /// Waits for the core.
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        locked(&self.core)
    }
}

/// A lock whose holder panicked is taken all the same: the process is about to end, or the state is whole.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
