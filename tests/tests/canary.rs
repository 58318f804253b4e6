//! The canary proves that the hooks see every pod of the node, and names those that they do not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use lb_tests::{
    ask::eventually,
    lab::{
        Lab, Options, Topology,
        agent::AgentOptions,
        client::{Client, Dial, Protocol},
        object::Object,
        topology,
    },
};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::Value;

const HEALTH: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";
const WEB: &str = "10.96.0.10:80";

/// A service without endpoints.
const EMPTY: &str =
    "{apiVersion: v1, kind: Service, metadata: {name: empty}, spec: {clusterIP: 10.96.0.90, ports: [{port: 80}]}}";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("is an address")
}

fn canary(lab: &Lab, node: &str) -> Value {
    lab.agent(node).expect(node).status().expect(node)["canary"].clone()
}

/// Waits until the canary of a node's agent names exactly these pods.
fn uncovered(lab: &Lab, node: &str, want: &[&str]) -> Value {
    eventually(&format!("{node}: not covered: {want:?}"), || {
        let canary = canary(lab, node);
        (canary["uncovered"] == Value::from(want) && canary["lastUnix"] != 0).then_some(canary)
    })
}

/// Asks for a path: status and body.
fn fetch(client: &mut Client, place: &str, path: &str) -> (u16, String) {
    let reply = client.fetch(at(place), path).unwrap_or_else(|error| panic!("{place}{path}: {error:#}"));
    (reply.status.expect("a status"), reply.data.expect("a body"))
}

/// Reads one value of `/metrics`.
fn metric(client: &mut Client, name: &str) -> f64 {
    let (status, text) = fetch(client, METRICS, "/metrics");
    assert_eq!(status, 200);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is not in:\n{text}")).parse().expect(name)
}

fn reaches(client: &mut Client, to: &str) -> bool {
    let dial = Dial { timeout_ms: 300, ..Dial::new(at(to), Protocol::Tcp, 1) };
    client.dial(dial).expect("is possible").remove(0).ok
}

#[test]
#[ignore = "needs root"]
fn the_canary_names_what_is_not_covered() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(&format!("{}\n---\n{EMPTY}", topology::DEFAULT)).expect("the topology is fine");
    let absent = AgentOptions { absent: true, ..AgentOptions::default() };
    let agents = BTreeMap::from([("node-b".to_owned(), absent)]);
    let mut lab = Lab::up(&topology, &Options { agents, ..Options::default() }).expect("the lab comes up");
    // Another cluster on this machine, with the same names and addresses: none of its pods is meant by what follows.
    let twin = Topology::parse(topology::DEFAULT).expect("the topology is fine");
    let _twin = Lab::up(&twin, &Options::without_proxy()).expect("the lab comes up");
    let mut host = lab.client("node-b").unwrap();
    let mut inside = lab.client("default/web-3").unwrap();
    let mut outside = lab.client("default/web-2").unwrap();

    // Attached to the cgroup of one pod, which holds neither the other nor the agent.
    let wrong = lab.place("default/web-3").unwrap().cgroup;
    let options = AgentOptions { cgroup: Some(wrong.clone()), ..AgentOptions::default() };
    let agent = lab.start_agent_with("node-b", options).unwrap();
    agent.wait_ready(lb_tests::ask::PATIENCE).unwrap();
    let named = lab.wait_wrong("node-b", "Canary", "Node node-b");
    assert_eq!(named.field, "--cgroup", "{named:?}");
    assert_eq!(uncovered(&lab, "node-b", &["default/web-2", "default/web-3"])["ok"], false);
    let wrong_pods = lab.wrong("node-b").unwrap().into_iter().filter(|wrong| wrong.object.starts_with("Pod")).count();
    assert_eq!(wrong_pods, 0, "one thing is wrong, and is said once");

    // The agent inside that cgroup: its own canary is seen, and exactly the other pod is outside.
    fs::write(wrong.join("cgroup.procs"), agent.process.pid.to_string()).unwrap();
    let told = uncovered(&lab, "node-b", &["default/web-2"]);
    assert_eq!(told["ok"], false);
    let named = lab.wait_wrong("node-b", "Canary", "Pod default/web-2");
    assert_eq!(named.field, "--cgroup", "{named:?}");
    eventually("the node's own canary is seen", || {
        (!lab.wrong("node-b").ok()?.iter().any(|wrong| wrong.object == "Node node-b")).then_some(())
    });
    assert!(reaches(&mut inside, WEB) && !reaches(&mut outside, WEB), "the canary tells the truth");
    let (status, body) = fetch(&mut host, HEALTH, "/canary");
    let body: Value = serde_json::from_str(&body).expect("is JSON");
    assert_eq!((status, &body["ok"], &body["uncovered"]), (503, &told["ok"], &told["uncovered"]), "{body}");
    assert!(body["lastUnix"].as_u64() >= told["lastUnix"].as_u64(), "{body}");
    let output = lab.lbctl("node-b", &["status"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("default/web-2") && !text.contains("default/web-1"), "{text}");
    assert_eq!(metric(&mut host, "lb_agent_canary_ok"), 0.0);
    assert_eq!(metric(&mut host, "lb_agent_canary_uncovered_pods"), 1.0);
    // Every load balancer would leave the node: that takes a minute.
    assert_eq!(fetch(&mut host, HEALTH, "/healthz").0, 200);

    // A pod without an object is found by its device, and called by its address.
    fs::remove_file(lab.manifests("node-b").join("pod_default_web-2.yaml")).unwrap();
    uncovered(&lab, "node-b", &["10.244.2.10"]);
    // The other node's agent sees the same machine, and none of this is its own.
    uncovered(&lab, "node-a", &[]);
    assert_eq!(canary(&lab, "node-a")["ok"], true);
    let output = lab.lbctl("node-a", &["status"]).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));

    moves(&mut lab, &wrong, &mut host, &mut outside);
    health(&mut lab, &mut host);
    drops(&mut host, &mut outside);
}

