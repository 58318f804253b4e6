//! What the maps should hold, compiled from the current objects.
//!
//! Each update recompiles the services that changed and no others. What comes out depends on the objects alone; only
//! the numbers (ids, lines, generations) depend on history, and they are kept for as long as they mean the same.
//!
//! A service that does not fit keeps what it has, and is compiled again when room was made.

mod claims;
mod compile;
pub mod facts;
mod frontends;
pub(crate) mod maglev;
pub mod problems;
mod publish;
mod room;
pub mod rows;
mod seats;
pub mod state;
mod table;
mod unit;
pub(crate) mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lb_ebpf::abi::frontend::{Kind, MAX_LINES, Word, address_flags};

pub use self::frontends::Via;
use self::{
    claims::Claims,
    facts::Facts,
    room::Room,
    seats::Seats,
    state::{BackendId, MapState, Named, Run},
    unit::Unit,
};
use crate::{
    config::{Config, NodePortAddresses},
    grace::Epoch,
    ids::PortName,
    maps::{Map, MapStore},
    model::{
        Changes, Model, Name,
        addr::{Family, Protocol},
        service::Algorithm,
    },
    plan::Keys,
    problem::Problem,
};

/// What the configuration says about services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `nodePortAddresses`.
    pub node_ports: NodePortAddresses,
    /// `defaultAlgorithm`: of services without the annotation.
    pub default_algorithm: Algorithm,
    /// `maglevTableSize`.
    pub maglev_size: ::maglev::fill::Size,
    /// `socket.translateLocalAddresses`: also a ClusterIP that a device of this node holds.
    pub translate_local_addresses: bool,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            node_ports: config.node_port_addresses.clone(),
            default_algorithm: config.default_algorithm,
            maglev_size: config.maglev_table_size,
            translate_local_addresses: config.socket.translate_local_addresses,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::from(&Config::default())
    }
}

/// How much the maps have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Elements of the backend arrays, IPv4 and IPv6.
    pub backends: [u32; 2],
    /// Lines of the arena.
    pub arena_lines: u32,
}

impl Capacity {
    /// Asks a store.
    pub fn of(store: &impl MapStore) -> Self {
        Self {
            backends: Family::ALL.map(|family| store.capacity(Map::backends(family))),
            arena_lines: store.capacity(Map::Arena),
        }
    }
}

/// The compiled state of everything that exists.
#[derive(Clone, Debug)]
pub struct Desired {
    settings: Settings,
    room: Room,
    want: MapState,
    /// Which of the tables the wanted words name: no others are wanted in the arena.
    named: Named,
    /// All tables, those of frontends that another service has too.
    tables: BTreeMap<u32, Arc<Run>>,
    services: BTreeMap<Arc<Name>, Compiled>,
    claims: Claims,
    seats: Seats,
    /// The services at each service address.
    users: BTreeMap<IpAddr, BTreeSet<Arc<Name>>>,
    /// Services that have a problem.
    troubled: BTreeSet<Arc<Name>>,
    /// Services of which a port does not fit.
    blocked: BTreeSet<Arc<Name>>,
    /// Services that exist only as the owner of slices.
    orphans: BTreeSet<Name>,
    room_was_made: bool,
    /// A table did not find lines in the arena.
    arena_is_short: bool,
    here: Option<Facts>,
    node_ports: BTreeMap<IpAddr, u32>,
    /// Addresses of this and other nodes, as their objects have them.
    node_addresses: BTreeSet<IpAddr>,
}

/// A Service as compiled.
#[derive(Clone, Debug, Default)]
struct Compiled {
    created: i128,
    addresses: BTreeSet<IpAddr>,
    units: BTreeMap<UnitKey, Arc<Unit>>,
    problems: Vec<Problem>,
}

type UnitKey = (u16, Protocol, Family);

impl Desired {
    /// Builds the state of an empty cluster: the canary's frontends.
    pub fn new(settings: Settings, capacity: Capacity) -> Self {
        let mut want = MapState::default();
        for canary in frontends::canaries() {
            want.frontends.insert(canary, Word::new(0, Kind::Canary, 0, 0, canary.fingerprint()));
        }
        Self {
            settings,
            room: Room::new(capacity.backends, capacity.arena_lines),
            want,
            named: Named::default(),
            tables: BTreeMap::new(),
            services: BTreeMap::new(),
            claims: Claims::default(),
            seats: Seats::default(),
            users: BTreeMap::new(),
            troubled: BTreeSet::new(),
            blocked: BTreeSet::new(),
            orphans: BTreeSet::new(),
            room_was_made: false,
            arena_is_short: false,
            here: None,
            node_ports: BTreeMap::new(),
            node_addresses: BTreeSet::new(),
        }
    }

    /// What the maps should hold.
    pub fn state(&self) -> &MapState {
        &self.want
    }

    /// The service port that has a number.
    pub fn port_name(&self, service: u32) -> Option<&PortName> {
        self.room.ids.name(service)
    }

    /// Lines of the arena that are in use or wait for a grace period.
    pub fn arena_used(&self) -> u32 {
        self.room.arena.used()
    }

    /// The size that the arena should grow to: twice what it has, once three quarters are taken or a table found no
    /// room.
    pub fn arena_wanted(&self) -> Option<u32> {
        let capacity = self.room.arena.capacity();
        let short = self.arena_is_short || self.arena_used() > capacity / 4 * 3;
        let next = capacity.saturating_mul(2).min(MAX_LINES);
        (short && next > capacity).then_some(next)
    }

