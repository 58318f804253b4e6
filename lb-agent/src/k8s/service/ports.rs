//! `spec.ports` of a Service.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::Type;
use crate::{
    k8s::{Refusal, field::Report},
    model::service::ServicePort,
};

/// Parses all ports. Names are unique, and so are port and protocol together, and NodePort and protocol.
pub(super) fn ports(spec: &ServiceSpec, sort: Type, report: &mut Report) -> Result<Vec<ServicePort>, Refusal> {
    let given = spec.ports.as_deref().unwrap_or_default();
    if given.is_empty() {
        return Err(report.refuse("spec.ports", "is empty"));
    }
    let (mut names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut ports = Vec::with_capacity(given.len());
    for (index, port) in given.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{index}].{field}");
        let parsed = ServicePort {
            name: port.name.clone().unwrap_or_default(),
            port: report.port(at("port"), port.port)?,
            protocol: report.protocol(at("protocol"), port.protocol.as_deref())?,
            node_port: report.optional_port(at("nodePort"), port.node_port)?,
        };
        let ServicePort { name, port, protocol, node_port } = &parsed;
        if name.is_empty() && given.len() > 1 {
            return Err(report.refuse(at("name"), "is missing: each of several ports needs one"));
        }
        if !names.insert(name.clone()) {
            return Err(report.refuse(at("name"), format!("{name:?} names an earlier port")));
        }
        if !numbers.insert((*port, *protocol)) {
            return Err(report.refuse(at("port"), format!("{port}/{protocol} is an earlier port")));
        }
        match (sort, node_port) {
            (Type::NodePort, 0) => report.warn(
                at("nodePort"),
                "is missing: the API server allocates one, nothing else does; no node port is served",
            ),
            (Type::LoadBalancer | Type::ClusterIp | Type::ExternalName, 0) => {}
            (Type::ClusterIp | Type::ExternalName, _) => {
                return Err(report.refuse(at("nodePort"), "may not be given for a Service of type ClusterIP"));
            }
            (Type::NodePort | Type::LoadBalancer, _) => {
                if !node_ports.insert((*node_port, *protocol)) {
                    return Err(report.refuse(at("nodePort"), format!("{node_port}/{protocol} is an earlier one")));
                }
            }
        }
        ports.push(parsed);
    }
    Ok(ports)
}
