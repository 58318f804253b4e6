//! v1 Pod.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod as ApiPod, PodStatus};

use super::{
    Converted, Refusal,
    field::{self, Report},
};
use crate::model::{Event, Kind, Object, addr::Family, node::Pod};

/// Converts a Pod.
pub fn convert(pod: &ApiPod) -> Result<Converted, Refusal> {
    let reference = field::reference(Kind::Pod, &pod.metadata)?;
    let report = Report::about(&reference);
    let spec = pod.spec.as_ref();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let pod = Pod {
        name: reference.name,
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        ips: pod.status.as_ref().map_or(Ok(Vec::new()), |status| parse_ips(status, &report))?,
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or_default(),
        finished: matches!(phase, Some("Succeeded" | "Failed")),
    };
    Ok(report.done(Event::Apply(Object::Pod(pod))))
}

/// `status.podIPs`, or `status.podIP` alone.
fn parse_ips(status: &PodStatus, report: &Report) -> Result<Vec<IpAddr>, Refusal> {
    let given = status.pod_ips.as_deref().unwrap_or_default();
    if given.is_empty() {
        let single = status.pod_ip.as_deref().filter(|ip| !ip.is_empty());
        return single.map(|ip| report.ip("status.podIP", ip)).into_iter().collect();
    }
    let ips: Vec<IpAddr> = given
        .iter()
        .enumerate()
        .map(|(index, at)| report.ip(format!("status.podIPs[{index}].ip"), &at.ip))
        .collect::<Result<_, _>>()?;
    report.one_of_each_family("status.podIPs", ips.iter().map(Family::of))?;
    Ok(ips)
}