    /// Adopts what the maps hold at the start, so that it keeps its numbers. Comes before the first update.
    pub fn restore(&mut self, held: &MapState) {
        self.room.restore(held);
    }

    /// Forgets what was held at the start and not adopted: it is about to be removed.
    pub fn forget_restored(&mut self) {
        self.room.forget_restored();
    }

    /// Keeps what the maps turn out to hold from being given out, whoever wrote it.
    pub fn reserve(&mut self, held: &MapState) {
        self.room.reserve(held);
    }

    /// Follows a larger arena.
    pub fn grow_arena(&mut self, lines: u32) {
        self.room.arena.grow(lines);
        self.room_was_made = true;
        self.arena_is_short = false;
    }

    /// Takes back ids and lines that the maps no longer hold, unless they are wanted; they are given out again when
    /// `epoch` has passed.
    pub fn release(
        &mut self,
        backends: impl Iterator<Item = BackendId>,
        lines: impl Iterator<Item = u32>,
        epoch: Epoch,
    ) {
        for id in backends {
            self.room.ids.release_backend(id, epoch);
        }
        for line in lines.filter(|line| !self.tables.contains_key(line)) {
            self.room.arena.release(line, epoch);
        }
    }

    /// Gives out what was taken back up to `epoch`. True if services that did not fit are to be compiled again.
    pub fn passed(&mut self, epoch: Epoch) -> bool {
        self.room_was_made |= self.room.passed(epoch);
        self.has_work()
    }

    /// True if something waits for a grace period.
    pub fn is_waiting(&self) -> bool {
        self.room.is_waiting()
    }

    /// True if the next update has something to do without any change.
    pub fn has_work(&self) -> bool {
        self.room_was_made && !self.blocked.is_empty()
    }

    /// Follows the model. Returns the keys whose entries may have changed.
    pub fn update(&mut self, model: &Model, facts: &Facts, changes: &Changes) -> Keys {
        let mut touched = Keys::default();
        let (mut dirty, addresses) = self.follow_node(model, facts, changes);
        touched.addresses.extend(addresses);
        dirty.extend(changes.services.iter().cloned());
        if std::mem::take(&mut self.room_was_made) {
            dirty.extend(self.blocked.iter().map(|name| Name::clone(name)));
        }
        if self.room.ids.has_restored() {
            self.adopt(dirty.iter().filter_map(|name| model.services.get(name)), facts);
        }
        for name in &dirty {
            match model.services.get(name) {
                Some(service) => self.compile(service, model, facts, &mut touched),
                None => self.retire(name, &mut touched),
            }
            if model.slices.contains_key(name) && !model.services.contains_key(name) {
                self.orphans.insert(name.clone());
            } else {
                self.orphans.remove(name);
            }
        }
        self.follow_seats(&mut touched);
        for address in &touched.addresses {
            match self.address_flags(address, facts) {
                0 => drop(self.want.addresses.remove(address)),
                flags => drop(self.want.addresses.insert(*address, flags)),
            }
        }
        touched
    }

    /// Follows what is known of the nodes. Returns the services to compile again and the addresses to look at.
    fn follow_node(&mut self, model: &Model, facts: &Facts, changes: &Changes) -> (BTreeSet<Name>, BTreeSet<IpAddr>) {
        let (mut dirty, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        if changes.nodes || self.here.is_none() {
            let nodes = model.nodes.values();
            let current: BTreeSet<IpAddr> =
                nodes.flat_map(|node| node.internal_ips.iter().chain(&node.external_ips)).copied().collect();
            addresses.extend(self.node_addresses.symmetric_difference(&current));
            self.node_addresses = current;
        }
        if self.here.as_ref() == Some(facts) {
            return (dirty, addresses);
        }
        let before = self.here.replace(facts.clone());
        let node_ports = facts.node_ports(&self.settings.node_ports);
        let families = |ports: &BTreeMap<IpAddr, u32>| Family::ALL.map(|f| ports.keys().any(|ip| Family::of(ip) == f));
        let all = match &before {
            None => true,
            Some(before) => {
                (&before.node, &before.zone) != (&facts.node, &facts.zone)
                    || families(&self.node_ports) != families(&node_ports)
            }
        };
        addresses.extend(self.node_ports.keys().chain(node_ports.keys()));
        self.node_ports = node_ports;
        if all {
            dirty.extend(model.services.keys().chain(model.slices.keys()).cloned());
        }
        if let Some(before) = before {
            for held in before.local.symmetric_difference(&facts.local) {
                addresses.insert(held.address);
                dirty.extend(self.users.get(&held.address).into_iter().flatten().map(|name| Name::clone(name)));
            }
        }
        (dirty, addresses)
    }

    fn address_flags(&self, address: &IpAddr, facts: &Facts) -> u32 {
        let refuses = self.users.contains_key(address)
            && facts.device(address).is_none()
            && !self.node_addresses.contains(address)
            && !frontends::is_reserved(address);
        let refuse = if refuses { address_flags::REFUSE_UNKNOWN } else { 0 };
        refuse | self.node_ports.get(address).copied().unwrap_or(0)
    }
}
