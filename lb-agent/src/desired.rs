//! What the maps should hold, compiled from the current objects.
//!
//! Each update recompiles the services that changed and no others. What comes out depends on the objects alone; only
//! the numbers (ids, lines, generations) depend on history, and they are kept for as long as they mean the same.
//!
//! A service that does not fit keeps what it has, and is compiled again when room was made.

mod claims;
pub mod facts;
mod frontends;
pub(crate) mod maglev;
pub mod problems;
mod room;
pub mod rows;
mod seats;
pub mod state;
mod table;
mod unit;
pub(crate) mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    net::IpAddr,
    sync::Arc,
};

use lb_ebpf::abi::frontend::{Kind, MAX_LINES, Word, address_flags};

pub use self::frontends::Via;
use self::{
    claims::{Claim, Claims},
    facts::Facts,
    frontends::Listing,
    room::{Room, RoomError},
    seats::Seats,
    state::{Backend, BackendId, Frontend, MapState, Named, Range, Run},
    unit::{Spec, Unit, View},
};
use crate::{
    config::{Config, NodePortAddresses},
    grace::Epoch,
    ids::PortName,
    maps::{Map, MapStore},
    model::{
        Changes, Model, Name,
        addr::{Family, Protocol},
        service::{Algorithm, Service, ServicePort},
    },
    plan::Keys,
    problem::Problem,
    select::{Here, Selection, select},
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

    fn compile(&mut self, service: &Service, model: &Model, facts: &Facts, touched: &mut Keys) {
        let (name, mut before) = match self.services.remove_entry(&service.name) {
            Some(entry) => entry,
            None => (Arc::new(service.name.clone()), Compiled::default()),
        };
        let mut now = Compiled { created: created(service), ..Compiled::default() };
        now.problems.extend(problems::of_service(service, &self.settings, facts));
        self.blocked.remove(&name);
        let families = families(service);
        for (index, port) in served_ports(service) {
            let port_name = PortName { service: Arc::clone(&name), port: port.port, protocol: port.protocol };
            let views: Vec<View> =
                families.iter().map(|family| self.view(service, port, *family, model, facts)).collect();
            let id = self.room.ids.service(
                &port_name,
                views.iter().flat_map(|view| view.listings.iter().map(|listing| listing.frontend)),
                views.iter().flat_map(View::endpoints),
            );
            for view in &views {
                let key = (port.port, port.protocol, view.family);
                let old = before.units.remove(&key);
                let spec = Spec {
                    service,
                    id,
                    protocol: port.protocol,
                    view,
                    algorithm: service.algorithm.unwrap_or(self.settings.default_algorithm),
                    maglev_size: self.settings.maglev_size,
                };
                match unit::compile(&mut self.room, &spec, old.as_deref()) {
                    Ok(unit) => {
                        let unit = Arc::new(unit);
                        self.replace(&port_name, now.created, old.as_deref(), Some(&unit), touched);
                        now.units.insert(key, unit);
                    }
                    Err(error) => {
                        self.arena_is_short |= matches!(error, RoomError::Arena(_));
                        now.problems.push(problems::no_room(&port_name, index, view.family, &error));
                        self.blocked.insert(Arc::clone(&name));
                        if let Some(old) = old {
                            now.units.insert(key, old);
                        }
                    }
                }
            }
        }
        now.addresses = service_addresses(service, &families);
        self.move_in(&name, &before.addresses, &now.addresses, touched);
        let ports = before.units.keys().map(|&(port, protocol, _)| (port, protocol));
        let ports = ports.chain(service.ports.iter().map(|port| (port.port, port.protocol))).collect();
        self.remove_units(&name, before, touched);
        self.forget_ports(&name, ports, &now);
        if now.problems.is_empty() {
            self.troubled.remove(&name);
        } else {
            self.troubled.insert(Arc::clone(&name));
        }
        self.services.insert(name, now);
    }

    /// Gives the numbers that the maps held at the start to those who will have the frontends, before others come by.
    fn adopt<'a>(&mut self, services: impl Iterator<Item = &'a Service>, facts: &Facts) {
        let mut first: BTreeMap<Frontend, (i128, PortName)> = BTreeMap::new();
        for service in services {
            let name = Arc::new(service.name.clone());
            let families = families(service);
            for (_, port) in served_ports(service) {
                let listings = families.iter().flat_map(|&family| self.listings(service, port, family, facts));
                for listing in listings.filter(|listing| self.room.ids.is_restored(&listing.frontend)) {
                    let port_name = PortName { service: Arc::clone(&name), port: port.port, protocol: port.protocol };
                    let claim = (created(service), port_name);
                    match first.entry(listing.frontend) {
                        btree_map::Entry::Vacant(entry) => drop(entry.insert(claim)),
                        btree_map::Entry::Occupied(mut entry) if claim < *entry.get() => drop(entry.insert(claim)),
                        btree_map::Entry::Occupied(_) => {}
                    }
                }
            }
        }
        for (frontend, (_, port)) in first {
            self.room.ids.service(&port, [frontend].into_iter(), [].into_iter());
        }
    }

    fn listings(&self, service: &Service, port: &ServicePort, family: Family, facts: &Facts) -> Vec<Listing> {
        let skip = |ip: &IpAddr| !self.settings.translate_local_addresses && facts.device(ip).is_some();
        let node_ports = self.node_ports.keys().any(|ip| Family::of(ip) == family);
        frontends::list(service, port, family, skip, node_ports)
    }

    /// Lists the frontends of a port in one family, and selects its endpoints if there are any.
    fn view(&self, service: &Service, port: &ServicePort, family: Family, model: &Model, facts: &Facts) -> View {
        let listings = self.listings(service, port, family, facts);
        let slices = model.slices.get(&service.name).into_iter().flat_map(BTreeMap::values);
        let here = Here { node: &facts.node, zone: facts.zone.as_deref() };
        let selection =
            if listings.is_empty() { Selection::default() } else { select(service, port, family, slices, &here) };
        View { family, listings, selection }
    }

    fn retire(&mut self, name: &Name, touched: &mut Keys) {
        self.blocked.remove(name);
        self.troubled.remove(name);
        if let Some((name, before)) = self.services.remove_entry(name) {
            self.move_in(&name, &before.addresses, &BTreeSet::new(), touched);
            let ports = before.units.keys().map(|&(port, protocol, _)| (port, protocol)).collect();
            self.remove_units(&name, before, touched);
            self.forget_ports(&name, ports, &Compiled::default());
        }
    }

    /// Removes the units that are left of a service.
    fn remove_units(&mut self, name: &Arc<Name>, before: Compiled, touched: &mut Keys) {
        for ((port, protocol, _), unit) in before.units {
            let port_name = PortName { service: Arc::clone(name), port, protocol };
            self.replace(&port_name, before.created, Some(&unit), None, touched);
        }
    }

    /// Gives up the numbers of ports that have no unit.
    fn forget_ports(&mut self, name: &Arc<Name>, ports: BTreeSet<(u16, Protocol)>, now: &Compiled) {
        for (port, protocol) in ports {
            if !Family::ALL.iter().any(|family| now.units.contains_key(&(port, protocol, *family))) {
                self.room.ids.release_service(&PortName { service: Arc::clone(name), port, protocol });
            }
        }
    }

    fn move_in(&mut self, name: &Arc<Name>, before: &BTreeSet<IpAddr>, now: &BTreeSet<IpAddr>, touched: &mut Keys) {
        for address in before.difference(now) {
            if let btree_map::Entry::Occupied(mut users) = self.users.entry(*address) {
                users.get_mut().remove(name);
                if users.get().is_empty() {
                    users.remove();
                }
            }
            touched.addresses.insert(*address);
        }
        for address in now.difference(before) {
            self.users.entry(*address).or_default().insert(Arc::clone(name));
            touched.addresses.insert(*address);
        }
    }

    /// Puts a unit in the place of the one that the port had in that family.
    fn replace(
        &mut self,
        port: &PortName,
        created: i128,
        old: Option<&Unit>,
        new: Option<&Arc<Unit>>,
        touched: &mut Keys,
    ) {
        if let Some(new) = new {
            self.tables.extend(new.tables.iter().flatten().cloned());
            self.seats.set_unit(Arc::clone(new));
            for (frontend, via, word) in &new.frontends {
                let claim = Claim { created, port: port.clone(), service: new.id, via: *via, word: *word };
                self.claims.set(*frontend, claim);
                self.settle(frontend, touched);
            }
        }
        let Some(old) = old else { return };
        let new = new.map(|new| &**new);
        for (frontend, ..) in &old.frontends {
            if new.is_none_or(|new| !new.has_frontend(frontend)) {
                self.claims.withdraw(frontend, old.id);
                self.settle(frontend, touched);
            }
        }
        for (line, _) in old.tables.iter().flatten().filter(|(line, _)| new.is_none_or(|new| !new.has_table(*line))) {
            self.tables.remove(line);
            touched.runs.insert(*line);
        }
        let kept: BTreeSet<BackendId> =
            new.into_iter().flat_map(|new| new.backends.iter().map(|(id, _)| *id)).collect();
        for (id, _) in old.backends.iter().filter(|(id, _)| !kept.contains(id)) {
            self.room.ids.drop_backend(*id);
            touched.backends.insert(*id);
        }
        if new.is_none() {
            self.seats.remove_unit(old);
        }
    }

    /// Gives a frontend to whoever claims it first.
    fn settle(&mut self, frontend: &Frontend, touched: &mut Keys) {
        let winner = self.claims.winner(frontend);
        self.seats.give(*frontend, winner.map(|claim| claim.service));
        let word = winner.map(|claim| claim.word);
        let before = match word {
            Some(word) => self.want.frontends.insert(*frontend, word),
            None => self.want.frontends.remove(frontend),
        };
        if before == word {
            return;
        }
        touched.frontends.insert(*frontend);
        if let Some(line) = word.and_then(|word| self.named.add(word)) {
            self.want.runs.insert(line, Arc::clone(&self.tables[&line]));
            touched.runs.insert(line);
        }
        if let Some(line) = before.and_then(|word| self.named.remove(word)) {
            self.want.runs.remove(&line);
            touched.runs.insert(line);
        }
    }

    /// Shows the backends and ranges of the units that have a frontend, and of no others.
    fn follow_seats(&mut self, touched: &mut Keys) {
        for change in self.seats.follow() {
            let (old, new) = (Entries::of(&change.before), Entries::of(&change.now));
            let kept: BTreeSet<BackendId> = new.backends.iter().map(|(id, _)| *id).collect();
            for (id, _) in old.backends.iter().filter(|(id, _)| !kept.contains(id)) {
                self.want.backends.remove(id);
                touched.backends.insert(*id);
            }
            for (id, backend) in new.backends {
                if self.want.backends.insert(*id, *backend) != Some(*backend) {
                    touched.backends.insert(*id);
                }
            }
            for range in old.ranges.iter().filter(|range| !new.ranges.contains(range)) {
                self.want.ranges.remove(range);
                touched.ranges.insert(*range);
            }
            for range in new.ranges.iter().filter(|range| !old.ranges.contains(range)) {
                self.want.ranges.insert(*range);
                touched.ranges.insert(*range);
            }
        }
    }
}

