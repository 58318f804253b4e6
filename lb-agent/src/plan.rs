//! What must be written to get from what the maps hold to what they should hold, in an order that readers survive.
//!
//! A reader goes from a frontend to its word, to the run, to a backend. After every prefix of a plan it finds either
//! what was there before or what is wanted, whole:
//!
//! 1. An address that refuses unknown ports stops to before its frontends go.
//! 2. Frontends go before anything that they lead to.
//! 3. Ranges, backends and runs are there before the word that needs them; a word is one write.
//! 4. Addresses refuse unknown ports only when the known ones are there.
//! 5. Backends and ranges go when no word leads to them.
//!
//! Runs are not removed: nothing names them, and their lines are used again after a grace period.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use lb_ebpf::abi::frontend::{Word, address_flags};

use crate::desired::state::{Backend, BackendId, Frontend, MapState, POOLS, Range, Run, named_line};

/// One write. The order of the variants is the order of the stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes an address that no longer refuses unknown ports; without flags it is removed.
    ClearAddress {
        /// The address.
        address: IpAddr,
        /// What stays of its flags.
        flags: u32,
    },
    /// Removes a frontend.
    RemoveFrontend {
        /// Its key.
        frontend: Frontend,
    },
    /// Admits a source range.
    SetRange {
        /// Its key.
        range: Range,
    },
    /// Writes a backend that is new or joins a pool. A pool that it leaves still stands in its flags.
    SetBackend {
        /// Its id.
        id: BackendId,
        /// Its value.
        backend: Backend,
    },
    /// Writes a run.
    SetTable {
        /// Its first line.
        line: u32,
        /// What stands there.
        run: Arc<Run>,
    },
    /// Publishes a frontend.
    SetFrontend {
        /// Its key.
        frontend: Frontend,
        /// What selects its table.
        word: Word,
    },
    /// Writes an address.
    SetAddress {
        /// The address.
        address: IpAddr,
        /// Its flags.
        flags: u32,
    },
    /// Writes a backend that leaves a pool.
    SettleBackend {
        /// Its id.
        id: BackendId,
        /// Its value.
        backend: Backend,
    },
    /// Frees a backend.
    RemoveBackend {
        /// Its id.
        id: BackendId,
        /// What it was.
        backend: Backend,
    },
    /// Admits a source range no more.
    RemoveRange {
        /// Its key.
        range: Range,
    },
}

/// Keys of the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Of the frontend maps.
    pub frontends: BTreeSet<Frontend>,
    /// Of the backend maps.
    pub backends: BTreeSet<BackendId>,
    /// First lines of runs.
    pub runs: BTreeSet<u32>,
    /// Of the address maps.
    pub addresses: BTreeSet<IpAddr>,
    /// Of the range maps.
    pub ranges: BTreeSet<Range>,
}

impl Op {
    /// The stage that it belongs to, for metrics.
    pub const fn stage(&self) -> &'static str {
        match self {
            Self::ClearAddress { .. } => "clear_address",
            Self::RemoveFrontend { .. } => "remove_frontend",
            Self::SetRange { .. } => "set_range",
            Self::SetBackend { .. } => "set_backend",
            Self::SetTable { .. } => "set_table",
            Self::SetFrontend { .. } => "set_frontend",
            Self::SetAddress { .. } => "set_address",
            Self::SettleBackend { .. } => "settle_backend",
            Self::RemoveBackend { .. } => "remove_backend",
            Self::RemoveRange { .. } => "remove_range",
        }
    }
}

impl Keys {
    /// All keys of two states.
    pub fn all(a: &MapState, b: &MapState) -> Self {
        Self {
            frontends: a.frontends.keys().chain(b.frontends.keys()).copied().collect(),
            backends: a.backends.keys().chain(b.backends.keys()).copied().collect(),
            runs: a.runs.keys().chain(b.runs.keys()).copied().collect(),
            addresses: a.addresses.keys().chain(b.addresses.keys()).copied().collect(),
            ranges: a.ranges.iter().chain(&b.ranges).copied().collect(),
        }
    }

