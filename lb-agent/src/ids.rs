//! Numbers that services and backends keep.
//!
//! A service port has one number for both families. A backend is one endpoint of one service port: two services on
//! the same pod have two backends, so that an id found in a program's memory (affinity, a datagram flow) can be held
//! against the service that asks. Ids survive a restart: what the maps hold is read back and adopted by whoever
//! still needs it.

mod pool;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use lb_ebpf::abi::backend::flags;

use self::pool::Pool;
use crate::{
    desired::state::{BackendId, Frontend, MapState},
    grace::Epoch,
    model::{
        Name,
        addr::{Family, Protocol},
    },
};

/// Names a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortName {
    /// The Service.
    pub service: Arc<Name>,
    /// The port's number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.service, self.port, self.protocol)
    }
}

/// Says that every backend id of a family is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no {family} backend id is free ({taken} of {capacity} are taken, {waiting} of them until a grace period ends)"
)]
pub struct IdsFull {
    /// The family.
    pub family: Family,
    /// The number of ids in use or in quarantine.
    pub taken: u32,
    /// The number of those that wait for a grace period.
    pub waiting: u32,
    /// The number of ids.
    pub capacity: u32,
}

/// A backend id that was just given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The id.
    pub id: BackendId,
    /// The service and endpoint that had it in the maps at the start.
    restored: Option<(u32, IpAddr, u16)>,
}

/// Who has which number.
#[derive(Clone, Debug)]
pub struct Ids {
    services: BTreeMap<PortName, u32>,
    names: BTreeMap<u32, PortName>,
    last_service: u32,
    backends: [Pool; 2],
    /// Ids that the maps may hold and no service port has.
    loose: BTreeSet<BackendId>,
    restored: Restored,
}

/// What the maps held at the start and nobody has claimed yet.
#[derive(Clone, Debug, Default)]
struct Restored {
    /// The service behind each frontend that named a run.
    frontends: BTreeMap<Frontend, u32>,
    /// All services that anything belonged to.
    services: BTreeSet<u32>,
    /// The services of which only backends are left, by endpoint.
    drained: BTreeMap<(IpAddr, u16, u8), BTreeSet<u32>>,
    /// Backends by owner and endpoint.
    backends: BTreeMap<(u32, IpAddr, u16), u32>,
}

impl Ids {
    /// Builds an empty set; `backends` is the size of the backend arrays, IPv4 and IPv6.
    pub fn new(backends: [u32; 2]) -> Self {
        Self {
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            last_service: 0,
            backends: backends.map(Pool::new),
            loose: BTreeSet::new(),
            restored: Restored::default(),
        }
    }

    /// Remembers what the maps hold, so that it keeps its numbers.
    pub fn restore(&mut self, held: &MapState) {
        for (frontend, word) in &held.frontends {
            if let Some(run) = held.runs.get(&word.line()).filter(|_| word.kind().is_some_and(|kind| kind.has_run())) {
                self.restored.frontends.insert(*frontend, run.service);
                self.restored.services.insert(run.service);
            }
        }
        let known: BTreeSet<u32> = self.restored.frontends.values().copied().collect();
        for (id, backend) in &held.backends {
            if !known.contains(&backend.service) {
                let endpoint = (backend.address, backend.port, backend.protocol);
                self.restored.drained.entry(endpoint).or_default().insert(backend.service);
            }
            self.reserve_backend(*id);
            self.restored.services.insert(backend.service);
            if backend.flags & flags::LIVE != 0 {
                self.restored.backends.entry((backend.service, backend.address, backend.port)).or_insert(id.id);
            }
        }
        self.restored.services.extend(held.ranges.iter().map(|range| range.service));
        self.last_service = self.restored.services.last().copied().unwrap_or(0).max(self.last_service);
    }