/// What a unit shows besides its frontends and tables.
struct Entries<'a> {
    backends: &'a [(BackendId, Backend)],
    ranges: &'a [Range],
}

impl<'a> Entries<'a> {
    fn of(unit: &'a Option<Arc<Unit>>) -> Self {
        match unit {
            Some(unit) => Self { backends: &unit.backends, ranges: &unit.ranges },
            None => Self { backends: &[], ranges: &[] },
        }
    }
}

/// The families that a Service has: those of its ClusterIPs.
fn families(service: &Service) -> BTreeSet<Family> {
    service.cluster_ips.iter().map(Family::of).collect()
}

/// The ports that a socket can be translated for, with their places.
fn served_ports(service: &Service) -> impl Iterator<Item = (usize, &ServicePort)> {
    service.ports.iter().enumerate().filter(|(_, port)| port.protocol != Protocol::Sctp)
}

/// When a Service was created, as it counts where two claim one frontend.
fn created(service: &Service) -> i128 {
    service.created.unwrap_or(i128::MAX)
}

/// The addresses at which pods and nodes find a Service, in the families that it has.
fn service_addresses(service: &Service, families: &BTreeSet<Family>) -> BTreeSet<IpAddr> {
    let all = service.cluster_ips.iter().chain(&service.load_balancer_ips).chain(&service.external_ips);
    all.copied().filter(|ip| families.contains(&Family::of(ip))).collect()
}