    /// Adds the keys of another set.
    pub fn extend(&mut self, mut other: Self) {
        self.frontends.append(&mut other.frontends);
        self.backends.append(&mut other.backends);
        self.runs.append(&mut other.runs);
        self.addresses.append(&mut other.addresses);
        self.ranges.append(&mut other.ranges);
    }

    /// Adds the keys that an operation writes and needs.
    pub fn add(&mut self, op: &Op) {
        match op {
            Op::ClearAddress { address, .. } | Op::SetAddress { address, .. } => self.addresses.extend([*address]),
            Op::RemoveFrontend { frontend } => self.frontends.extend([*frontend]),
            Op::SetFrontend { frontend, word } => {
                self.frontends.extend([*frontend]);
                self.runs.extend(named_line(*word));
            }
            Op::SetRange { range } | Op::RemoveRange { range } => self.ranges.extend([*range]),
            Op::SetBackend { id, .. } | Op::SettleBackend { id, .. } | Op::RemoveBackend { id, .. } => {
                self.backends.extend([*id]);
            }
            Op::SetTable { line, run } => {
                self.runs.extend([*line]);
                self.backends.extend(run.ids.iter().map(|id| BackendId { family: run.family, id: *id }));
            }
        }
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        let Self { frontends, backends, runs, addresses, ranges } = self;
        frontends.is_empty() && backends.is_empty() && runs.is_empty() && addresses.is_empty() && ranges.is_empty()
    }
}

/// Plans the whole way from `have` to `want`.
pub fn diff(have: &MapState, want: &MapState) -> Vec<Op> {
    diff_keys(have, want, &Keys::all(have, want))
}

/// Plans the way from `have` to `want` for some keys; the others are left as they are.
pub fn diff_keys(have: &MapState, want: &MapState, keys: &Keys) -> Vec<Op> {
    let addresses = || keys.addresses.iter().filter_map(|address| address_op(have, want, address));
    let mut plan: Vec<Op> = addresses().filter(|op| matches!(op, Op::ClearAddress { .. })).collect();
    plan.extend(
        gone(&keys.frontends, &have.frontends, &want.frontends).map(|frontend| Op::RemoveFrontend { frontend }),
    );
    plan.extend(
        keys.ranges
            .iter()
            .filter(|range| want.ranges.contains(range) && !have.ranges.contains(range))
            .map(|range| Op::SetRange { range: *range }),
    );
    plan.extend(keys.backends.iter().filter_map(|id| {
        let backend = joined(have.backends.get(id), want.backends.get(id)?)?;
        Some(Op::SetBackend { id: *id, backend })
    }));
    plan.extend(
        changed(&keys.runs, &have.runs, &want.runs).map(|(line, run)| Op::SetTable { line, run: Arc::clone(run) }),
    );
    plan.extend(
        changed(&keys.frontends, &have.frontends, &want.frontends)
            .map(|(frontend, word)| Op::SetFrontend { frontend, word: *word }),
    );
    plan.extend(addresses().filter(|op| matches!(op, Op::SetAddress { .. })));
    plan.extend(keys.backends.iter().filter_map(|id| {
        let (had, wanted) = (have.backends.get(id), want.backends.get(id)?);
        let before = joined(had, wanted).or(had.copied())?;
        (before != *wanted).then_some(Op::SettleBackend { id: *id, backend: *wanted })
    }));
    plan.extend(
        gone(&keys.backends, &have.backends, &want.backends)
            .map(|id| Op::RemoveBackend { id, backend: have.backends[&id] }),
    );
    plan.extend(
        keys.ranges
            .iter()
            .filter(|range| have.ranges.contains(range) && !want.ranges.contains(range))
            .map(|range| Op::RemoveRange { range: *range }),
    );
    plan
}

