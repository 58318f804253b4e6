//! What cannot be served as written, and why.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    Desired, Settings,
    facts::Facts,
    frontends::{Via, is_reserved},
    room::RoomError,
    state::MapState,
};
use crate::{
    ids::PortName,
    model::{
        Kind, Name, ObjectRef,
        addr::{Family, Protocol},
        service::Service,
    },
    plan::Op,
    problem::Problem,
};

impl Desired {
    /// Everything that is wrong at the moment.
    pub fn problems(&self) -> BTreeSet<Problem> {
        let services = self.troubled.iter().flat_map(|name| self.services[name].problems.iter().cloned());
        let conflicts = self.claims.lost().map(|(frontend, loser, winner)| {
            let what = match loser.via {
                Via::NodePort => format!("{} {}/{}", loser.via.shown().name(), frontend.port, loser.port.protocol),
                Via::ClusterIp | Via::LoadBalancer | Via::ExternalIp => {
                    format!("{} {frontend}", loser.via.shown().name())
                }
            };
            Problem {
                kind: "Conflict",
                object: object(&loser.port.service),
                field: loser.via.field().to_owned(),
                message: format!("{what} of port {} belongs to {}: older, or first by name", loser.port, winner.port),
            }
        });
        services.chain(conflicts).collect()
    }

    /// The Service that an entry belongs to; `None` for what belongs to the node, or to nobody any more.
    pub fn owner(&self, op: &Op, held: &MapState) -> Option<&Name> {
        let service = match op {
            Op::ClearAddress { address, .. } | Op::SetAddress { address, .. } => {
                return self.users.get(address)?.first().map(|name| &**name);
            }
            Op::RemoveFrontend { frontend } | Op::SetFrontend { frontend, .. } => match self.claims.winner(frontend) {
                Some(claim) => claim.service,
                None => held.run_of(*held.frontends.get(frontend)?)?.service,
            },
            Op::SetRange { range } | Op::RemoveRange { range } => range.service,
            Op::SetBackend { backend, .. } | Op::SettleBackend { backend, .. } | Op::RemoveBackend { backend, .. } => {
                backend.service
            }
            Op::SetTable { run, .. } => run.service,
        };
        self.port_name(service).map(|port| &*port.service)
    }

    /// Services that do not exist though slices belong to them. That is only a problem if it lasts: objects arrive in
    /// any order.
    pub fn orphans(&self) -> &BTreeSet<Name> {
        &self.orphans
    }
}

/// Slices without their Service.
pub fn orphaned(service: &Name) -> Problem {
    Problem {
        kind: "NoService",
        object: object(service),
        field: String::new(),
        message: "EndpointSlices belong to it, but there is no such Service to serve; they wait for it".to_owned(),
    }
}

/// What shows on the Service alone.
pub(super) fn of_service(service: &Service, settings: &Settings, facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |kind, field: String, message: String| {
        problems.push(Problem { kind, object: object(&service.name), field, message });
    };
    for (index, port) in service.ports.iter().enumerate().filter(|(_, port)| port.protocol == Protocol::Sctp) {
        add(
            "Unserved",
            format!("spec.ports[{index}].protocol"),
            format!("port {} is not served: SCTP has no cgroup hook, and packets are not translated yet", port.port),
        );
    }
    for (index, ip) in service.cluster_ips.iter().enumerate() {
        if !settings.translate_local_addresses
            && let Some(device) = facts.device(ip)
        {
            add(
                "LocalAddress",
                format!("spec.clusterIPs[{index}]"),
                format!("device {device} holds {ip}: connections to it are left untranslated"),
            );
        }
    }
    let has = |family| service.cluster_ips.iter().any(|ip| Family::of(ip) == family);
    let lists: [(&[IpAddr], &str); 3] = [
        (&service.cluster_ips, "spec.clusterIPs"),
        (&service.load_balancer_ips, "status.loadBalancer.ingress"),
        (&service.external_ips, "spec.externalIPs"),
    ];
    for (ips, field) in lists {
        for (index, ip) in ips.iter().enumerate() {
            let family = Family::of(ip);
            if is_reserved(ip) {
                add("Reserved", format!("{field}[{index}]"), format!("{ip} is reserved and not served"));
            } else if !has(family) {
                let message = format!("{ip} is not served: the Service has no {family} ClusterIP");
                add("OtherFamily", format!("{field}[{index}]"), message);
            }
        }
    }
    problems
}

pub(super) fn no_room(port: &PortName, index: usize, family: Family, error: &RoomError) -> Problem {
    Problem {
        kind: "MapFull",
        object: object(&port.service),
        field: format!("spec.ports[{index}]"),
        message: format!("port {}/{} stays as it was in {family}: {error}", port.port, port.protocol),
    }
}

/// How problems name a Service.
pub(crate) fn object(service: &Name) -> String {
    ObjectRef { kind: Kind::Service, name: service.clone() }.to_string()
}
