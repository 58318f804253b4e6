//! The endpoints of one port, each once, over all slices of the Service.
//!
//! While the controller moves an endpoint from one slice to another, both may hold it. kube-proxy keeps the copy that
//! it meets first unless a later one is local, so its answer depends on the order of a hash map
//! (`pkg/proxy/endpointslicecache.go`, `addEndpoints`). Here the best copy wins: local, then ready, then serving, then
//! not terminating, then by node and hints. Of the weights that copies give explicitly the smallest holds, so that an
//! endpoint that is being drained stays drained while it moves.

use std::cmp::Reverse;

use super::{Candidate, Here};
use crate::model::{
    addr::Family,
    endpoint::{Endpoint, EndpointSlice},
    service::ServicePort,
};

/// The weight of an address without one.
const DEFAULT_WEIGHT: u8 = 1;

/// A candidate with the endpoint that it came from.
pub(super) struct Merged<'a> {
    pub(super) candidate: Candidate,
    pub(super) endpoint: &'a Endpoint,
    weight: Option<u8>,
}

/// Collects the endpoints of `port`, sorted by address and port, without duplicates.
pub(super) fn merge<'a>(
    port: &ServicePort,
    family: Family,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    here: &Here<'_>,
) -> Vec<Merged<'a>> {
    let mut merged = Vec::new();
    for slice in slices.filter(|slice| slice.family == family) {
        let matching = slice.ports.iter().filter(|at| at.name == port.name && at.protocol == port.protocol);
        for at in matching {
            merged.extend(slice.endpoints.iter().map(|endpoint| look(endpoint, at.port, slice, here)));
        }
    }
    merged.sort_by(|a, b| rank(a).cmp(&rank(b)));
    merged.dedup_by(|copy, kept| {
        let same = (copy.candidate.address, copy.candidate.port) == (kept.candidate.address, kept.candidate.port);
        if same {
            kept.weight = [kept.weight, copy.weight].into_iter().flatten().min();
        }
        same
    });
    for endpoint in &mut merged {
        endpoint.candidate.weight = endpoint.weight.unwrap_or(DEFAULT_WEIGHT);
    }
    merged
}

fn look<'a>(endpoint: &'a Endpoint, port: u16, slice: &EndpointSlice, here: &Here<'_>) -> Merged<'a> {
    let candidate = Candidate {
        address: endpoint.address,
        port,
        node: endpoint.node.clone(),
        local: !here.node.is_empty() && endpoint.node.as_deref() == Some(here.node),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        weight: DEFAULT_WEIGHT,
    };
    Merged { candidate, endpoint, weight: slice.weights.get(&endpoint.address).copied() }
}

/// Orders by address and port, and the copies of one endpoint by which is kept: the smallest. It covers all that
/// differs between copies, weights apart, so the order of slices cannot show.
fn rank<'a>(merged: &'a Merged<'_>) -> impl Ord + use<'a> {
    let Candidate { address, port, node, local, ready, serving, terminating, weight: _ } = &merged.candidate;
    let Endpoint { node_hints, zone_hints, .. } = merged.endpoint;
    (address, port, Reverse((local, ready, serving)), terminating, node, node_hints, zone_hints)
}
