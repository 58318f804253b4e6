//! v1 Node.

use k8s_openapi::api::core::v1::Node as ApiNode;

use super::{
    Converted, Refusal,
    field::{self, Report, parse_ip},
};
use crate::model::{
    Event, Kind, Object,
    addr::{Cidr, Family},
    node::Node,
};

/// The zone that topology hints speak of.
const ZONE: &str = "topology.kubernetes.io/zone";
/// The cluster autoscaler is about to delete the node (KEP-3836).
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Converts a Node.
pub fn convert(node: &ApiNode) -> Result<Converted, Refusal> {
    let metadata = &node.metadata;
    let reference = field::reference(Kind::Node, metadata)?;
    let mut report = Report::about(&reference);
    let pod_cidrs = parse_pod_cidrs(node, &report)?;
    let (mut internal_ips, mut external_ips) = (Vec::new(), Vec::new());
    let status = node.status.as_ref();
    for (index, given) in status.and_then(|status| status.addresses.as_ref()).into_iter().flatten().enumerate() {
        let list = match given.type_.as_str() {
            "InternalIP" => &mut internal_ips,
            "ExternalIP" => &mut external_ips,
            // Host names, and what a cloud provider adds.
            _ => continue,
        };
        match parse_ip(&given.address) {
            Some(address) => list.push(address),
            // The API server does not check them.
            None => report.warn(
                format!("status.addresses[{index}].address"),
                format!("{:?} is no IP address; it is skipped", given.address),
            ),
        }
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let tainted = taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == TO_BE_DELETED));
    let node = Node {
        name: reference.name.name,
        internal_ips,
        external_ips,
        pod_cidrs,
        zone: metadata.labels.as_ref().and_then(|labels| labels.get(ZONE)).filter(|zone| !zone.is_empty()).cloned(),
        leaving: tainted || metadata.deletion_timestamp.is_some(),
    };
    Ok(report.done(Event::Apply(Object::Node(node))))
}

/// `spec.podCIDRs`, or `spec.podCIDR` alone.
fn parse_pod_cidrs(node: &ApiNode, report: &Report) -> Result<Vec<Cidr>, Refusal> {
    let Some(spec) = &node.spec else { return Ok(Vec::new()) };
    let given = spec.pod_cidrs.as_deref().unwrap_or_default();
    if given.is_empty() {
        let single = spec.pod_cidr.as_deref().filter(|range| !range.is_empty());
        return single.map(|range| report.cidr("spec.podCIDR", range)).into_iter().collect();
    }
    let ranges: Vec<Cidr> = given
        .iter()
        .enumerate()
        .map(|(index, range)| report.cidr(format!("spec.podCIDRs[{index}]"), range))
        .collect::<Result<_, _>>()?;
    report.one_of_each_family("spec.podCIDRs", ranges.iter().map(|range| Family::of(&range.address())))?;
    Ok(ranges)
}
