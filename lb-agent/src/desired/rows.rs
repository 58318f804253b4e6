//! Services and backends as lists for people and scripts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ::maglev::fill::Digest;
use lb_ebpf::abi::{backend::flags, frontend::Word};

use super::{
    Compiled, Desired, maglev,
    state::{BackendId, Run},
    unit::Unit,
};
use crate::{
    api::{
        maps::MaglevShow,
        query::ServicePortRef,
        rows::{BackendRow, BackendState, ServiceRow, sort_backends, sort_services},
    },
    model::{
        Model, Name,
        addr::{Family, Protocol},
        service::{Algorithm, Service},
    },
};

/// Why there is no Maglev table to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    /// No such service port is served in that family.
    #[error("{service} has no port {port} that is served")]
    NoPort {
        /// The Service.
        service: Name,
        /// The port.
        port: u16,
    },
    /// It chooses another way.
    #[error("port {port} of {service} has no Maglev table, its algorithm is {}", algorithm.name())]
    NotMaglev {
        /// The Service.
        service: Name,
        /// The port.
        port: u16,
        /// Its algorithm.
        algorithm: Algorithm,
    },
}

impl Desired {
    /// A row for each frontend that is served, sorted. `model` gives what the maps do not hold.
    pub fn service_rows(&self, model: &Model) -> Vec<ServiceRow> {
        let mut rows = Vec::new();
        for (name, compiled) in &self.services {
            let Some(service) = model.services.get(&**name) else { continue };
            for (&(port, protocol, _), unit) in &compiled.units {
                let served = unit.frontends.iter().filter(|(frontend, ..)| {
                    self.claims.winner(frontend).is_some_and(|claim| claim.service == unit.id)
                });
                rows.extend(served.map(|(frontend, via, word)| ServiceRow {
                    namespace: name.namespace.clone(),
                    name: name.name.clone(),
                    port,
                    protocol,
                    via: via.shown(),
                    address: SocketAddr::new(frontend.address, frontend.port),
                    backends: self.run_of(*word).map(|run| self.endpoints(run)).unwrap_or_default(),
                    algorithm: self.algorithm(service),
                    affinity_seconds: service.affinity_seconds.unwrap_or(0),
                    internal_traffic_policy: service.internal_traffic_policy,
                    external_traffic_policy: service.external_traffic_policy,
                }));
            }
        }
        sort_services(&mut rows);
        rows
    }

    /// A row for each backend, sorted. `model` gives what the maps do not hold.
    pub fn backend_rows(&self, model: &Model) -> Vec<BackendRow> {
        let mut rows = Vec::with_capacity(self.want.backends.len());
        for (name, Compiled { units, .. }) in &self.services {
            let nodes = nodes(model, name);
            for (&(port, protocol, _), unit) in units {
                let service = ServicePortRef { service: Name::clone(name), port };
                let shown = unit.backends.iter().filter(|(id, _)| self.want.backends.contains_key(id));
                rows.extend(shown.map(|(id, backend)| BackendRow {
                    id: id.id,
                    address: SocketAddr::new(backend.address, backend.port),
                    protocol,
                    node: nodes.get(&backend.address).copied().unwrap_or_default().to_owned(),
                    state: if backend.flags & flags::TERMINATING == 0 {
                        BackendState::Active
                    } else {
                        BackendState::Terminating
                    },
                    services: vec![service.clone()],
                }));
            }
        }
        sort_backends(&mut rows);
        rows
    }

    /// The Maglev table of a service port: that for Cluster policy, or for Local where there is no other.
    pub fn maglev_table(
        &self,
        model: &Model,
        service: &Name,
        port: u16,
        protocol: Option<Protocol>,
        family: Option<Family>,
    ) -> Result<MaglevShow, NoTable> {
        let none = || NoTable::NoPort { service: service.clone(), port };
        let object = model.services.get(service).ok_or_else(none)?;
        let units = &self.services.get(service).ok_or_else(none)?.units;
        let family = family.or(object.cluster_ips.first().map(Family::of)).ok_or_else(none)?;
        let protocols = protocol.map_or(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp], |protocol| vec![protocol]);
        let (protocol, unit) = protocols
            .into_iter()
            .find_map(|protocol| Some((protocol, units.get(&(port, protocol, family))?)))
            .ok_or_else(none)?;
        let algorithm = self.algorithm(object);
        if algorithm != Algorithm::Maglev {
            return Err(NoTable::NotMaglev { service: service.clone(), port, algorithm });
        }
        Ok(self.maglev_show(protocol, unit))
    }

    fn maglev_show(&self, protocol: Protocol, unit: &Unit) -> MaglevShow {
        let ids = unit.tables.iter().flatten().next().map(|(_, run)| run.ids.as_slice()).unwrap_or_default();
        let endpoints: BTreeMap<u32, SocketAddr> =
            unit.backends.iter().map(|(id, backend)| (id.id, SocketAddr::new(backend.address, backend.port))).collect();
        let keys: BTreeMap<u32, _> = endpoints
            .iter()
            .map(|(id, endpoint)| (*id, maglev::key(endpoint.ip(), endpoint.port(), protocol)))
            .collect();
        let mut slots: BTreeMap<String, u32> = BTreeMap::new();
        for id in ids {
            *slots.entry(endpoints[id].to_string()).or_default() += 1;
        }
        let digest = Digest::of_keys(ids.iter().map(|id| &keys[id])).to_string();
        MaglevShow { size: ids.len() as u32, slots, digest }
    }

    fn algorithm(&self, service: &Service) -> Algorithm {
        service.algorithm.unwrap_or(self.settings.default_algorithm)
    }

    fn run_of(&self, word: Word) -> Option<&Run> {
        self.want.run_of(word).map(|run| &**run)
    }

    /// The endpoints of a table, each once.
    fn endpoints(&self, run: &Run) -> Vec<SocketAddr> {
        let ids: BTreeSet<u32> = run.ids.iter().copied().collect();
        let backends = ids.into_iter().filter_map(|id| self.want.backends.get(&BackendId { family: run.family, id }));
        backends.map(|backend| SocketAddr::new(backend.address, backend.port)).collect()
    }
}

/// The node of each endpoint of a Service.
fn nodes<'a>(model: &'a Model, service: &Name) -> BTreeMap<IpAddr, &'a str> {
    let slices = model.slices.get(service).into_iter().flat_map(BTreeMap::values);
    slices
        .flat_map(|slice| &slice.endpoints)
        .filter_map(|endpoint| Some((endpoint.address, endpoint.node.as_deref()?)))
        .collect()
}
