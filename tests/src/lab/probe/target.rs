//! What the ends of a query mean in this lab.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use super::super::{
    Lab,
    object::{Field, Object},
    state::NodeState,
};

/// Where a query's connections come from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The place's name.
    pub(super) place: String,
    /// The source address, when the query names one.
    pub(super) bind: Option<IpAddr>,
}

/// The lab's names and addresses, and the objects that the agents see, as they are when a run of queries starts.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    lab: &'a Lab,
    node: &'a NodeState,
    objects: Vec<Object>,
}

impl<'a> Directory<'a> {
    pub(super) fn new(lab: &'a Lab, node: Option<&str>) -> Result<Self> {
        let node = match node {
            Some(name) => lab.state().node(name)?,
            None => lab.state().nodes.first().context("there is no node")?,
        };
        let mut objects = lab.objects()?;
        objects.retain(|object| matches!(object.kind.as_str(), "Service" | "EndpointSlice" | "Pod"));
        Ok(Self { lab, node, objects })
    }

    /// Finds the place that a query comes from.
    pub(super) fn source(&self, from: &str) -> Result<Source> {
        if from == "node" {
            return Ok(Source { place: self.node.node.name.clone(), bind: None });
        }
        let Ok(address) = from.parse::<IpAddr>() else {
            self.lab.place(from).context("from")?;
            return Ok(Source { place: from.to_owned(), bind: None });
        };
        let state = self.lab.state();
        let pods = state.pods.iter().filter(|pod| !pod.pod.host_network);
        let pods = pods.map(|pod| (pod.pod.full_name(), &pod.pod.addresses));
        let nodes = state.nodes.iter().map(|node| (node.node.name.clone(), &node.node.addresses));
        let clients = state.clients.iter().map(|client| (client.client.name.clone(), &client.client.addresses));
        let found = pods.chain(nodes).chain(clients).find(|(_, addresses)| addresses.contains(&address));
        let (place, _) = found.with_context(|| format!("from: no pod, node or client has the address {address}"))?;
        Ok(Source { place, bind: Some(address) })
    }

    /// Finds the address that a query goes to.
    pub(super) fn target(&self, to: &str) -> Result<IpAddr> {
        if let Ok(address) = to.parse() {
            return Ok(address);
        }
        let node = if to == "node" { Some(self.node) } else { self.lab.state().node(to).ok() };
        let first = match node {
            Some(node) => node.node.addresses.first().copied(),
            None => match to.strip_prefix("service:") {
                Some(name) => self.object("Service", name)?.field().get("spec").get("clusterIP").address()?,
                None if to.contains('/') => self.object("Pod", to)?.field().get("status").get("podIP").address()?,
                None => bail!("to: `{to}` is no pod, service, node or address"),
            },
        };
        first.with_context(|| format!("to: {to} has no address"))
    }

    /// Counts the endpoints that could answer at an address and port: at most those of every Service that holds it.
    pub(super) fn endpoints(&self, address: IpAddr, port: u16) -> usize {
        let services = self.objects.iter().filter(|object| object.kind == "Service");
        let holding = services.filter(|service| self.holds(service, address, port).unwrap_or(false));
        holding.map(|service| self.endpoints_of(service, address)).max().unwrap_or(0)
    }

    fn holds(&self, service: &Object, address: IpAddr, port: u16) -> Result<bool> {
        let (spec, status) = (service.field().get("spec"), service.field().get("status"));
        let mut addresses = spec.get("clusterIPs").items()?;
        addresses.extend([spec.get("clusterIP")]);
        addresses.extend(spec.get("externalIPs").items()?);
        addresses.extend(status.get("loadBalancer").get("ingress").items()?.iter().map(|item| item.get("ip")));
        let own = addresses.iter().any(|field| field.address().is_ok_and(|own| own == Some(address)));
        let node_port = |item: &Field<'_>| item.get("nodePort").number(1..=65535).is_ok_and(|own| own == Some(port));
        Ok(own || spec.get("ports").items()?.iter().any(node_port))
    }

    fn endpoints_of(&self, service: &Object, address: IpAddr) -> usize {
        let slices = self.objects.iter().filter(|object| {
            let label = object.field().get("metadata").get("labels").get("kubernetes.io/service-name");
            object.kind == "EndpointSlice"
                && object.namespace == service.namespace
                && label.text().is_ok_and(|name| name == Some(&service.name))
        });
        let endpoints = slices.filter_map(|slice| slice.field().get("endpoints").items().ok()).flatten();
        let addresses =
            endpoints.filter_map(|endpoint| endpoint.get("addresses").items().ok()?.first()?.address().ok()?);
        addresses.filter(|endpoint| endpoint.is_ipv4() == address.is_ipv4()).count()
    }

    fn object(&self, kind: &str, name: &str) -> Result<&Object> {
        let found = self.objects.iter().find(|object| object.kind == kind && object.full_name() == name);
        found.with_context(|| format!("to: there is no {kind} {name}"))
    }
}
