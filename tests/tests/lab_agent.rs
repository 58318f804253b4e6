//! The lab with a real agent on each node: how agents are started, ended and watched, and that Services come with them.

use std::{collections::BTreeMap, time::Duration};

use lb_tests::lab::{
    Lab, Options, Topology,
    agent::AgentOptions,
    client::{Family, Protocol, Request},
    object::Object,
    patience,
    probe::{ProbeOptions, Query, Verdict},
    state, topology,
};
use nix::sys::signal::Signal;

fn up(options: &Options) -> Lab {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(topology::DEFAULT).expect("the topology is fine");
    Lab::up(&topology, options).expect("the lab comes up")
}

/// Asks one query and returns the verdict with the backends, as text.
fn ask(lab: &Lab, query: &str) -> String {
    let query: Query = serde_json::from_str(query).expect(query);
    let answer = lab.probe(&query, &ProbeOptions::default()).expect("the query is answered");
    let backends: Vec<String> = answer.backends.iter().map(ToString::to_string).collect();
    format!("{:?} {}", answer.verdict, backends.join(" "))
}

#[test]
#[ignore = "needs root"]
fn services_come_with_the_agents() {
    let lab = up(&Options::default());
    let (v4, v6) = (
        "Allow 10.244.1.10:8080 10.244.2.10:8080 10.244.2.11:8080",
        "Allow [fd00:10:244:1::10]:5353 [fd00:10:244:2::10]:5353 [fd00:10:244:2::11]:5353",
    );
    for (query, want) in [
        (r#"{"from":"default/caller","to":"service:default/web","port":80}"#, v4),
        (r#"{"from":"default/web-2","to":"10.96.0.10","port":80}"#, v4),
        (r#"{"from":"node","to":"service:default/web","port":80}"#, v4),
        (r#"{"from":"node-b","to":"fd00:10:96::10","port":53,"protocol":"UDP"}"#, v6),
        (r#"{"from":"default/caller","to":"fd00:10:96::10","port":53,"protocol":"UDP"}"#, v6),
        (r#"{"from":"default/caller","to":"service:default/web","port":81}"#, "Refuse "),
        (r#"{"from":"default/caller","to":"10.96.0.11","port":80}"#, "Drop "),
        (r#"{"from":"outside","to":"service:default/web","port":80}"#, "Drop "),
    ] {
        assert_eq!(ask(&lab, query), want, "{query}");
    }
}

#[test]
#[ignore = "needs root"]
fn an_agent_ends_and_starts_again() {
    let mut lab = up(&Options::default());
    let mut client = lab.client("default/caller").expect("a client starts");
    let service = "10.96.0.10:80".parse().expect("is an address");
    let (id, reply) = client.tcp(service).expect("is possible");
    assert_eq!(reply.peer, Some(service), "getpeername gives the service's address");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let before = lab.agent("node-a").expect("there is one").process;
        lab.end_agent("node-a", signal).expect("it ends");
        assert!(!before.is_alive());
        assert!(client.get(id).expect("is possible").ok, "an old connection goes on");
        assert!(client.tcp(service).expect("is possible").1.ok, "a new connection works");
        lab.start_agent("node-a").expect("it starts again");
        assert_ne!(lab.agent("node-a").expect("there is one").process, before);
        assert!(client.get(id).expect("is possible").ok, "an old connection goes on");
    }
    let error = lab.start_agent("node-a").expect_err("it runs").to_string();
    assert_eq!(error, "Node node-a: its agent runs already");
}

#[test]
#[ignore = "needs root"]
fn a_change_reaches_the_agents() {
    let mut lab = up(&Options::default());
    let slice = "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {name: web-v4, labels: \
                 {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints: \
                 [{addresses: [10.244.2.11], nodeName: node-b}]\n";
    let query = r#"{"from":"default/caller","to":"service:default/web","port":80}"#;
    lab.apply(Object::parse_all(slice).expect("is fine")).expect("is fine");
    wait_for(|| ask(&lab, query) == "Allow 10.244.2.11:8080", "the endpoint is the only one");
    lab.delete(&Object::parse_all(slice).expect("is fine")).expect("is fine");
    wait_for(|| ask(&lab, query) == "Refuse ", "there is no endpoint");
}

#[test]
#[ignore = "needs root"]
fn agents_differ_by_node() {
    let absent = AgentOptions { absent: true, ..AgentOptions::default() };
    let options = Options { agents: BTreeMap::from([("node-b".to_owned(), absent)]), ..Options::default() };
    let mut lab = up(&options);
    let query = |from: &str| format!(r#"{{"from":"{from}","to":"service:default/web","port":80}}"#);
    assert!(ask(&lab, &query("default/caller")).starts_with("Allow "));
    assert_eq!(ask(&lab, &query("default/web-2")), "Drop ");
    assert_eq!(lab.agent("node-b").expect_err("it has none").to_string(), "Node node-b: it has no agent");
    let agent = lab.start_agent_with("node-b", AgentOptions::default()).expect("it starts");
    agent.wait_ready(Options::default().ready_timeout).expect("it becomes ready");
    assert!(ask(&lab, &query("default/web-2")).starts_with("Allow "));
    let status = agent.status().expect("it answers");
    assert_eq!(status["node"], "node-b");
}

#[test]
#[ignore = "needs root"]
fn an_agent_that_fails_is_quoted() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(topology::DEFAULT).expect("the topology is fine");
    let agent = AgentOptions { config: Some("noSuchKey: 1\n".to_owned()), ..AgentOptions::default() };
    let mine = || -> Vec<String> {
        let own = format!("{}-{}-", state::PREFIX, std::process::id());
        state::all().into_iter().filter(|id| id.starts_with(&own)).collect()
    };
    let options = Options { agent: agent.clone(), name: Some("agent-fails".to_owned()), ..Options::default() };
    let error = format!("{:#}", Lab::up(&topology, &options).expect_err("the agent refuses its configuration"));
    assert!(error.starts_with("Node node-a: the agent has ended; its last words:"), "{error}");
    assert!(error.contains("noSuchKey"), "{error}");
    let left = mine().into_iter().filter_map(|id| state::State::load(&id).ok());
    assert!(left.into_iter().all(|state| state.name.as_deref() != Some("agent-fails")), "nothing of it is left");

    let mut lab = up(&Options::default());
    let second = lab.start_additional_agent("node-a", "second", &agent).expect("it starts");
    let error =
        second.wait_ready(Options::default().ready_timeout).expect_err("it refuses its configuration").to_string();
    assert!(error.contains("noSuchKey"), "{error}");
    assert!(lab.agent("node-a").expect("there is one").status().is_ok(), "the node's own agent goes on");
}

#[test]
#[ignore = "needs root"]
fn a_node_port_is_kept_from_others() {
    let mut lab = up(&Options::default());
    let service = "kind: Service\napiVersion: v1\nmetadata: {name: web}\nspec: {type: NodePort, clusterIP: 10.96.0.10, clusterIPs: \
                   [10.96.0.10], ports: [{name: http, port: 80, nodePort: 30080}]}\n";
    lab.apply(Object::parse_all(service).expect("is fine")).expect("is fine");
    let query = r#"{"from":"node","to":"node","port":30080}"#;
    wait_for(|| ask(&lab, query).starts_with(&format!("{:?} ", Verdict::Allow)), "the node port answers on the node");
    let mut client = lab.client("node-a").expect("a client starts");
    let mut bind = |to: &str| {
        let id = client.open(Family::V4, Protocol::Tcp).expect("is possible");
        let reply = client.bind(id, to.parse().expect("is an address")).expect("is possible");
        client.call(&Request::Close { id }).expect("is possible");
        reply
    };
    assert!(!bind("0.0.0.0:30080").ok, "another process cannot take the port");
    assert!(bind("0.0.0.0:30081").ok);
}

fn wait_for(mut condition: impl FnMut() -> bool, what: &str) {
    for _ in 0..100 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50) * patience());
    }
    panic!("it did not come to pass: {what}");
}
