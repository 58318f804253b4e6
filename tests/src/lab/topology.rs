//! What a lab is made of: ordinary manifests, plus at most one `kind: Lab` document for what Kubernetes has no kind for.
//!
//! ```yaml
//! kind: Lab
//! clients: {outside: [203.0.113.2, "2001:db8:f::2"]}   # namespaces beyond the nodes, with these addresses
//! routes: {198.51.100.10: node-a}                      # where the router sends what no node, pod or client holds
//! ```
//!
//! The annotation `lab/absent: "true"` on a Node or a Pod leaves it an object that the agents see, with nothing behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    cidr::Cidr,
    object::{Field, Object},
};

/// The topology of `lab up` without a file: two nodes, IPv4 and IPv6.
pub const DEFAULT: &str = include_str!("../../topologies/default.yaml");

/// Everything that `Lab::up` brings up.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Every object for the agents, the lab's own additions included.
    pub objects: Vec<Object>,
    /// The nodes in the order in which they were given.
    pub nodes: Vec<Node>,
    /// The pods that run on them.
    pub pods: Vec<Pod>,
    /// Namespaces outside the cluster.
    pub clients: Vec<Client>,
    /// Where the router sends addresses that no node, pod or client holds.
    pub routes: Vec<Route>,
}

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

/// A namespace outside the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A route of the router in the middle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The address, as text.
    pub to: IpAddr,
    /// The node that gets its packets.
    pub node: String,
}

impl Topology {
    /// Reads a topology from a file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads a topology; the complaint names the object and its field.
    pub fn parse(yaml: &str) -> Result<Self> {
        let mut topology = Self::default();
        let mut labs = 0;
        for object in Object::parse_all(yaml)? {
            if object.kind == "Lab" {
                labs += 1;
                ensure!(labs == 1, "Lab: there is more than one such document");
                topology.read_lab(&object)?;
            } else {
                ensure!(!topology.objects.iter().any(|other| other.same(&object)), "{object}: is given twice");
                topology.objects.push(object);
            }
        }
        for object in &topology.objects {
            topology.nodes.extend(Node::read(object)?);
        }
        for object in &topology.objects {
            topology.pods.extend(Pod::read(object, &topology.nodes)?);
        }
        topology.check()?;
        assign_addresses(&mut topology.pods, &topology.nodes, &[])?;
        for pod in &topology.pods {
            pod.write_status(&mut topology.objects, &topology.nodes);
        }
        Ok(topology)
    }

    fn read_lab(&mut self, lab: &Object) -> Result<()> {
        for (key, field) in lab.field().entries()? {
            ensure!(
                matches!(key, "kind" | "apiVersion" | "metadata" | "clients" | "routes"),
                field.complain("there is no such field")
            );
        }
        for (name, field) in lab.field().get("clients").entries()? {
            let addresses = field.items()?.iter().map(address).collect::<Result<Vec<_>>>()?;
            ensure!(!addresses.is_empty(), field.complain("needs at least one address"));
            ensure!(is_label(name), field.complain(format!("`{name}` is not a name (lower case, digits, dashes)")));
            self.clients.push(Client { name: name.to_owned(), addresses });
        }
        for (to, field) in lab.field().get("routes").entries()? {
            let to = to.parse().map_err(|_| field.complain(format!("`{to}` is not an IP address")))?;
            let node = field.text()?.unwrap_or_default().to_owned();
            self.routes.push(Route { to, node });
        }
        Ok(())
    }

