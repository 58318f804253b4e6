//! Endpoints as the slices give them.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    Name,
    addr::{Family, Protocol},
    service::Weights,
};

/// One EndpointSlice of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The slice's own name.
    pub name: Name,
    /// The Service that it belongs to (label `kubernetes.io/service-name`), in the same namespace.
    pub service: Name,
    /// `addressType`.
    pub family: Family,
    /// `ports`: those with a number.
    pub ports: Vec<EndpointPort>,
    /// `endpoints`.
    pub endpoints: Vec<Endpoint>,
    /// The annotation `lb-agent.io/weights`; an address without one weighs 1.
    pub weights: Weights,
    /// `endpoints.kubernetes.io/last-change-trigger-time` in nanoseconds since 1970.
    pub triggered: Option<i128>,
}

/// A port of a slice, matched to a Service's port by name and protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// Empty where the Service's port has no name.
    pub name: String,
    /// 1 to 65535.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// One endpoint; the conditions have their defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The first address: the API has all addresses of an endpoint mean the same pod, and proxies use the first.
    pub address: IpAddr,
    /// `conditions.ready`; unset counts as true.
    pub ready: bool,
    /// `conditions.serving`; unset counts as true.
    pub serving: bool,
    /// `conditions.terminating`; unset counts as false.
    pub terminating: bool,
    /// `nodeName`.
    pub node: Option<String>,
    /// `hints.forZones`.
    pub zone_hints: BTreeSet<String>,
    /// `hints.forNodes` (KEP-3015).
    pub node_hints: BTreeSet<String>,
}
