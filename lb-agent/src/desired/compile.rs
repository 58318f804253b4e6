//! One Service to its units.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Compiled, Desired,
    facts::Facts,
    frontends::{self, Listing},
    problems,
    room::RoomError,
    state::Frontend,
    unit::{self, Spec, View},
};
use crate::{
    ids::PortName,
    model::{
        Model, Name,
        addr::{Family, Protocol},
        service::{Service, ServicePort},
    },
    plan::Keys,
    select::{Here, Selection, select},
};

impl Desired {
    /// Compiles a Service anew, and puts its units in the place of those that it had.
    pub(super) fn compile(&mut self, service: &Service, model: &Model, facts: &Facts, touched: &mut Keys) {
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
                        // Equal entries need no second look, unless the Service's age has changed.
                        let same = old.as_ref().filter(|old| ***old == unit && before.created == now.created);
                        if let Some(old) = same {
                            now.units.insert(key, Arc::clone(old));
                            continue;
                        }
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
    pub(super) fn adopt<'a>(&mut self, services: impl Iterator<Item = &'a Service>, facts: &Facts) {
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

    /// Removes everything of a Service.
    pub(super) fn retire(&mut self, name: &Name, touched: &mut Keys) {
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

    /// Follows the addresses of a Service.
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