    /// Checks what spans objects: names and addresses belong to one place only.
    fn check(&self) -> Result<()> {
        ensure!(!self.nodes.is_empty(), "there is no Node");
        for client in &self.clients {
            let taken = client.name == "fabric" || self.nodes.iter().any(|node| node.name == client.name);
            ensure!(!taken, "Lab: clients.{0}: there is a node or the router of the name {0} too", client.name);
        }
        for route in &self.routes {
            let known = self.nodes.iter().any(|node| node.name == route.node);
            ensure!(known, "Lab: routes.{}: there is no node `{}`", route.to, route.node);
        }
        let nodes = self.nodes.iter().map(|node| (format!("Node {}", node.name), &node.addresses));
        let pods = self.pods.iter().filter(|pod| !pod.host_network);
        let pods = pods.map(|pod| (format!("Pod {}", pod.full_name()), &pod.addresses));
        let clients = self.clients.iter().map(|client| (format!("Lab: clients.{}", client.name), &client.addresses));
        let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
        for (owner, addresses) in nodes.chain(pods).chain(clients) {
            for address in addresses {
                if let Some(other) = owners.insert(*address, owner.clone()) {
                    anyhow::bail!("{owner}: the address {address} is already that of {other}");
                }
            }
        }
        Ok(())
    }
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

fn address(field: &Field<'_>) -> Result<IpAddr> {
    field.address()?.ok_or_else(|| field.complain("is missing"))
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

fn is_absent(object: &Object) -> Result<bool> {
    Ok(object.field().get("metadata").get("annotations").get("lab/absent").text()? == Some("true"))
}

/// Returns whether the name is an RFC 1123 label: it becomes part of namespace, directory and socket names.
fn is_label(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 63 && name.chars().all(fine) && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "kind: Node\nmetadata: {name: a}\nspec: {podCIDRs: [10.1.0.0/24, 'fd01::/64']}\nstatus: {addresses: \
                        [{type: InternalIP, address: 192.168.0.2}, {type: InternalIP, address: 'fd00::2'}]}\n---\n";

    #[test]
    fn the_default_is_fine() {
        let topology = Topology::parse(DEFAULT).expect("is fine");
        assert_eq!(topology.nodes.len(), 2);
    }

    #[test]
    fn pods_get_the_next_free_addresses() {
        let yaml = format!(
            "{NODE}kind: Pod\nmetadata: {{name: p}}\nspec: {{nodeName: a}}\n---\nkind: Pod\nmetadata: {{name: q}}\n\
             spec: {{nodeName: a}}\nstatus: {{podIP: 10.1.0.2}}\n---\n\
             kind: Pod\nmetadata: {{name: h}}\nspec: {{nodeName: a, hostNetwork: true}}\n"
        );
        let topology = Topology::parse(&yaml).expect("is fine");
        let addresses: Vec<String> = topology.pods.iter().map(|pod| format!("{:?}", pod.addresses)).collect();
        assert_eq!(addresses, ["[10.1.0.3, fd01::2]", "[10.1.0.2]", "[192.168.0.2, fd00::2]"]);
        let status = &topology.objects[1].value["status"];
        assert_eq!(status["podIPs"], json!([{"ip": "10.1.0.3"}, {"ip": "fd01::2"}]));
        assert_eq!(status["hostIP"], "192.168.0.2");
    }

    #[test]
    fn complaints_name_object_and_field() {
        let node = |rest: &str| format!("kind: Node\nmetadata: {{name: a}}\n{rest}");
        let pod = |rest: &str| format!("{NODE}kind: Pod\nmetadata: {{name: p, namespace: x}}\n{rest}");
        for (name, yaml, want) in [
            ("nothing", String::new(), "there is no Node"),
            (
                "no address",
                node("spec: {podCIDR: 10.1.0.0/24}"),
                "Node a: status.addresses: needs an entry of type InternalIP",
            ),
            (
                "no range",
                node("status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}"),
                "Node a: spec.podCIDRs: is missing",
            ),
            (
                "bad address",
                node("status: {addresses: [{type: InternalIP, address: 10.0.0.256}]}"),
                "Node a: status.addresses[0].address: `10.0.0.256` is not an IP address",
            ),
            (
                "family without an InternalIP",
                node("spec: {podCIDRs: ['fd00::/64']}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.1}]}"),
                "Node a: spec.podCIDRs[0]: the node has no InternalIP of this family",
            ),
            ("unknown node", pod("spec: {nodeName: b}"), "Pod x/p: spec.nodeName: there is no node `b`"),
            (
                "port 0",
                pod("spec: {nodeName: a, containers: [{ports: [{containerPort: 0}]}]}"),
                "Pod x/p: spec.containers[0].ports[0].containerPort: 0 is not a number from 1 to 65535",
            ),
            (
                "unknown protocol",
                pod("spec: {nodeName: a, containers: [{ports: [{containerPort: 1, protocol: TLS}]}]}"),
                "Pod x/p: spec.containers[0].ports[0].protocol: `TLS` is none of TCP, UDP, SCTP",
            ),
            (
                "an address twice",
                pod("spec: {nodeName: a}\nstatus: {podIP: 192.168.0.2}"),
                "Pod x/p: the address 192.168.0.2 is already that of Node a",
            ),
            ("an object twice", format!("{NODE}{NODE}"), "Node a: is given twice"),
            ("two labs", format!("{NODE}kind: Lab\n---\nkind: Lab\n"), "Lab: there is more than one such document"),
            ("an unknown field", format!("{NODE}kind: Lab\nclient: {{}}\n"), "Lab: client: there is no such field"),
            (
                "a client without an address",
                format!("{NODE}kind: Lab\nclients: {{c: []}}\n"),
                "Lab: clients.c: needs at least one address",
            ),
            (
                "a client like a node",
                format!("{NODE}kind: Lab\nclients: {{a: [10.9.9.9]}}\n"),
                "Lab: clients.a: there is a node or the router of the name a too",
            ),
            (
                "answers that are no object",
                pod("spec: {nodeName: a}").replace("namespace: x", "namespace: x, annotations: {lab/http: '[]'}"),
                "Pod x/p: metadata.annotations.lab/http: must be {\"METHOD /path\": \"body\"}: invalid type: sequence, \
                 expected a map at line 1 column 0",
            ),
        ] {
            let error = Topology::parse(&yaml).expect_err(name);
            assert_eq!(format!("{error:#}"), want, "{name}");
        }
    }

    #[test]
    fn absent_objects_have_nothing_behind_them() {
        let yaml = format!(
            "{NODE}kind: Node\nmetadata: {{name: b, annotations: {{lab/absent: 'true'}}}}\n---\n\
             kind: Pod\nmetadata: {{name: p, annotations: {{lab/absent: 'true'}}}}\nspec: {{nodeName: b}}\n"
        );
        let topology = Topology::parse(&yaml).expect("is fine");
        assert_eq!((topology.nodes.len(), topology.pods.len(), topology.objects.len()), (1, 0, 3));
    }
}
