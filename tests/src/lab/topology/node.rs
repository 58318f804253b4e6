//! Nodes, as their objects describe them.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    super::{cidr::Cidr, object::Object},
    address, is_absent, is_label,
};

/// A node: a namespace with an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its InternalIPs, the primary ones first.
    pub addresses: Vec<IpAddr>,
    /// The ranges that its pods take their addresses from, as text.
    pub pod_cidrs: Vec<String>,
}

impl Node {
    /// Reads a Node; none for other kinds and for a node marked absent.
    pub fn read(object: &Object) -> Result<Option<Self>> {
        if object.kind != "Node" || is_absent(object)? {
            return Ok(None);
        }
        ensure!(is_label(&object.name), "{object}: metadata.name: must be lower case, digits, dashes, at most 63");
        ensure!(object.name != "fabric", "{object}: metadata.name: is the name of the lab's own router");
        let field = object.field();
        let mut addresses = Vec::new();
        let listed = field.get("status").get("addresses");
        for item in listed.items()? {
            if item.get("type").text()? == Some("InternalIP") {
                addresses.push(address(&item.get("address"))?);
            }
        }
        ensure!(!addresses.is_empty(), listed.complain("needs an entry of type InternalIP"));
        let spec = field.get("spec");
        let mut listed = spec.get("podCIDRs").items()?;
        if listed.is_empty() && spec.get("podCIDR").is_given() {
            listed.push(spec.get("podCIDR"));
        }
        ensure!(!listed.is_empty(), spec.get("podCIDRs").complain("is missing"));
        let mut pod_cidrs = Vec::new();
        for field in listed {
            let cidr = field.cidr()?.ok_or_else(|| field.complain("is missing"))?;
            let reachable = addresses.iter().any(|address| cidr.same_family(address));
            ensure!(reachable, field.complain("the node has no InternalIP of this family"));
            pod_cidrs.push(cidr.to_string());
        }
        Ok(Some(Self { name: object.name.clone(), addresses, pod_cidrs }))
    }

    /// Returns the first InternalIP of a family.
    pub fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == ipv4)
    }

    /// Returns the first InternalIP of each family, the first one's family first.
    pub fn primary_addresses(&self) -> Vec<IpAddr> {
        let first = self.addresses.first().is_none_or(IpAddr::is_ipv4);
        [self.address(first), self.address(!first)].into_iter().flatten().collect()
    }

    /// Returns the ranges that its pods take their addresses from.
    pub fn cidrs(&self) -> Vec<Cidr> {
        self.pod_cidrs.iter().map(|text| text.parse().expect("was parsed when the node was read")).collect()
    }
}
