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

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::{
        backend::flags::{CLUSTER, LIVE, LOCAL, TERMINATING},
        frontend::Kind,
    };

    use super::*;
    use crate::model::addr::{Family, Protocol};

    const ID: BackendId = BackendId { family: Family::V4, id: 1 };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 96, 0, last])
    }

    fn vip(last: u8) -> Frontend {
        Frontend::internal(ip(last), 80, Protocol::Tcp)
    }

    fn backend(flags: u8) -> Backend {
        Backend { address: IpAddr::from([10, 244, 0, 1]), port: 8080, protocol: 6, flags: flags | LIVE, service: 7 }
    }

    fn with_backend(flags: u8) -> MapState {
        MapState { backends: [(ID, backend(flags))].into(), ..MapState::default() }
    }

    /// A service on one address, with everything that it can have.
    fn service(last: u8) -> MapState {
        let run = Run { family: Family::V4, generation: 3, service: 7, affinity_ticks: 0, pool: 1, ids: vec![1] };
        MapState {
            frontends: [(vip(last), Word::new(5, Kind::Random, 1, 3, vip(last).fingerprint()))].into(),
            backends: [(ID, backend(CLUSTER))].into(),
            runs: [(5, Arc::new(run))].into(),
            addresses: [(ip(last), address_flags::REFUSE_UNKNOWN)].into(),
            ranges: [Range { service: 7, address: IpAddr::from([192, 0, 2, 0]), prefix: 24 }].into(),
        }
    }

    fn text(plan: &[Op]) -> Vec<String> {
        plan.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn stages_are_in_order() {
        let nothing = MapState::default();
        assert_eq!(
            text(&diff(&nothing, &service(1))),
            [
                "admit 192.0.2.0/24 to service 7",
                "set IPv4 backend 1 to 10.244.0.1:8080/TCP, flags 0x9",
                "write run 3 of 1 ids for service 7 at line 5",
                "publish frontend 10.96.0.1:80/TCP as Random, run 3 at line 5",
                "set address 10.96.0.1 to flags 0x1",
            ]
        );
        assert_eq!(
            text(&diff(&service(1), &nothing)),
            [
                "remove address 10.96.0.1",
                "remove frontend 10.96.0.1:80/TCP",
                "remove IPv4 backend 1, 10.244.0.1:8080/TCP",
                "admit 192.0.2.0/24 to service 7 no more",
            ]
        );
        assert_eq!(diff(&service(1), &service(1)), []);
    }

    #[test]
    fn a_backend_is_in_a_pool_before_and_after_a_table_needs_it() {
        let set = |flags| Op::SetBackend { id: ID, backend: backend(flags) };
        let settle = |flags| Op::SettleBackend { id: ID, backend: backend(flags) };
        for (name, have, want, plan) in [
            ("joins", CLUSTER, CLUSTER | LOCAL, vec![set(CLUSTER | LOCAL)]),
            ("leaves", CLUSTER | LOCAL, CLUSTER, vec![settle(CLUSTER)]),
            ("changes pools", CLUSTER, LOCAL, vec![set(CLUSTER | LOCAL), settle(LOCAL)]),
            ("terminates and drains", CLUSTER, TERMINATING, vec![settle(TERMINATING)]),
            ("terminates and serves", CLUSTER, CLUSTER | TERMINATING, vec![settle(CLUSTER | TERMINATING)]),
            ("comes back", TERMINATING, CLUSTER, vec![set(CLUSTER)]),
            ("stays", CLUSTER, CLUSTER, vec![]),
        ] {
            assert_eq!(diff(&with_backend(have), &with_backend(want)), plan, "{name}");
        }
        let mut foreign = with_backend(CLUSTER);
        foreign.backends.insert(ID, Backend { service: 9, ..backend(CLUSTER) });
        assert_eq!(diff(&foreign, &with_backend(CLUSTER)), [set(CLUSTER)], "somebody else's value is written over");
    }

    #[test]
    fn addresses_refuse_only_what_is_not_served() {
        use address_flags::{NODE_PORT, REFUSE_UNKNOWN};
        let at = |flags: Option<u32>| MapState {
            addresses: flags.map(|flags| (ip(1), flags)).into_iter().collect(),
            ..MapState::default()
        };
        let (clear, set) = (
            |flags| vec![Op::ClearAddress { address: ip(1), flags }],
            |flags| vec![Op::SetAddress { address: ip(1), flags }],
        );
        for (name, have, want, plan) in [
            ("new", None, Some(REFUSE_UNKNOWN), set(REFUSE_UNKNOWN)),
            ("gone", Some(REFUSE_UNKNOWN), None, clear(0)),
            ("a device takes it", Some(REFUSE_UNKNOWN), Some(NODE_PORT), clear(NODE_PORT)),
            ("a device gives it back", Some(NODE_PORT), Some(REFUSE_UNKNOWN), set(REFUSE_UNKNOWN)),
            ("a strange zero", Some(0), None, clear(0)),
        ] {
            assert_eq!(diff(&at(have), &at(want)), plan, "{name}");
        }
    }

    #[test]
    fn other_keys_are_left_alone() {
        let mut keys = Keys::default();
        keys.add(&Op::SetFrontend { frontend: vip(1), word: service(1).frontends[&vip(1)] });
        let plan = diff_keys(&MapState::default(), &service(1), &keys);
        assert_eq!(
            text(&plan),
            [
                "write run 3 of 1 ids for service 7 at line 5",
                "publish frontend 10.96.0.1:80/TCP as Random, run 3 at line 5"
            ]
        );
        assert!(diff_keys(&service(1), &MapState::default(), &Keys::default()).is_empty());
    }

    #[test]
    fn additions_take_nothing_away() {
        let kept = additions(diff(&service(1), &service(2)), &service(1));
        assert_eq!(
            text(&kept),
            ["publish frontend 10.96.0.2:80/TCP as Random, run 3 at line 5", "set address 10.96.0.2 to flags 0x1"]
        );
        let mut changed = service(1);
        changed.frontends.insert(vip(1), Word::new(0, Kind::Refuse, 0, 0, vip(1).fingerprint()));
        assert_eq!(additions(diff(&service(1), &changed), &service(1)), [], "a word is not replaced");
    }
}
