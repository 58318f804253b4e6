//! The validated nouns that everything behind the sources works on, and the set of those that exist.
//!
//! Nothing here knows Kubernetes types or maps. An object that reaches the model is valid by itself; what only shows
//! between objects (two services on one address) is decided in `desired`, so that the order of arrival cannot matter.

pub mod addr;
mod apply;
pub mod endpoint;
pub mod node;
pub mod service;

use std::{collections::BTreeMap, fmt};

pub use self::apply::Changes;
use self::{
    addr::Cidr,
    endpoint::EndpointSlice,
    node::{Node, Pod},
    service::Service,
};

/// Names an object inside its namespace; the namespace is empty for what has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Name {
    /// Builds a name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// The kinds that the model holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Node.
    Node,
    /// v1 Pod.
    Pod,
    /// networking.k8s.io/v1 ServiceCIDR.
    ServiceCidr,
}

impl Kind {
    /// The kind's name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }

    /// True if objects of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        match self {
            Self::Service | Self::EndpointSlice | Self::Pod => true,
            Self::Node | Self::ServiceCidr => false,
        }
    }
}

/// Names one object of the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// One valid object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service that this agent serves (not headless, not ExternalName, not another proxy's).
    Service(Service),
    /// A slice of endpoints.
    EndpointSlice(EndpointSlice),
    /// A node of the cluster.
    Node(Node),
    /// A pod.
    Pod(Pod),
    /// A range that ClusterIPs come from: name and ranges.
    ServiceCidr(Name, Vec<Cidr>),
}

impl Object {
    /// What names this object.
    pub fn reference(&self) -> ObjectRef {
        let (kind, name) = match self {
            Self::Service(service) => (Kind::Service, service.name.clone()),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, slice.name.clone()),
            Self::Node(node) => (Kind::Node, Name::new("", node.name.as_str())),
            Self::Pod(pod) => (Kind::Pod, pod.name.clone()),
            Self::ServiceCidr(name, _) => (Kind::ServiceCidr, name.clone()),
        };
        ObjectRef { kind, name }
    }
}

/// A change that a source reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The object exists and looks like this.
    Apply(Object),
    /// The object is gone, or is no business of this agent any more.
    Delete(ObjectRef),
    /// These are all objects that exist: one relist is one event.
    Reset(Vec<Object>),
}

/// The objects that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Services by name.
    pub services: BTreeMap<Name, Service>,
    /// Slices by the Service that they belong to, then by their own name (same namespace).
    pub slices: BTreeMap<Name, BTreeMap<String, EndpointSlice>>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Pods by name.
    pub pods: BTreeMap<Name, Pod>,
    /// ServiceCIDRs by name.
    pub service_cidrs: BTreeMap<String, Vec<Cidr>>,
    /// The Service that each slice belongs to, by the slice's name: a slice can change its label.
    owners: BTreeMap<Name, Name>,
}
