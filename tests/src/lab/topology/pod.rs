//! Pods, as their objects describe them, and the addresses that they are given.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    super::object::{Field, Object},
    Node, address, is_absent,
};

/// A pod: a namespace with a server, or with `hostNetwork` a server in its node's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace in Kubernetes.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node that it runs on.
    pub node: String,
    /// Whether it shares the node's network namespace.
    pub host_network: bool,
    /// Its addresses; the node's own with `hostNetwork`.
    pub addresses: Vec<IpAddr>,
    /// What its server listens on.
    pub ports: Vec<Port>,
    /// Fixed answers of its HTTP server, by `METHOD /path`.
    pub answers: BTreeMap<String, String>,
}

/// A port that a pod's server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The number.
    pub number: u16,
    /// Whether it is a port of UDP, of TCP otherwise.
    pub udp: bool,
}

impl Pod {
    /// Reads a Pod; none for other kinds, and for a pod that is absent, not scheduled or finished.
    pub fn read(object: &Object, nodes: &[Node]) -> Result<Option<Self>> {
        let field = object.field();
        let (spec, status) = (field.get("spec"), field.get("status"));
        if object.kind != "Pod" || is_absent(object)? || !spec.get("nodeName").is_given() {
            return Ok(None);
        }
        if matches!(status.get("phase").text()?, Some("Succeeded" | "Failed")) {
            return Ok(None);
        }
        // Both become one file name, beside the lab's own prefix.
        let length = object.full_name().len();
        ensure!(length <= 200, field.get("metadata").get("name").complain("with its namespace is longer than 200"));
        let name = spec.get("nodeName").text()?.unwrap_or_default();
        let node = nodes.iter().find(|node| node.name == name);
        let node = node.ok_or_else(|| spec.get("nodeName").complain(format!("there is no node `{name}`")))?;
        let host_network = spec.get("hostNetwork").flag()?;
        let mut addresses = Vec::new();
        for item in status.get("podIPs").items()? {
            addresses.push(address(&item.get("ip"))?);
        }
        if addresses.is_empty() {
            addresses.extend(status.get("podIP").address()?);
        }
        for address in &addresses {
            let reachable = node.address(address.is_ipv4()).is_some();
            ensure!(reachable, status.get("podIPs").complain(format!("{address}: its node has no such family")));
        }
        if host_network {
            addresses = node.primary_addresses();
        }
        Ok(Some(Self {
            namespace: object.namespace.clone().unwrap_or_default(),
            name: object.name.clone(),
            node: node.name.clone(),
            host_network,
            addresses,
            ports: read_ports(&spec)?,
            answers: read_answers(&field)?,
        }))
    }

    /// Returns `NAMESPACE/NAME`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Writes the pod's addresses into its object, as a kubelet does.
    pub fn write_status(&self, objects: &mut [Object], nodes: &[Node]) {
        let mine = |object: &&mut Object| object.kind == "Pod" && object.full_name() == self.full_name();
        let Some(object) = objects.iter_mut().find(mine) else { return };
        let hosts = nodes.iter().find(|node| node.name == self.node).map(Node::primary_addresses).unwrap_or_default();
        let list = |addresses: &[IpAddr]| -> Value { addresses.iter().map(|ip| json!({ "ip": ip })).collect() };
        let status = &mut object.value["status"];
        if !status.is_object() {
            *status = json!({});
        }
        status["podIP"] = json!(self.addresses.first());
        status["podIPs"] = list(&self.addresses);
        status["hostIP"] = json!(hosts.first());
        status["hostIPs"] = list(&hosts);
        if status["phase"].is_null() {
            status["phase"] = json!("Running");
        }
    }
}

/// Gives each pod without an address the next free one of every range of its node; `others` hold theirs already.
pub fn assign_addresses(pods: &mut [Pod], nodes: &[Node], others: &[IpAddr]) -> Result<()> {
    let mut taken: BTreeSet<IpAddr> = others.iter().copied().collect();
    taken.extend(nodes.iter().flat_map(|node| &node.addresses));
    taken.extend(pods.iter().flat_map(|pod| &pod.addresses));
    for pod in pods.iter_mut().filter(|pod| pod.addresses.is_empty()) {
        let Some(node) = nodes.iter().find(|node| node.name == pod.node) else { continue };
        for cidr in node.cidrs() {
            let address = cidr.next_free(|address| taken.contains(address));
            let address = address.with_context(|| {
                format!("Pod {}: status.podIPs: {cidr} of node {} has no free address", pod.full_name(), node.name)
            })?;
            taken.insert(address);
            pod.addresses.push(address);
        }
    }
    Ok(())
}

fn read_ports(spec: &Field<'_>) -> Result<Vec<Port>> {
    let mut ports = Vec::new();
    for container in spec.get("containers").items()? {
        for port in container.get("ports").items()? {
            let number = port.get("containerPort");
            let number = number.number(1..=65535)?.ok_or_else(|| number.complain("is missing"))?;
            let protocol = port.get("protocol");
            let port = match protocol.text()?.unwrap_or("TCP") {
                "TCP" => Port { number, udp: false },
                "UDP" => Port { number, udp: true },
                // The kernels that the lab runs on may have no SCTP: such a port is an object's field only.
                "SCTP" => continue,
                other => return Err(protocol.complain(format!("`{other}` is none of TCP, UDP, SCTP"))),
            };
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    Ok(ports)
}

fn read_answers(pod: &Field<'_>) -> Result<BTreeMap<String, String>> {
    let field = pod.get("metadata").get("annotations").get("lab/http");
    let Some(text) = field.text()? else { return Ok(BTreeMap::new()) };
    serde_json::from_str(text)
        .map_err(|error| field.complain(format!("must be {{\"METHOD /path\": \"body\"}}: {error}")))
}