    /// Returns the number of a service port. A new one takes over the number that the maps held at the start behind
    /// one of its frontends, or else on one of its endpoints, unless another port has it already.
    pub fn service(
        &mut self,
        port: &PortName,
        frontends: impl Iterator<Item = Frontend>,
        endpoints: impl Iterator<Item = (IpAddr, u16)>,
    ) -> u32 {
        if let Some(&id) = self.services.get(port) {
            return id;
        }
        let restored = &self.restored;
        let by_frontend = frontends.filter_map(|frontend| restored.frontends.get(&frontend));
        let protocol = port.protocol.number();
        let by_endpoint = endpoints.filter_map(|(address, port)| restored.drained.get(&(address, port, protocol)));
        let known = by_frontend.chain(by_endpoint.flatten()).find(|id| **id != 0 && !self.names.contains_key(id));
        let id = known.copied().unwrap_or_else(|| self.new_service());
        self.services.insert(port.clone(), id);
        self.names.insert(id, port.clone());
        id
    }

    /// True if the maps held a table behind that frontend at the start.
    pub fn is_restored(&self, frontend: &Frontend) -> bool {
        self.restored.frontends.contains_key(frontend)
    }

    /// True if the maps held a table at the start, and nobody has said that all of them are claimed.
    pub fn has_restored(&self) -> bool {
        !self.restored.frontends.is_empty()
    }

    /// Forgets a service port that has nothing left in any map's want.
    pub fn release_service(&mut self, port: &PortName) {
        if let Some(id) = self.services.remove(port) {
            self.names.remove(&id);
        }
    }

    /// The service port that has a number.
    pub fn name(&self, service: u32) -> Option<&PortName> {
        self.names.get(&service)
    }

    /// Returns an id for a new backend: the one that the maps held at the start for the same endpoint of the same
    /// service, or a free one.
    pub fn backend(&mut self, service: u32, address: IpAddr, port: u16) -> Result<Given, IdsFull> {
        let family = Family::of(&address);
        if let Some(id) = self.restored.backends.remove(&(service, address, port)) {
            self.loose.remove(&BackendId { family, id });
            return Ok(Given { id: BackendId { family, id }, restored: Some((service, address, port)) });
        }
        let pool = self.pool(family);
        match pool.allocate() {
            Some(id) => Ok(Given { id: BackendId { family, id }, restored: None }),
            None => {
                let (taken, waiting, capacity) = (pool.taken(), pool.waiting(), pool.capacity());
                Err(IdsFull { family, taken, waiting, capacity })
            }
        }
    }

    /// Takes an id back that nothing was done with.
    pub fn cancel_backend(&mut self, given: Given) {
        match given.restored {
            Some(endpoint) => {
                self.restored.backends.insert(endpoint, given.id.id);
                self.loose.insert(given.id);
            }
            None => self.pool(given.id.family).cancel(given.id.id),
        }
    }

    /// Notes that no service port has an id any more; the maps may still hold it.
    pub fn drop_backend(&mut self, id: BackendId) {
        self.loose.insert(id);
    }

    /// Frees an id that the maps do not hold, when `epoch` has passed. One that a service port has stays as it is.
    pub fn release_backend(&mut self, id: BackendId, epoch: Epoch) {
        if self.loose.remove(&id) {
            self.pool(id.family).release(id.id, epoch);
        }
    }

    /// Keeps an id from being given that the maps hold, whoever wrote it.
    pub fn reserve_backend(&mut self, id: BackendId) {
        if self.pool(id.family).reserve(id.id) {
            self.loose.insert(id);
        }
    }

    /// Forgets what the maps held at the start: what nobody has claimed is about to be removed.
    pub fn forget_restored(&mut self) {
        self.restored.frontends.clear();
        self.restored.drained.clear();
        self.restored.backends.clear();
    }

    /// Frees the ids whose grace period has passed; true if there were any.
    pub fn passed(&mut self, epoch: Epoch) -> bool {
        let [v4, v6] = &mut self.backends;
        // Both must run.
        v4.passed(epoch) | v6.passed(epoch)
    }

    /// True if ids wait for a grace period.
    pub fn is_waiting(&self) -> bool {
        self.backends.iter().any(|pool| pool.waiting() > 0)
    }

    fn new_service(&mut self) -> u32 {
        loop {
            self.last_service = self.last_service.checked_add(1).unwrap_or(1);
            let id = self.last_service;
            if !self.names.contains_key(&id) && !self.restored.services.contains(&id) {
                return id;
            }
        }
    }

