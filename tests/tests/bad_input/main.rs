//! Bad input of every kind gets one clear message that names what is wrong, and the rest goes on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod full_maps;
mod manifests;
mod starts;

use std::{collections::BTreeMap, net::SocketAddr};

use lb_tests::lab::{
    Lab, Options, Topology,
    agent::AgentOptions,
    client::{Client, Dial, Protocol},
    topology,
};

pub(crate) const WEB: &str = "10.96.0.10:80";

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().expect("is an address")
}

/// The default topology with an agent on node-a alone.
pub(crate) fn up(config: &str) -> Lab {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(topology::DEFAULT).expect("the topology is fine");
    let absent = AgentOptions { absent: true, ..AgentOptions::default() };
    let agent = AgentOptions { config: Some(config.to_owned()), ..AgentOptions::default() };
    let agents = BTreeMap::from([("node-b".to_owned(), absent)]);
    Lab::up(&topology, &Options { agent, agents, ..Options::default() }).expect("the lab comes up")
}

/// Who answers there, or nobody.
pub(crate) fn who(client: &mut Client, to: &str) -> Option<String> {
    let dial = Dial { timeout_ms: 300, ..Dial::new(at(to), Protocol::Tcp, 1) };
    client.dial(dial).expect("is possible").remove(0).pod().map(str::to_owned)
}

/// A Service of one port and its slice with one endpoint.
pub(crate) fn service(name: &str, address: &str, port: &str, created: &str, endpoint: &str) -> String {
    let created = if created.is_empty() { String::new() } else { format!(", creationTimestamp: \"{created}\"") };
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}{created}}}, spec: {{clusterIP: {address}, \
         ports: [{{port: {port}}}]}}}}\n---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: \
         {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}, addressType: IPv4, ports: [{{port: 8080}}], \
         endpoints: [{{addresses: [{endpoint}]}}]}}\n"
    )
}
