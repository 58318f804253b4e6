//! discovery.k8s.io/v1 EndpointSlice.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice as ApiSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};

use super::{
    Converted, Refusal,
    field::{self, Report, is_link_local, parse_ip, unservable},
    is_ours,
};
use crate::model::{
    Event, Kind, Name, Object,
    addr::Family,
    endpoint::{Endpoint, EndpointPort, EndpointSlice},
    service::Weights,
};

/// The label that names the Service a slice belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Gives addresses of the slice their weights.
const WEIGHTS: &str = "lb-agent.io/weights";
/// The largest weight.
const MAX_WEIGHT: u8 = 100;
/// When the controller saw the change that led to this version.
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Converts a slice. One that belongs to no Service, or to another proxy's, becomes its deletion.
pub fn convert(slice: &ApiSlice) -> Result<Converted, Refusal> {
    let metadata = &slice.metadata;
    let reference = field::reference(Kind::EndpointSlice, metadata)?;
    let mut report = Report::about(&reference);
    if !is_ours(metadata.labels.as_ref()) {
        return Ok(report.done(Event::Delete(reference)));
    }
    let service = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)).filter(|name| !name.is_empty());
    let Some(service) = service else {
        report.warn(format!("metadata.labels[{SERVICE_NAME}]"), "is missing: the slice belongs to no Service");
        return Ok(report.done(Event::Delete(reference)));
    };
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return Err(report.refuse("addressType", "\"FQDN\" is not served, only IPv4 and IPv6")),
        other => return Err(report.refuse("addressType", format!("{other:?} is none of IPv4, IPv6"))),
    };
    let endpoints = slice.endpoints.iter().flatten().enumerate();
    let slice = EndpointSlice {
        service: Name::new(reference.name.namespace.as_str(), service.as_str()),
        name: reference.name,
        family,
        ports: parse_ports(slice, &report)?,
        endpoints: endpoints
            .map(|(index, endpoint)| parse_endpoint(endpoint, index, family, &report))
            .collect::<Result<_, _>>()?,
        weights: parse_weights(metadata, &mut report),
        triggered: parse_triggered(metadata, &mut report),
    };
    Ok(report.done(Event::Apply(Object::EndpointSlice(slice))))
}

fn parse_ports(slice: &ApiSlice, report: &Report) -> Result<Vec<EndpointPort>, Refusal> {
    let mut ports: Vec<EndpointPort> = Vec::new();
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        let at = |field: &str| format!("ports[{index}].{field}");
        let name = port.name.clone().unwrap_or_default();
        let protocol = report.protocol(at("protocol"), port.protocol.as_deref())?;
        if ports.iter().any(|other| other.name == name) {
            return Err(report.refuse(at("name"), format!("{name:?} names an earlier port")));
        }
        // Without a number the API means all ports, which no Service port maps to; kube-proxy skips it too.
        let Some(number) = port.port else { continue };
        ports.push(EndpointPort { name, port: report.port(at("port"), number)?, protocol });
    }
    Ok(ports)
}

fn parse_endpoint(endpoint: &ApiEndpoint, index: usize, family: Family, report: &Report) -> Result<Endpoint, Refusal> {
    let Some(text) = endpoint.addresses.first() else {
        return Err(report.refuse(format!("endpoints[{index}].addresses"), "is empty"));
    };
    let conditions = endpoint.conditions.as_ref();
    let hints = endpoint.hints.as_ref();
    Ok(Endpoint {
        address: parse_address(text, family)
            .map_err(|why| report.refuse(format!("endpoints[{index}].addresses[0]"), format!("{text:?} {why}")))?,
        ready: conditions.and_then(|conditions| conditions.ready).unwrap_or(true),
        serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(true),
        terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
        node: endpoint.node_name.clone().filter(|node| !node.is_empty()),
        zone_hints: hints
            .and_then(|hints| hints.for_zones.as_ref())
            .into_iter()
            .flatten()
            .map(|zone| zone.name.clone())
            .collect(),
        node_hints: hints
            .and_then(|hints| hints.for_nodes.as_ref())
            .into_iter()
            .flatten()
            .map(|node| node.name.clone())
            .collect(),
    })
}

/// The API server lets no endpoint have an address that means something else on each node.
fn parse_address(text: &str, family: Family) -> Result<IpAddr, String> {
    let address = parse_ip(text).ok_or("is no IP address")?;
    if let Some(why) = unservable(&address) {
        return Err(why.to_owned());
    }
    if is_link_local(&address) {
        return Err("is a link-local address".to_owned());
    }
    if Family::of(&address) != family {
        return Err(format!("is no {family} address, which addressType asks for"));
    }
    Ok(address)
}

/// The annotation holds as a whole or not at all: half a set of weights is a spread that nobody asked for.
fn parse_weights(metadata: &ObjectMeta, report: &mut Report) -> Weights {
    let Some(text) = annotation(metadata, WEIGHTS) else { return Weights::new() };
    read_weights(text).unwrap_or_else(|why| {
        report.warn(format!("metadata.annotations[{WEIGHTS}]"), format!("{why}; every address weighs 1"));
        Weights::new()
    })
}

fn read_weights(text: &str) -> Result<Weights, String> {
    let given: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| format!("is no JSON object of addresses and weights: {error}"))?;
    let mut weights = Weights::new();
    for (address, weight) in given {
        let parsed = parse_ip(&address).ok_or_else(|| format!("{address:?} is no IP address"))?;
        let number = weight.as_u64().and_then(|number| u8::try_from(number).ok()).filter(|n| *n <= MAX_WEIGHT);
        let number = number.ok_or_else(|| format!("{weight} of {address} is no number from 0 to {MAX_WEIGHT}"))?;
        weights.insert(parsed, number);
    }
    Ok(weights)
}

fn parse_triggered(metadata: &ObjectMeta, report: &mut Report) -> Option<i128> {
    let text = annotation(metadata, TRIGGERED)?;
    let time: Result<Timestamp, _> = text.parse();
    if let Err(error) = &time {
        report.warn(format!("metadata.annotations[{TRIGGERED}]"), format!("{text:?} is no time: {error}"));
    }
    time.ok().map(Timestamp::as_nanosecond)
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests;
