//! Services as the agent serves them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    Name,
    addr::{Cidr, Protocol},
};

/// A Service with at least one ClusterIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: Name,
    /// `metadata.creationTimestamp` in nanoseconds since 1970; `None` counts as newest where two services claim one
    /// frontend.
    pub created: Option<i128>,
    /// `spec.clusterIPs`, one of each family at most.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose ipMode is VIP or unset (KEP-1860).
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.ports`, at least one; names are unique, and so are port and protocol together.
    pub ports: Vec<ServicePort>,
    /// `spec.type` is NodePort or LoadBalancer, or there is an externalIP: reachable from outside.
    pub external: bool,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: TrafficPolicy,
    /// Seconds that a client sticks to its backend: `sessionAffinity: ClientIP` (1 to 86400, 10800 by default).
    pub affinity_seconds: Option<u32>,
    /// `spec.loadBalancerSourceRanges`; empty admits everybody.
    pub source_ranges: BTreeSet<Cidr>,
    /// The annotation `lb-agent.io/algorithm`.
    pub algorithm: Option<Algorithm>,
    /// `spec.healthCheckNodePort`, 0 when there is none.
    pub health_check_node_port: u16,
    /// `spec.publishNotReadyAddresses`; the slices carry its effect already.
    pub publish_not_ready_addresses: bool,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty where the Service has one unnamed port.
    pub name: String,
    /// 1 to 65535.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The NodePort; 0 when there is none.
    pub node_port: u16,
}

/// Cluster or Local.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficPolicy {
    /// Every endpoint of the cluster.
    #[default]
    Cluster,
    /// Endpoints on this node only (KEP-2086).
    Local,
}

/// How a backend is chosen for a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// At random, by weight.
    #[default]
    Random,
    /// By a Maglev table, equal on every node.
    Maglev,
    /// The less busy of two picks.
    LeastConnections,
}

impl Algorithm {
    /// The name in annotations, configuration and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Maglev => "maglev",
            Self::LeastConnections => "least-connections",
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Random, Self::Maglev, Self::LeastConnections].into_iter().find(|a| a.name() == name)
    }
}

impl TrafficPolicy {
    /// The word of the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// Weights by endpoint address: the annotation `lb-agent.io/weights` of an EndpointSlice, 0 to 100.
pub type Weights = BTreeMap<IpAddr, u8>;
