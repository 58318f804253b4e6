//! What the maps hold, one entry type per map, both families in one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lb_ebpf::abi::{
    address::Address,
    backend::flags,
    frontend::{FrontendKey, Word, scope},
    run,
};

use crate::model::addr::{Family, Protocol};

/// Names a frontend: the key of the `frontends` maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The dialled address; the wildcard for a NodePort.
    pub address: IpAddr,
    /// The dialled port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// [`scope`]: who asks.
    pub scope: u8,
}

/// Names a backend: each family has an array of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId {
    /// Which array.
    pub family: Family,
    /// Index in it; 0 is never used.
    pub id: u32,
}

/// The value of the `backends` maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// [`flags`] of the layout.
    pub flags: u8,
    /// The service port that owns it.
    pub service: u32,
}

/// A selection table in the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The family of its backends, which is that of the frontends that name it.
    pub family: Family,
    /// Counts the runs that the agent has written.
    pub generation: u32,
    /// The service port that owns it.
    pub service: u32,
    /// Session affinity in ticks; 0 is none.
    pub affinity_ticks: u32,
    /// The pool bit that its backends carry.
    pub pool: u32,
    /// The backends' ids.
    pub ids: Vec<u32>,
}

/// An address range that a service port admits: the key of the `ranges` maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The service port.
    pub service: u32,
    /// The first address.
    pub address: IpAddr,
    /// Its prefix length in bits.
    pub prefix: u32,
}

/// Everything that the agent writes to the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapState {
    /// `frontends4` and `frontends6`.
    pub frontends: BTreeMap<Frontend, Word>,
    /// `backends4` and `backends6`.
    pub backends: BTreeMap<BackendId, Backend>,
    /// The runs in the arena that words name, by first line.
    pub runs: BTreeMap<u32, Arc<Run>>,
    /// `addresses4` and `addresses6`.
    pub addresses: BTreeMap<IpAddr, u32>,
    /// `ranges4` and `ranges6`.
    pub ranges: BTreeSet<Range>,
}

/// Counts the words that name each line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    counts: BTreeMap<u32, u32>,
}

impl Named {
    /// True if a word names the run at that line.
    pub fn contains(&self, line: u32) -> bool {
        self.counts.contains_key(&line)
    }

    /// Counts a word in; returns its line if it is the first one.
    pub fn add(&mut self, word: Word) -> Option<u32> {
        let line = named_line(word)?;
        let count = self.counts.entry(line).or_default();
        *count += 1;
        (*count == 1).then_some(line)
    }

    /// Counts a word out; returns its line if it was the last one.
    pub fn remove(&mut self, word: Word) -> Option<u32> {
        let line = named_line(word)?;
        let count = self.counts.get_mut(&line).expect("a word is counted out only once");
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.counts.remove(&line);
        Some(line)
    }
}

/// The pool bits of a backend's flags.
pub const POOLS: u8 = flags::CLUSTER | flags::LOCAL;

impl Frontend {
    /// Builds the name under which pods and the node itself find a service.
    pub const fn internal(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        Self { address, port, protocol: protocol.number(), scope: scope::INTERNAL }
    }

    /// Its family.
    pub const fn family(&self) -> Family {
        Family::of(&self.address)
    }

    /// What its word repeats of it.
    pub fn fingerprint(&self) -> u32 {
        match self.address {
            IpAddr::V4(v4) => self.key(v4.octets()).fingerprint(),
            IpAddr::V6(v6) => self.key(v6.octets()).fingerprint(),
        }
    }

    /// The key as the map has it.
    pub(crate) fn key<A: Address>(&self, address: A) -> FrontendKey<A> {
        FrontendKey::new(address, self.port, self.protocol, self.scope)
    }
}

impl MapState {
    /// The run that a word leads to.
    pub fn run_of(&self, word: Word) -> Option<&Arc<Run>> {
        self.runs.get(&named_line(word)?).filter(|run| run.generation & 0xfff == word.generation())
    }
}

/// The line that a word names, if its kind has a run.
pub fn named_line(word: Word) -> Option<u32> {
    word.kind().filter(|kind| kind.has_run()).map(|_| word.line())
}

impl Run {
    /// How many lines it takes.
    pub fn lines(&self) -> u32 {
        run::lines(self.ids.len() as u32)
    }

    /// True if both select alike; the generation does not count.
    pub fn same_content(&self, other: &Self) -> bool {
        let Self { family, generation: _, service, affinity_ticks, pool, ids } = self;
        (family, service, affinity_ticks, pool, ids)
            == (&other.family, &other.service, &other.affinity_ticks, &other.pool, &other.ids)
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), ProtocolName(self.protocol))?;
        if self.scope == scope::INTERNAL { Ok(()) } else { f.write_str(" from outside") }
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} backend {}", self.family, self.id)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), ProtocolName(self.protocol))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Shows an IP protocol number by its name, if it has one here.
struct ProtocolName(u8);

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Protocol::from_number(self.0) {
            Some(protocol) => protocol.fmt(f),
            None => self.0.fmt(f),
        }
    }
}
