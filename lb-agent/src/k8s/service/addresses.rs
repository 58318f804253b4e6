//! The addresses of a Service, and who may use its load balancer's.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::core::v1::{Service as ApiService, ServiceSpec};

use crate::{
    k8s::{
        Refusal,
        field::{Report, is_link_local, parse_cidr, parse_ip, unservable},
    },
    model::addr::{Cidr, Family},
};

/// `spec.clusterIPs`, or `spec.clusterIP` alone.
pub(super) fn cluster_ips(spec: &ServiceSpec, report: &Report) -> Result<Vec<IpAddr>, Refusal> {
    let single = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    let mut addresses = Vec::new();
    for (index, text) in spec.cluster_ips.iter().flatten().enumerate() {
        let field = format!("spec.clusterIPs[{index}]");
        addresses.push(servable(report, &field, text)?);
    }
    report.one_of_each_family("spec.clusterIPs", addresses.iter().map(Family::of))?;
    if let Some(text) = single {
        let address = servable(report, "spec.clusterIP", text)?;
        match addresses.first() {
            None => addresses.push(address),
            Some(first) if *first == address => {}
            Some(first) => {
                return Err(report.refuse("spec.clusterIP", format!("{text:?} is not spec.clusterIPs[0], {first}")));
            }
        }
    }
    if addresses.is_empty() {
        return Err(report.refuse("spec.clusterIP", "is missing: the API server allocates one, nothing else does"));
    }
    Ok(addresses)
}

/// `spec.externalIPs`.
pub(super) fn external_ips(spec: &ServiceSpec, report: &Report) -> Result<Vec<IpAddr>, Refusal> {
    let mut addresses = Vec::new();
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        let field = format!("spec.externalIPs[{index}]");
        let address = servable(report, &field, text)?;
        if is_link_local(&address) {
            return Err(report.refuse(field, format!("{text:?} is a link-local address")));
        }
        push_new(&mut addresses, address);
    }
    Ok(addresses)
}

/// `status.loadBalancer.ingress[].ip` of mode VIP.
pub(super) fn load_balancer_ips(service: &ApiService, report: &mut Report) -> Result<Vec<IpAddr>, Refusal> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let mut addresses = Vec::new();
    for (index, ingress) in status.and_then(|status| status.ingress.as_ref()).into_iter().flatten().enumerate() {
        let Some(text) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) else { continue };
        let at = format!("status.loadBalancer.ingress[{index}]");
        match ingress.ip_mode.as_deref() {
            None | Some("VIP") => {}
            // The balancer ends connections itself and must see them (KEP-1860).
            Some("Proxy") => continue,
            Some(other) => {
                return Err(report.refuse(format!("{at}.ipMode"), format!("{other:?} is none of VIP, Proxy")));
            }
        }
        let Some(address) = parse_ip(text) else {
            return Err(report.refuse(format!("{at}.ip"), format!("{text:?} is no IP address")));
        };
        match unservable(&address) {
            // A balancer may well report one, and translating it would take such connections from every pod.
            Some(why) => report.warn(format!("{at}.ip"), format!("{text:?} {why}; it is not served")),
            None => push_new(&mut addresses, address),
        }
    }
    Ok(addresses)
}

/// `spec.loadBalancerSourceRanges`. What is no range is skipped, as kube-proxy does; where nothing is left of a list,
/// the Service is refused, for an empty list would admit everybody.
pub(super) fn source_ranges(spec: &ServiceSpec, report: &mut Report) -> Result<BTreeSet<Cidr>, Refusal> {
    let mut ranges = BTreeSet::new();
    let given = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    for (index, text) in given.iter().enumerate() {
        // API validation lets surrounding blanks pass.
        match parse_cidr(text.trim()) {
            Ok(range) => drop(ranges.insert(range)),
            Err(error) => {
                report.warn(format!("spec.loadBalancerSourceRanges[{index}]"), format!("{error}; it is skipped"));
            }
        }
    }
    if ranges.is_empty() && !given.is_empty() {
        return Err(report.refuse("spec.loadBalancerSourceRanges", "holds no valid range, and none would admit all"));
    }
    Ok(ranges)
}

fn servable(report: &Report, field: &str, text: &str) -> Result<IpAddr, Refusal> {
    let address = report.ip(field, text)?;
    match unservable(&address) {
        Some(why) => Err(report.refuse(field, format!("{text:?} {why}"))),
        None => Ok(address),
    }
}

fn push_new(addresses: &mut Vec<IpAddr>, address: IpAddr) {
    if !addresses.contains(&address) {
        addresses.push(address);
    }
}
