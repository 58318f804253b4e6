//! Services and EndpointSlices in few words.

use std::fmt::Write as _;

use super::fixture::{CLUSTER_IP, pod};

/// A dual-stack Service on [`CLUSTER_IP`] addresses: 80/TCP to the pods' 8080, 53/UDP to their 5353.
pub(super) struct Web {
    name: &'static str,
    number: u8,
    metadata: String,
    spec: String,
    status: String,
    ports: String,
    weights: Option<String>,
    node_ports: bool,
}

/// An endpoint of a slice.
#[derive(Clone, Copy)]
pub(super) struct Member {
    pod: &'static str,
    conditions: &'static str,
    zones: &'static str,
}

/// An endpoint that is fine.
pub(super) const fn ready(pod: &'static str) -> Member {
    Member { pod, conditions: "ready: true", zones: "" }
}

/// An endpoint whose pod ends and still serves.
pub(super) const fn draining(pod: &'static str) -> Member {
    Member { pod, conditions: "ready: false, serving: true, terminating: true", zones: "" }
}

/// An endpoint whose pod ends and serves no more.
pub(super) const fn stopped(pod: &'static str) -> Member {
    Member { pod, conditions: "ready: false, serving: false, terminating: true", zones: "" }
}

/// An endpoint that is not ready.
pub(super) const fn unready(pod: &'static str) -> Member {
    Member { pod, conditions: "ready: false, serving: false, terminating: false", zones: "" }
}

impl Member {
    /// Adds the condition that publishNotReadyAddresses makes the controller write.
    pub(super) const fn published(self) -> Self {
        Self { conditions: "ready: true, serving: false, terminating: true", ..self }
    }

    /// Adds a hint for a zone.
    pub(super) const fn hinted(self, zone: &'static str) -> Self {
        Self { zones: zone, ..self }
    }
}

/// The endpoints of all four servers.
pub(super) const ALL: [Member; 4] = [ready("a1"), ready("a2"), ready("b1"), ready("b2")];

/// Begins a Service of that name and number.
pub(super) fn web(name: &'static str, number: u8) -> Web {
    Web {
        name,
        number,
        metadata: String::new(),
        spec: String::new(),
        status: String::new(),
        ports: String::new(),
        weights: None,
        node_ports: false,
    }
}

impl Web {
    /// Adds fields to `spec`.
    pub(super) fn spec(mut self, fields: &str) -> Self {
        write!(self.spec, ", {fields}").expect("writing to a string cannot fail");
        self
    }

    /// Makes it one of type NodePort: TCP on 30000 + number, UDP on 31000 + number.
    pub(super) fn node_port(mut self) -> Self {
        self.node_ports = true;
        self.spec("type: NodePort")
    }

    /// Makes it one of type LoadBalancer, with NodePorts too; `ingress` are entries of its status.
    pub(super) fn load_balancer(mut self, ingress: &str) -> Self {
        self.node_ports = true;
        self.status = format!("status: {{loadBalancer: {{ingress: [{ingress}]}}}}\n");
        self.spec("type: LoadBalancer")
    }

    /// Adds fields to `metadata`.
    pub(super) fn metadata(mut self, fields: &str) -> Self {
        write!(self.metadata, ", {fields}").expect("writing to a string cannot fail");
        self
    }

    /// Sets the algorithm by its annotation.
    pub(super) fn algorithm(self, name: &str) -> Self {
        self.metadata(&format!("annotations: {{lb-agent.io/algorithm: {name}}}"))
    }

    /// Has ports of that list in place of its own.
    pub(super) fn ports(mut self, list: &str) -> Self {
        self.ports = list.to_owned();
        self
    }

    /// Has so many TCP ports, from 80 on, each with an affinity and a table of its own.
    pub(super) fn many_ports(self, count: u16) -> Self {
        let port = |index: u16| format!("{{name: p{index}, port: {}}}", 80 + index);
        let list: Vec<String> = (0..count).map(port).collect();
        self.ports(&list.join(", "))
    }

    /// Sets weights by pod.
    pub(super) fn weights(mut self, weights: &[(&str, u8)]) -> Self {
        let entry = |(name, weight): &(&str, u8)| {
            let pod = pod(name);
            format!("\"{}\": {weight}, \"{}\": {weight}", pod.v4, pod.v6)
        };
        let entries: Vec<String> = weights.iter().map(entry).collect();
        self.weights = Some(format!("{{{}}}", entries.join(", ")));
        self
    }

    /// Writes the Service alone.
    pub(super) fn alone(&self) -> String {
        let Self { name, number, metadata, spec, status, .. } = self;
        let [v4, v6] = CLUSTER_IP.map(|start| format!("{start}{number}"));
        let own = |base: u16| {
            if self.node_ports { format!(", nodePort: {}", base + u16::from(*number)) } else { String::new() }
        };
        let ports = if self.ports.is_empty() {
            format!("{{name: http, port: 80{}}}, {{name: dns, port: 53, protocol: UDP{}}}", own(30000), own(31000))
        } else {
            self.ports.clone()
        };
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}{metadata}}}\nspec: {{clusterIP: {v4}, clusterIPs: [{v4}, \"{v6}\"], \
             ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack, ports: [{ports}]{spec}}}\n{status}---\n"
        )
    }

    /// Writes the Service with its endpoints.
    pub(super) fn with(&self, members: &[Member]) -> String {
        self.alone() + &self.slices(members)
    }

    /// Writes the endpoints alone: a slice of each family.
    pub(super) fn slices(&self, members: &[Member]) -> String {
        let ports = if self.ports.is_empty() {
            "{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}".to_owned()
        } else {
            // Each port goes to the same port of the pods.
            let names = self.ports.split("name: ").skip(1).map(|rest| rest.split([',', '}']).next().unwrap_or(rest));
            names.map(|name| format!("{{name: {name}, port: 8080}}")).collect::<Vec<_>>().join(", ")
        };
        slice(self.name, "v4", &ports, members, self.weights.as_deref())
            + &slice(self.name, "v6", &ports, members, self.weights.as_deref())
    }
}

/// Writes one slice of a Service; `kind` is `v4` or `v6`, perhaps with more behind it to tell slices apart.
pub(super) fn slice(service: &str, kind: &str, ports: &str, members: &[Member], weights: Option<&str>) -> String {
    let v6 = kind.starts_with("v6");
    let family = if v6 { "IPv6" } else { "IPv4" };
    let annotations = weights.map(|weights| format!(", annotations: {{lb-agent.io/weights: '{weights}'}}"));
    let mut yaml = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-{kind}, labels: {{kubernetes.io/service-name: {service}}}{}}}\n\
         addressType: {family}\nports: [{ports}]\nendpoints:{}\n",
        annotations.unwrap_or_default(),
        if members.is_empty() { " []" } else { "" }
    );
    for Member { pod: name, conditions, zones } in members {
        let pod = pod(name);
        let address = if v6 { pod.v6 } else { pod.v4 };
        let hints =
            if zones.is_empty() { String::new() } else { format!(", hints: {{forZones: [{{name: {zones}}}]}}") };
        let node = pod.node;
        let zone = node.replace("node", "zone");
        writeln!(
            yaml,
            "- {{addresses: [\"{address}\"], nodeName: {node}, zone: {zone}, conditions: {{{conditions}}}{hints}}}"
        )
        .expect("writing to a string cannot fail");
    }
    yaml + "---\n"
}
