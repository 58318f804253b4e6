//! Rows of services and backends.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::query::ServicePortRef;
use crate::model::{
    addr::Protocol,
    service::{Algorithm, TrafficPolicy},
};

/// One frontend: an address and port where a service is dialled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// The service's port, whatever the port of `address`.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// What kind of address it is.
    pub via: Via,
    /// The address and port that clients dial; a NodePort has the unspecified address of its family.
    pub address: SocketAddr,
    /// The backends in its table, each once whatever its weight, sorted as text.
    pub backends: Vec<SocketAddr>,
    /// How a backend is chosen.
    pub algorithm: Algorithm,
    /// How long a client sticks to its backend, in seconds; 0: it does not.
    pub affinity_seconds: u32,
    /// internalTrafficPolicy.
    pub internal_traffic_policy: TrafficPolicy,
    /// externalTrafficPolicy.
    pub external_traffic_policy: TrafficPolicy,
}

/// Kinds of frontend addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// One of `spec.clusterIPs`.
    ClusterIP,
    /// A node port, on the node's addresses.
    NodePort,
    /// One of `status.loadBalancer.ingress`.
    LoadBalancer,
    /// One of `spec.externalIPs`.
    ExternalIP,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendRow {
    /// Its id in the maps.
    pub id: u32,
    /// Where it is reached.
    pub address: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The node that it is on; empty where its endpoint does not say.
    pub node: String,
    /// Whether it ends.
    pub state: BackendState,
    /// The service ports that it serves, sorted.
    pub services: Vec<ServicePortRef>,
}

/// Whether a backend ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// Takes new connections.
    Active,
    /// Terminating: keeps those that it has.
    Terminating,
}

impl Via {
    /// The word in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIP => "ExternalIP",
        }
    }
}

impl BackendState {
    /// The word in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Terminating => "terminating",
        }
    }
}

/// Sorts rows by namespace, name, port, protocol and address, and the backends of each row.
pub fn sort_services(rows: &mut [ServiceRow]) {
    for row in rows.iter_mut() {
        row.backends.sort_by_cached_key(ToString::to_string);
    }
    rows.sort_by_cached_key(|row| {
        let ServiceRow { namespace, name, port, protocol, address, .. } = row;
        (namespace.clone(), name.clone(), *port, protocol.to_string(), address.to_string(), row.via.name())
    });
}

/// Sorts backends by their first service port, protocol and address, and the service ports of each.
pub fn sort_backends(rows: &mut [BackendRow]) {
    for row in rows.iter_mut() {
        row.services.sort();
    }
    rows.sort_by_cached_key(|row| {
        (row.services.first().cloned(), row.protocol.to_string(), row.address.to_string(), row.id)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, port: u16, protocol: Protocol, address: &str) -> ServiceRow {
        ServiceRow {
            namespace: "default".into(),
            name: name.into(),
            port,
            protocol,
            via: Via::ClusterIP,
            address: address.parse().unwrap(),
            backends: vec!["10.0.0.9:80".parse().unwrap(), "10.0.0.10:80".parse().unwrap()],
            algorithm: Algorithm::Random,
            affinity_seconds: 0,
            internal_traffic_policy: TrafficPolicy::Cluster,
            external_traffic_policy: TrafficPolicy::Local,
        }
    }

    #[test]
    fn services_are_in_order() {
        let want = [
            service("a", 80, Protocol::Tcp, "10.96.0.2:80"),
            service("b", 53, Protocol::Sctp, "10.96.0.1:53"),
            service("b", 53, Protocol::Tcp, "10.96.0.1:53"),
            service("b", 53, Protocol::Udp, "10.96.0.1:53"),
            service("b", 80, Protocol::Tcp, "0.0.0.0:30080"),
            service("b", 80, Protocol::Tcp, "10.96.0.1:80"),
            service("b", 80, Protocol::Tcp, "[fd00::1]:80"),
            service("b", 443, Protocol::Tcp, "10.96.0.1:443"),
        ];
        let mut rows: Vec<_> = want.iter().rev().cloned().collect();
        sort_services(&mut rows);
        let keys = |rows: &[ServiceRow]| {
            rows.iter().map(|r| format!("{} {} {} {}", r.name, r.port, r.protocol, r.address)).collect::<Vec<_>>()
        };
        assert_eq!(keys(&rows), keys(&want));
        assert_eq!(rows[0].backends[0].to_string(), "10.0.0.10:80", "as text, as a script sorts them");
    }

    #[test]
    fn backends_are_in_order() {
        let row = |id, address: &str, service: &str| BackendRow {
            id,
            address: address.parse().unwrap(),
            protocol: Protocol::Tcp,
            node: String::new(),
            state: BackendState::Active,
            services: vec![service.parse().unwrap()],
        };
        let mut rows = vec![
            row(1, "10.0.0.1:443", "default/web:443"),
            row(2, "10.0.0.2:80", "default/web:80"),
            row(3, "10.0.0.1:80", "default/web:80"),
            row(4, "10.9.9.9:1", "a/z:9"),
        ];
        sort_backends(&mut rows);
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [4, 3, 2, 1]);
    }
}