/// Another cgroup at the next start: every hook moves there.
fn moves(lab: &mut Lab, from: &Path, host: &mut Client, outside: &mut Client) {
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let to = lab.place("node-b").unwrap().cgroup;
    let before = lab.links("node-b").unwrap();
    assert!(before.len() == 11 && before.values().all(|link| link.cgroup == inode(from)), "{before:?}");
    lab.end_agent("node-b", SIGTERM).unwrap();
    let agent = lab.start_agent_with("node-b", AgentOptions::default()).unwrap();
    agent.wait_ready(lb_tests::ask::PATIENCE).unwrap();
    let after = lab.links("node-b").unwrap();
    assert!(after.len() == 11 && after.values().all(|link| link.cgroup == inode(&to)), "{after:?}");
    assert!(reaches(outside, WEB), "the pod is covered");
    let told = uncovered(lab, "node-b", &[]);
    assert_eq!(told["ok"], true);
    let (status, body) = fetch(host, HEALTH, "/canary");
    let body: Value = serde_json::from_str(&body).expect("is JSON");
    assert_eq!((status, &body["ok"], &body["uncovered"]), (200, &true.into(), &Value::Array(Vec::new())), "{body}");
    let output = lab.lbctl("node-b", &["status"]).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    lab.wait_cured("node-b", "Canary");
    assert_eq!(metric(host, "lb_agent_canary_ok"), 1.0);
    assert_eq!(metric(host, "lb_agent_canary_uncovered_pods"), 0.0);
}

/// `/healthz` and `/livez` as kube-proxy answers them.
fn health(lab: &mut Lab, host: &mut Client) {
    let (status, body) = fetch(host, HEALTH, "/healthz");
    assert_eq!(status, 200);
    assert!(body.starts_with(r#"{"lastUpdated": ""#) && body.contains(r#"","currentTime": ""#), "{body}");
    assert!(body.ends_with(r#", "nodeEligible": true}"#), "{body}");
    let json: Value = serde_json::from_str(&body).expect("is JSON");
    for field in ["lastUpdated", "currentTime"] {
        let time = json[field].as_str().unwrap_or_default();
        assert!(time.contains(" +0000 UTC m=+"), "{field}: {body}");
    }
    let (status, body) = fetch(host, HEALTH, "/livez");
    assert_eq!(status, 200);
    assert!(body.starts_with(r#"{"lastUpdated": ""#) && !body.contains("nodeEligible"), "{body}");
    assert_eq!(fetch(host, HEALTH, "/nothing"), (404, "404 page not found\n".to_owned()));

    // A node that the autoscaler is about to delete takes no new connections, and lives.
    let mut node = lab.objects().unwrap().into_iter().find(|o| o.kind == "Node" && o.name == "node-b").unwrap();
    node.value["spec"]["taints"] =
        serde_json::json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    lab.apply(vec![node.clone()]).unwrap();
    let body = eventually("the node is no longer eligible", || {
        let (status, body) = fetch(host, HEALTH, "/healthz");
        (status == 503).then_some(body)
    });
    assert!(body.ends_with(r#", "nodeEligible": false}"#), "{body}");
    assert_eq!(fetch(host, HEALTH, "/livez").0, 200);
    node.value["spec"].as_object_mut().unwrap().remove("taints");
    lab.apply(vec![Object { ..node }]).unwrap();
    eventually("the node is eligible again", || (fetch(host, HEALTH, "/healthz").0 == 200).then_some(()));
}

/// What programs and maps count.
fn drops(host: &mut Client, pod: &mut Client) {
    let name = r#"lb_agent_drops_total{reason="NoBackend"}"#;
    let before = metric(host, name);
    for reply in pod.dial(Dial::new(at("10.96.0.90:80"), Protocol::Tcp, 3)).unwrap() {
        assert_eq!(reply.outcome(), "ECONNREFUSED", "{reply:?}");
    }
    assert_eq!(metric(host, name), before + 3.0);
    // web has two ports in each family, and empty one.
    for (metric_name, least) in [
        (r#"lb_agent_map_entries{map="frontends4"}"#, 3.0),
        (r#"lb_agent_map_entries{map="backends6"}"#, 6.0),
        (r#"lb_agent_map_entries{map="arena"}"#, 4.0),
        (r#"lb_agent_map_entries{map="clients"}"#, 2.0),
        (r#"lb_agent_map_capacity{map="frontends4"}"#, 262_144.0),
        ("lb_agent_synced", 1.0),
        ("lb_agent_ready", 1.0),
    ] {
        let value = metric(host, metric_name);
        assert!(value >= least, "{metric_name} is {value}, at least {least}");
    }
}