/// Keeps of a plan what takes nothing away from what the maps hold: all that may be done before every first list is
/// in.
pub fn additions(plan: Vec<Op>, have: &MapState) -> Vec<Op> {
    let adds = |op: &Op| match op {
        Op::SetRange { .. } | Op::SetBackend { .. } | Op::SetTable { .. } => true,
        Op::SetFrontend { frontend, .. } => !have.frontends.contains_key(frontend),
        Op::SetAddress { address, flags } => have.addresses.get(address).is_none_or(|held| held & !flags == 0),
        Op::ClearAddress { .. }
        | Op::RemoveFrontend { .. }
        | Op::SettleBackend { .. }
        | Op::RemoveBackend { .. }
        | Op::RemoveRange { .. } => false,
    };
    plan.into_iter().filter(adds).collect()
}

/// What must be written before the words, if anything: the wanted backend, in all pools that it stands in or joins.
fn joined(have: Option<&Backend>, want: &Backend) -> Option<Backend> {
    let Some(have) = have.filter(|have| Backend { flags: want.flags, ..**have } == *want) else { return Some(*want) };
    let adds = want.flags & !have.flags & !lb_ebpf::abi::backend::flags::TERMINATING != 0;
    adds.then_some(Backend { flags: want.flags | (have.flags & POOLS), ..*want })
}

fn address_op(have: &MapState, want: &MapState, address: &IpAddr) -> Option<Op> {
    let [had, flags] = [have, want].map(|state| state.addresses.get(address).copied().unwrap_or(0));
    if had == flags && have.addresses.contains_key(address) == want.addresses.contains_key(address) {
        return None;
    }
    let clears = flags == 0 || had & !flags & address_flags::REFUSE_UNKNOWN != 0;
    Some(if clears {
        Op::ClearAddress { address: *address, flags }
    } else {
        Op::SetAddress { address: *address, flags }
    })
}

fn gone<'a, K: Ord + Copy, V>(
    keys: &'a BTreeSet<K>,
    have: &'a BTreeMap<K, V>,
    want: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    keys.iter().filter(|key| have.contains_key(key) && !want.contains_key(key)).copied()
}

fn changed<'a, K: Ord + Copy, V: PartialEq>(
    keys: &'a BTreeSet<K>,
    have: &'a BTreeMap<K, V>,
    want: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (K, &'a V)> {
    keys.iter().filter_map(|key| want.get(key).filter(|value| have.get(key) != Some(value)).map(|value| (*key, value)))
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClearAddress { address, flags: 0 } => write!(f, "remove address {address}"),
            Self::ClearAddress { address, flags } => write!(f, "clear address {address} to flags {flags:#x}"),
            Self::RemoveFrontend { frontend } => write!(f, "remove frontend {frontend}"),
            Self::SetRange { range } => write!(f, "admit {range} to service {}", range.service),
            Self::SetBackend { id, backend } => write!(f, "set {id} to {backend}, flags {:#x}", backend.flags),
            Self::SetTable { line, run } => {
                write!(
                    f,
                    "write run {} of {} ids for service {} at line {line}",
                    run.generation,
                    run.ids.len(),
                    run.service
                )
            }
            Self::SetFrontend { frontend, word } => match word.kind() {
                Some(kind) if kind.has_run() => {
                    write!(
                        f,
                        "publish frontend {frontend} as {kind:?}, run {} at line {}",
                        word.generation(),
                        word.line()
                    )
                }
                Some(kind) => write!(f, "publish frontend {frontend} as {kind:?}"),
                None => write!(f, "publish frontend {frontend} as {:#x}", word.0),
            },
            Self::SetAddress { address, flags } => write!(f, "set address {address} to flags {flags:#x}"),
            Self::SettleBackend { id, backend } => write!(f, "settle {id} at {backend}, flags {:#x}", backend.flags),
            Self::RemoveBackend { id, backend } => write!(f, "remove {id}, {backend}"),
            Self::RemoveRange { range } => write!(f, "admit {range} to service {} no more", range.service),
        }
    }
}
