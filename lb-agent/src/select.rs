//! Which endpoints a Service port uses on this node.
//!
//! The rules are those of kube-proxy's `CategorizeEndpoints` (KEP-1669, KEP-2086, KEP-2433, KEP-3015): one list where
//! Cluster policy applies and one where Local does, each of ready endpoints, or of serving ones that terminate where
//! none is ready; the two fall back independently. Hints narrow the Cluster list alone.
//!
//! One rule is ours: an endpoint of weight 0 takes no new connection, so no list holds it and no fallback sees it.

mod merge;
mod topology;

use std::net::IpAddr;

use self::merge::Merged;
use crate::model::{
    addr::Family,
    endpoint::EndpointSlice,
    service::{Service, ServicePort, TrafficPolicy},
};

/// The place that the lists are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The node's label `topology.kubernetes.io/zone`.
    pub zone: Option<&'a str>,
}

/// An endpoint that may take connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Its address.
    pub address: IpAddr,
    /// Its port, in host byte order.
    pub port: u16,
    /// The node that it runs on.
    pub node: Option<String>,
    /// It runs on this node.
    pub local: bool,
    /// Condition `ready`.
    pub ready: bool,
    /// Condition `serving`.
    pub serving: bool,
    /// Condition `terminating`.
    pub terminating: bool,
    /// Its share of new connections: 1 to 100 in the lists, 0 only among the draining.
    pub weight: u8,
}

/// The endpoints of one port and family, as this node uses them. Each list is sorted by address and port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For Cluster policy; `None` if the port never uses it.
    pub cluster: Option<Vec<Candidate>>,
    /// For Local policy; `None` if the port never uses it.
    pub local: Option<Vec<Candidate>>,
    /// Alive but in no list: takes nothing new, and existing flows may still be on it, because it terminates, was
    /// given weight 0, or lies outside the hints. A mere change of hints must not look like its end.
    pub draining: Vec<Candidate>,
    /// A usable endpoint exists on some node: an empty list then means drop, and refuse otherwise.
    pub any_in_cluster: bool,
}

/// Selects the endpoints of `port`. The order of `slices` does not matter.
pub fn select<'a>(
    service: &Service,
    port: &ServicePort,
    family: Family,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    here: &Here<'_>,
) -> Selection {
    let merged = merge::merge(port, family, slices, here);
    let external = is_reachable_from_outside(service, port, family);
    let internal_local = service.internal_traffic_policy == TrafficPolicy::Local;
    let external_local = external && service.external_traffic_policy == TrafficPolicy::Local;
    // Pods and nodes of the cluster reach an external address with Cluster policy whatever externalTrafficPolicy is.
    let cluster = (!internal_local || external).then(|| cluster_list(&merged, here));
    let local = (internal_local || external_local).then(|| local_list(&merged));

    let is_listed = |candidate: &Candidate| [&cluster, &local].into_iter().flatten().any(|list| holds(list, candidate));
    let draining = merged
        .iter()
        .map(|endpoint| &endpoint.candidate)
        .filter(|candidate| may_have_flows(candidate, cluster.is_some()) && !is_listed(candidate))
        .cloned()
        .collect();
    let any_in_cluster = merged.iter().any(|endpoint| is_ready(endpoint) || is_last_resort(endpoint));
    Selection { cluster, local, draining, any_in_cluster }
}

/// True if something besides the ClusterIP leads to this port: a NodePort, an ingress address or an externalIP.
fn is_reachable_from_outside(service: &Service, port: &ServicePort, family: Family) -> bool {
    port.node_port != 0
        || service.load_balancer_ips.iter().chain(&service.external_ips).any(|ip| Family::of(ip) == family)
}

fn cluster_list(merged: &[Merged<'_>], here: &Here<'_>) -> Vec<Candidate> {
    let ready: Vec<_> = merged.iter().filter(|endpoint| is_ready(endpoint)).collect();
    if ready.is_empty() {
        return candidates(merged.iter().filter(|endpoint| is_last_resort(endpoint)));
    }
    let preference = topology::preference(&ready, here);
    candidates(ready.into_iter().filter(|endpoint| preference.admits(endpoint, here)))
}

fn local_list(merged: &[Merged<'_>]) -> Vec<Candidate> {
    let local = || merged.iter().filter(|endpoint| endpoint.candidate.local);
    let ready = candidates(local().filter(|endpoint| is_ready(endpoint)));
    if ready.is_empty() { candidates(local().filter(|endpoint| is_last_resort(endpoint))) } else { ready }
}

fn is_ready(endpoint: &Merged<'_>) -> bool {
    endpoint.candidate.ready && endpoint.candidate.weight != 0
}

fn is_last_resort(endpoint: &Merged<'_>) -> bool {
    let candidate = &endpoint.candidate;
    candidate.serving && candidate.terminating && candidate.weight != 0
}

/// True if flows through this node may be on the endpoint whatever the lists say. With Local policy alone those
/// elsewhere are left out: they were never listed here, and there may be one for each node of the cluster.
fn may_have_flows(candidate: &Candidate, uses_cluster: bool) -> bool {
    let is_alive = candidate.ready || candidate.serving;
    candidate.terminating || (is_alive && (candidate.weight == 0 || uses_cluster))
}

fn candidates<'a>(endpoints: impl Iterator<Item = &'a Merged<'a>>) -> Vec<Candidate> {
    endpoints.map(|endpoint| endpoint.candidate.clone()).collect()
}

fn holds(list: &[Candidate], candidate: &Candidate) -> bool {
    list.binary_search_by_key(&(candidate.address, candidate.port), |other| (other.address, other.port)).is_ok()
}

#[cfg(test)]
mod tests;
