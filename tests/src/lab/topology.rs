//! What a lab is made of: ordinary manifests, plus at most one `kind: Lab` document for what Kubernetes has no kind for.
//!
//! ```yaml
//! kind: Lab
//! clients: {outside: [203.0.113.2, "2001:db8:f::2"]}   # namespaces beyond the nodes, with these addresses
//! routes: {198.51.100.10: node-a}                      # where the router sends what no node, pod or client holds
//! ```
//!
//! The annotation `lab/absent: "true"` on a Node or a Pod leaves it an object that the agents see, with nothing behind it.

mod node;
mod pod;

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use self::{
    node::Node,
    pod::{Pod, Port, assign_addresses},
};
use super::object::{Field, Object};

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

fn is_absent(object: &Object) -> Result<bool> {
    Ok(object.field().get("metadata").get("annotations").get("lab/absent").text()? == Some("true"))
}

/// Returns whether the name is an RFC 1123 label: it becomes part of namespace, directory and socket names.
fn is_label(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 63 && name.chars().all(fine) && !name.starts_with('-')
}

fn address(field: &Field<'_>) -> Result<IpAddr> {
    field.address()?.ok_or_else(|| field.complain("is missing"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NODE: &str = "kind: Node\napiVersion: v1\nmetadata: {name: a}\nspec: {podCIDRs: [10.1.0.0/24, 'fd01::/64']}\nstatus: {addresses: \
                        [{type: InternalIP, address: 192.168.0.2}, {type: InternalIP, address: 'fd00::2'}]}\n---\n";

    #[test]
    fn the_default_is_fine() {
        let topology = Topology::parse(DEFAULT).expect("is fine");
        assert_eq!(topology.nodes.len(), 2);
    }

    #[test]
    fn pods_get_the_next_free_addresses() {
        let yaml = format!(
            "{NODE}kind: Pod\napiVersion: v1\nmetadata: {{name: p}}\nspec: {{nodeName: a}}\n---\nkind: Pod\napiVersion: v1\nmetadata: {{name: q}}\n\
             spec: {{nodeName: a}}\nstatus: {{podIP: 10.1.0.2}}\n---\n\
             kind: Pod\napiVersion: v1\nmetadata: {{name: h}}\nspec: {{nodeName: a, hostNetwork: true}}\n"
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
        let node = |rest: &str| format!("kind: Node\napiVersion: v1\nmetadata: {{name: a}}\n{rest}");
        let pod = |rest: &str| format!("{NODE}kind: Pod\napiVersion: v1\nmetadata: {{name: p, namespace: x}}\n{rest}");
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
            "{NODE}kind: Node\napiVersion: v1\nmetadata: {{name: b, annotations: {{lab/absent: 'true'}}}}\n---\n\
             kind: Pod\napiVersion: v1\nmetadata: {{name: p, annotations: {{lab/absent: 'true'}}}}\nspec: {{nodeName: b}}\n"
        );
        let topology = Topology::parse(&yaml).expect("is fine");
        assert_eq!((topology.nodes.len(), topology.pods.len(), topology.objects.len()), (1, 0, 3));
    }
}
