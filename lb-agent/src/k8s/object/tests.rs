use serde_json::json;

use super::*;
use crate::model::{Event, Object};

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn said(value: &Value) -> Result<Option<String>, String> {
    match identify(value) {
        Ok(Identity::Known(reference)) => Ok(Some(reference.to_string())),
        Ok(Identity::Foreign) => Ok(None),
        Err(refusal) => Err(refusal.to_string()),
    }
}

#[test]
fn objects_say_what_they_are() {
    let named = |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}});
    for (name, value, want) in [
        ("a service", named("v1", "Service"), Ok(Some("Service default/a"))),
        ("a slice", named("discovery.k8s.io/v1", "EndpointSlice"), Ok(Some("EndpointSlice default/a"))),
        ("a node", named("v1", "Node"), Ok(Some("Node a"))),
        ("a range", named("networking.k8s.io/v1", "ServiceCIDR"), Ok(Some("ServiceCIDR a"))),
        ("a deployment is nothing to a proxy", named("apps/v1", "Deployment"), Ok(None)),
        ("a namespace is nothing to a proxy", named("v1", "Namespace"), Ok(None)),
        (
            "an old version",
            named("discovery.k8s.io/v1beta1", "EndpointSlice"),
            Err("EndpointSlice a: kind: discovery.k8s.io/v1beta1 EndpointSlice is not read, \
                 only discovery.k8s.io/v1 EndpointSlice"),
        ),
        ("the wrong group", named("apps/v1", "Service"), Ok(None)),
        (
            "the old way to give backends",
            named("v1", "Endpoints"),
            Err("Endpoints a: kind: v1 Endpoints is not read: write an EndpointSlice"),
        ),
        (
            "a kind that nobody knows",
            named("example.com/v1", "Teapot"),
            Err("Teapot a: kind: example.com/v1 Teapot is a kind that this agent does not know"),
        ),
        (
            "a policy, which is not enforced, is not passed over in silence",
            named("networking.k8s.io/v1", "NetworkPolicy"),
            Err("NetworkPolicy a: kind: networking.k8s.io/v1 NetworkPolicy is a kind that this agent does not know"),
        ),
        ("no kind", json!({"apiVersion": "v1"}), Err("object: kind: is missing")),
        ("no version", json!({"kind": "Service"}), Err("Service: apiVersion: is missing")),
        ("a kind that is a number", json!({"apiVersion": "v1", "kind": 7}), Err("object: kind: is no text")),
        ("no object", json!(["v1", "Service"]), Err("object: : is no object")),
        (
            "no name",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop"}}),
            Err("Pod without a name: metadata.name: is missing"),
        ),
        (
            "no metadata",
            json!({"apiVersion": "v1", "kind": "Node"}),
            Err("Node without a name: metadata.name: is missing"),
        ),
        (
            "metadata of another type",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "labels": {"zone": 1}}}),
            Err("Node a: metadata.labels.zone: invalid type: integer `1`, expected a string"),
        ),
    ] {
        let got = said(&value);
        let want = want.map(|reference| reference.map(str::to_owned)).map_err(str::to_owned);
        assert_eq!(got, want, "{name}");
    }
}

fn converted(value: &Value) -> Result<Converted, String> {
    match identify(value) {
        Ok(Identity::Known(reference)) => convert(&reference, value).map_err(|refusal| refusal.to_string()),
        Ok(Identity::Foreign) => Err("foreign".to_owned()),
        Err(refusal) => Err(refusal.to_string()),
    }
}

#[test]
fn values_of_another_type_are_named_by_their_path() {
    for (field, port, want) in [
        ("port", json!("eighty"), "spec.ports[0].port: invalid type: string \"eighty\", expected i32"),
        ("port", json!(99_999_999_999_i64), "spec.ports[0].port: invalid value: integer `99999999999`, expected i32"),
        ("port", json!(80.5), "spec.ports[0].port: invalid type: floating point `80.5`, expected i32"),
        ("name", json!(80), "spec.ports[0].name: invalid type: integer `80`, expected a string"),
        ("protocol", json!(["TCP"]), "spec.ports[0].protocol: invalid type: sequence, expected a string"),
    ] {
        let value = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{field: port}]},
        });
        assert_eq!(converted(&value).unwrap_err(), format!("Service default/web: {want}"));
    }
}

