//! v1 Service.

mod addresses;
mod ports;

use k8s_openapi::api::core::v1::{Service as ApiService, ServiceSpec};

use super::{
    Converted, Refusal,
    field::{self, Report},
    is_ours,
};
use crate::model::{
    Event, Kind, Object,
    service::{Algorithm, Service, TrafficPolicy},
};

/// Chooses how backends are picked.
const ALGORITHM: &str = "lb-agent.io/algorithm";
/// `spec.clusterIP` of a headless Service.
const NO_ADDRESS: &str = "None";
/// The API's default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;
/// The API's upper bound of it: a day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// `spec.type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// Converts a Service. One that has no address of its own, or that another proxy serves, becomes its deletion.
pub fn convert(service: &ApiService) -> Result<Converted, Refusal> {
    let metadata = &service.metadata;
    let reference = field::reference(Kind::Service, metadata)?;
    let mut report = Report::about(&reference);
    if !is_ours(metadata.labels.as_ref()) {
        return Ok(report.done(Event::Delete(reference)));
    }
    let Some(spec) = &service.spec else { return Err(report.refuse("spec", "is missing")) };
    let sort = parse_type(spec, &report)?;
    if sort == Type::ExternalName || is_headless(spec) {
        return Ok(report.done(Event::Delete(reference)));
    }

    let external_traffic_policy =
        parse_policy(&report, "spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref())?;
    let health_check = report.optional_port("spec.healthCheckNodePort", spec.health_check_node_port)?;
    let checks_health = sort == Type::LoadBalancer && external_traffic_policy == TrafficPolicy::Local;
    let external_ips = addresses::external_ips(spec, &report)?;
    let service = Service {
        name: reference.name,
        created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_nanosecond()),
        cluster_ips: addresses::cluster_ips(spec, &report)?,
        external: sort != Type::ClusterIp || !external_ips.is_empty(),
        external_ips,
        load_balancer_ips: match sort {
            Type::LoadBalancer => addresses::load_balancer_ips(service, &mut report)?,
            Type::ClusterIp | Type::NodePort | Type::ExternalName => Vec::new(),
        },
        ports: ports::ports(spec, sort, &mut report)?,
        internal_traffic_policy: parse_policy(
            &report,
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
        )?,
        external_traffic_policy,
        affinity_seconds: parse_affinity(spec, &report)?,
        source_ranges: addresses::source_ranges(spec, &mut report)?,
        algorithm: parse_algorithm(service, &mut report),
        health_check_node_port: if checks_health { health_check } else { 0 },
        publish_not_ready_addresses: spec.publish_not_ready_addresses.unwrap_or_default(),
    };
    Ok(report.done(Event::Apply(Object::Service(service))))
}

fn parse_type(spec: &ServiceSpec, report: &Report) -> Result<Type, Refusal> {
    match spec.type_.as_deref() {
        None | Some("" | "ClusterIP") => Ok(Type::ClusterIp),
        Some("NodePort") => Ok(Type::NodePort),
        Some("LoadBalancer") => Ok(Type::LoadBalancer),
        Some("ExternalName") => Ok(Type::ExternalName),
        Some(other) => {
            Err(report
                .refuse("spec.type", format!("{other:?} is none of ClusterIP, NodePort, LoadBalancer, ExternalName")))
        }
    }
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()).any(|ip| ip == NO_ADDRESS)
}

fn parse_policy(report: &Report, field: &str, text: Option<&str>) -> Result<TrafficPolicy, Refusal> {
    match text {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(report.refuse(field, format!("{other:?} is none of Cluster, Local"))),
    }
}

fn parse_affinity(spec: &ServiceSpec, report: &Report) -> Result<Option<u32>, Refusal> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return Ok(None),
        Some("ClientIP") => {}
        Some(other) => {
            return Err(report.refuse("spec.sessionAffinity", format!("{other:?} is none of None, ClientIP")));
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS);
    match u32::try_from(seconds) {
        Ok(in_range) if (1..=MAX_AFFINITY_SECONDS).contains(&seconds) => Ok(Some(in_range)),
        Ok(_) | Err(_) => Err(report.refuse(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{seconds} is outside 1 to {MAX_AFFINITY_SECONDS}"),
        )),
    }
}

fn parse_algorithm(service: &ApiService, report: &mut Report) -> Option<Algorithm> {
    let text = service.metadata.annotations.as_ref()?.get(ALGORITHM)?;
    let algorithm = Algorithm::from_name(text);
    if algorithm.is_none() {
        let names = [Algorithm::Random, Algorithm::Maglev, Algorithm::LeastConnections].map(Algorithm::name).join(", ");
        report.warn(
            format!("metadata.annotations[{ALGORITHM}]"),
            format!("{text:?} is none of {names}; the default is used"),
        );
    }
    algorithm
}

#[cfg(test)]
mod tests;