    fn pool(&mut self, family: Family) -> &mut Pool {
        match family {
            Family::V4 => &mut self.backends[0],
            Family::V6 => &mut self.backends[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc as Shared;

    use lb_ebpf::abi::frontend::{Kind, Word};

    use super::*;
    use crate::desired::state::{Backend, Run};

    fn port(name: &str) -> PortName {
        PortName { service: Arc::new(Name::new("default", name)), port: 80, protocol: Protocol::Tcp }
    }

    fn vip(last: u8) -> Frontend {
        Frontend::internal(IpAddr::from([10, 96, 0, last]), 80, Protocol::Tcp)
    }

    fn endpoint(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 0, last])
    }

    fn service(ids: &mut Ids, name: &str, last: u8) -> u32 {
        ids.service(&port(name), [vip(last)].into_iter(), [].into_iter())
    }

    /// Service 7 on VIP 1 with backend 5.
    fn held() -> MapState {
        let run = Run { family: Family::V4, generation: 3, service: 7, affinity_ticks: 0, pool: 1, ids: vec![5] };
        let backend =
            Backend { address: endpoint(1), port: 8080, protocol: 6, flags: flags::LIVE | flags::CLUSTER, service: 7 };
        MapState {
            frontends: [(vip(1), Word::new(0, Kind::Random, 0, 3, vip(1).fingerprint()))].into(),
            backends: [(BackendId { family: Family::V4, id: 5 }, backend)].into(),
            runs: [(0, Shared::new(run))].into(),
            ..MapState::default()
        }
    }

    #[test]
    fn numbers_survive_a_restart() {
        let mut ids = Ids::new([64, 64]);
        ids.restore(&held());
        assert_eq!(service(&mut ids, "other", 2), 8, "a new service counts on");
        assert_eq!(service(&mut ids, "web", 1), 7, "the owner of the VIP is known again");
        assert_eq!(ids.name(7), Some(&port("web")));
        let given = ids.backend(7, endpoint(1), 8080).unwrap();
        assert_eq!(given.id.id, 5);
        assert_ne!(ids.backend(7, endpoint(1), 8080).unwrap().id.id, 5, "it is given once");
        ids.cancel_backend(given);
        assert_eq!(ids.backend(7, endpoint(1), 8080), Ok(given), "taken back, it waits for its owner again");
        assert_ne!(ids.backend(8, endpoint(1), 8080).unwrap().id.id, 5, "another service has another id");
    }

    #[test]
    fn a_live_number_is_never_shared() {
        let mut ids = Ids::new([64, 64]);
        let mut two_vips = held();
        two_vips.frontends.insert(vip(2), Word::new(0, Kind::Random, 0, 3, vip(2).fingerprint()));
        ids.restore(&two_vips);
        let (first, second) = (service(&mut ids, "a", 1), service(&mut ids, "b", 2));
        assert_eq!(first, 7);
        assert_ne!(second, 7, "both VIPs named service 7, one of the ports has it");
    }

    #[test]
    fn a_service_that_only_drains_is_known_by_its_endpoints() {
        let mut ids = Ids::new([64, 64]);
        let mut drained = held();
        drained.frontends.clear();
        ids.restore(&drained);
        let one = |last: u8| [(endpoint(last), 8080)].into_iter();
        assert_eq!(ids.service(&port("other"), [].into_iter(), one(2)), 8);
        assert_eq!(ids.service(&port("web"), [].into_iter(), one(1)), 7);
        let mut ids = Ids::new([64, 64]);
        ids.restore(&held());
        assert_eq!(ids.service(&port("other"), [].into_iter(), one(1)), 8, "the owner of the VIP comes first");
    }

    #[test]
    fn exhaustion_is_said_by_family() {
        let mut ids = Ids::new([2, 64]);
        let given = ids.backend(1, endpoint(1), 80).unwrap();
        ids.release_backend(given.id, Epoch(1));
        assert!(!ids.is_waiting(), "somebody has it");
        ids.drop_backend(given.id);
        ids.release_backend(given.id, Epoch(1));
        let full = ids.backend(1, endpoint(2), 80).unwrap_err();
        assert_eq!(
            full.to_string(),
            "no IPv4 backend id is free (1 of 1 are taken, 1 of them until a grace period ends)"
        );
        assert!(ids.backend(1, "fd00::1".parse().unwrap(), 80).is_ok());
        assert!(ids.passed(Epoch(1)));
        assert!(ids.backend(1, endpoint(2), 80).is_ok());
    }
}