#[test]
fn nodes_convert() {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
        "spec": {"podCIDRs": ["10.244.1.7/24", "fd00:1::/64"], "taints": [{"key": "other", "effect": "NoSchedule"}]},
        "status": {"addresses": [
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "InternalIP", "address": "2001:db8::1"},
            {"type": "ExternalIP", "address": "198.51.100.1"},
            {"type": "InternalIP", "address": "n1.example.com"},
        ]},
    });
    let Converted { event, warnings } = converted(&node).unwrap();
    let Event::Apply(Object::Node(got)) = event else { panic!("{event:?}") };
    assert_eq!(got.internal_ips, ["192.0.2.1", "2001:db8::1"].map(ip));
    assert_eq!(got.external_ips, ["198.51.100.1"].map(ip));
    assert_eq!(got.pod_cidrs, ["10.244.1.0/24", "fd00:1::/64"].map(|range| range.parse().unwrap()));
    assert_eq!((got.zone.as_deref(), got.leaving), (Some("a"), false));
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["Node n1: status.addresses[4].address: \"n1.example.com\" is no IP address; it is skipped"]);

    for (name, pointer, value, want) in [
        ("the autoscaler takes it", "/spec/taints/0/key", json!("ToBeDeletedByClusterAutoscaler"), Ok(true)),
        ("it is being deleted", "/metadata/deletionTimestamp", json!("2026-01-02T03:04:05Z"), Ok(true)),
        (
            "no range",
            "/spec/podCIDRs/0",
            json!("10.244.1.0"),
            Err("Node n1: spec.podCIDRs[0]: \"10.244.1.0\" has no prefix length"),
        ),
        (
            "two ranges of a family",
            "/spec/podCIDRs/1",
            json!("10.9.0.0/16"),
            Err("Node n1: spec.podCIDRs[1]: is a second one of IPv4"),
        ),
    ] {
        let mut changed = node.clone();
        if let Some(at) = changed.pointer_mut(pointer) {
            *at = value;
        } else {
            changed["metadata"]["deletionTimestamp"] = value;
        }
        let got = converted(&changed).map(|Converted { event, .. }| {
            let Event::Apply(Object::Node(node)) = event else { panic!("{event:?}") };
            node.leaving
        });
        assert_eq!(got, want.map_err(str::to_owned), "{name}");
    }
}

#[test]
fn pods_convert() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p1", "namespace": "shop"},
        "spec": {"nodeName": "n1", "hostNetwork": true},
        "status": {"phase": "Running", "podIP": "10.244.1.5", "podIPs": [{"ip": "10.244.1.5"}, {"ip": "fd00:1::5"}]},
    });
    let converted_pod = |value: &Value| {
        let event = converted(value)?.event;
        let Event::Apply(Object::Pod(pod)) = event else { panic!("{event:?}") };
        Ok::<_, String>(pod)
    };
    let got = converted_pod(&pod).unwrap();
    assert_eq!(got.name.to_string(), "shop/p1");
    assert_eq!((got.node.as_str(), got.host_network, got.finished), ("n1", true, false));
    assert_eq!(got.ips, ["10.244.1.5", "fd00:1::5"].map(ip));

    for phase in ["Succeeded", "Failed"] {
        let mut done = pod.clone();
        done["status"]["phase"] = json!(phase);
        assert!(converted_pod(&done).unwrap().finished, "{phase}");
    }
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p1"}});
    let got = converted_pod(&bare).unwrap();
    assert_eq!((got.node.as_str(), got.ips.len()), ("", 0));
    let mut wrong = pod;
    wrong["status"]["podIPs"][1]["ip"] = json!("10.244.1");
    assert_eq!(converted_pod(&wrong).unwrap_err(), "Pod shop/p1: status.podIPs[1].ip: \"10.244.1\" is no IP address");
}

#[test]
fn service_cidrs_convert() {
    let range = |cidrs: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
    let Event::Apply(Object::ServiceCidr(name, ranges)) =
        converted(&range(json!(["10.96.0.0/16", "fd00:96::/112"]))).unwrap().event
    else {
        panic!("no ServiceCIDR")
    };
    assert_eq!(name.to_string(), "kubernetes");
    assert_eq!(ranges, ["10.96.0.0/16", "fd00:96::/112"].map(|range| range.parse().unwrap()));
    for (cidrs, want) in [
        (json!([]), "spec.cidrs: is empty"),
        (json!(["10.96.0.0/64"]), "spec.cidrs[0]: \"10.96.0.0/64\" has a prefix length outside 0 to 32"),
        (json!(["10.96.0.0/16", "10.97.0.0/16"]), "spec.cidrs[1]: is a second one of IPv4"),
    ] {
        assert_eq!(converted(&range(cidrs)).unwrap_err(), format!("ServiceCIDR kubernetes: {want}"));
    }
}
