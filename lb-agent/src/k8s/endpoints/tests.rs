use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::model::addr::Protocol;

fn slice() -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {
                "lb-agent.io/weights": "{\"10.0.0.1\": 0, \"10.0.0.2\": 100}",
                "endpoints.kubernetes.io/last-change-trigger-time": "1970-01-01T00:00:01.5Z",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "all"}],
        "endpoints": [
            {"addresses": ["10.0.0.1", "10.0.0.9"], "nodeName": "n1"},
            {
                "addresses": ["10.0.0.2"],
                "conditions": {"ready": false, "serving": false, "terminating": true},
                "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n2"}]},
                "nodeName": "",
            },
        ],
    })
}

fn changed(pointer: &str, new: Value) -> Value {
    let mut value = slice();
    *value.pointer_mut(pointer).unwrap() = new;
    value
}

fn converted(value: Value) -> Result<Converted, Refusal> {
    convert(&serde_json::from_value(value).unwrap())
}

fn applied(value: Value) -> (EndpointSlice, Vec<String>) {
    let Converted { event, warnings } = converted(value).unwrap();
    let Event::Apply(Object::EndpointSlice(slice)) = event else { panic!("{event:?}") };
    (slice, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn a_whole_slice_converts() {
    let (slice, warnings) = applied(slice());
    assert_eq!(warnings, [""; 0]);
    assert_eq!((slice.name.to_string().as_str(), slice.service.to_string().as_str()), ("shop/web-1", "shop/web"));
    assert_eq!(slice.family, Family::V4);
    assert_eq!(slice.triggered, Some(1_500_000_000));
    let port = |name: &str, port, protocol| EndpointPort { name: name.to_owned(), port, protocol };
    assert_eq!(slice.ports, [port("http", 8080, Protocol::Tcp), port("dns", 53, Protocol::Udp)], "all is no port");
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(slice.weights, Weights::from([(address("10.0.0.1"), 0), (address("10.0.0.2"), 100)]));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let first = Endpoint {
        address: address("10.0.0.1"),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("n1".to_owned()),
        zone_hints: names(&[]),
        node_hints: names(&[]),
    };
    let second = Endpoint {
        address: address("10.0.0.2"),
        ready: false,
        serving: false,
        terminating: true,
        node: None,
        zone_hints: names(&["a", "b"]),
        node_hints: names(&["n2"]),
    };
    assert_eq!(slice.endpoints, [first, second]);
}

#[test]
fn an_empty_slice_converts() {
    let (slice, _) = applied(json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv6", "endpoints": null, "ports": null,
    }));
    assert!(slice.endpoints.is_empty() && slice.ports.is_empty() && slice.weights.is_empty());
}

#[test]
fn conditions_default_apart() {
    for (conditions, want) in [
        (json!({}), (true, true, false)),
        (json!({"ready": null, "serving": null, "terminating": null}), (true, true, false)),
        (json!({"ready": false}), (false, true, false)),
        (json!({"terminating": true}), (true, true, true)),
    ] {
        let value = changed("/endpoints/1/conditions", conditions.clone());
        let endpoint = &applied(value).0.endpoints[1];
        assert_eq!((endpoint.ready, endpoint.serving, endpoint.terminating), want, "{conditions}");
    }
}

#[test]
fn what_belongs_to_no_service_of_ours_is_deleted() {
    let missing = "EndpointSlice shop/web-1: metadata.labels[kubernetes.io/service-name]: is missing: \
                   the slice belongs to no Service";
    let service = "kubernetes.io/service-name";
    for (name, labels, want) in [
        ("no label", json!({}), vec![missing]),
        ("an empty one", json!({service: ""}), vec![missing]),
        ("another proxy's", json!({service: "web", "service.kubernetes.io/service-proxy-name": "x"}), vec![]),
        ("a headless Service's", json!({service: "web", "service.kubernetes.io/headless": ""}), vec![]),
    ] {
        let Converted { event, warnings } = converted(changed("/metadata/labels", labels)).unwrap();
        assert!(matches!(event, Event::Delete(reference) if reference.to_string() == "EndpointSlice shop/web-1"));
        assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{name}");
    }
}

#[test]
fn what_the_api_cannot_hold_is_refused() {
    for (pointer, value, want) in [
        ("/addressType", json!("FQDN"), "addressType: \"FQDN\" is not served, only IPv4 and IPv6"),
        ("/addressType", json!("ipv4"), "addressType: \"ipv4\" is none of IPv4, IPv6"),
        (
            "/addressType",
            json!("IPv6"),
            "endpoints[0].addresses[0]: \"10.0.0.1\" is no IPv6 address, which addressType asks for",
        ),
        ("/ports/0/port", json!(0), "ports[0].port: 0 is outside 1 to 65535"),
        ("/ports/0/port", json!(70_000), "ports[0].port: 70000 is outside 1 to 65535"),
        ("/ports/1/name", json!("http"), "ports[1].name: \"http\" names an earlier port"),
        ("/ports/1/protocol", json!("QUIC"), "ports[1].protocol: \"QUIC\" is none of TCP, UDP, SCTP"),
        ("/endpoints/1/addresses", json!([]), "endpoints[1].addresses: is empty"),
        ("/endpoints/1/addresses/0", json!("web.shop"), "endpoints[1].addresses[0]: \"web.shop\" is no IP address"),
        (
            "/endpoints/1/addresses/0",
            json!("127.0.0.1"),
            "endpoints[1].addresses[0]: \"127.0.0.1\" is a loopback address",
        ),
        (
            "/endpoints/1/addresses/0",
            json!("169.254.1.1"),
            "endpoints[1].addresses[0]: \"169.254.1.1\" is a link-local address",
        ),
        (
            "/endpoints/1/addresses/0",
            json!("224.0.0.1"),
            "endpoints[1].addresses[0]: \"224.0.0.1\" is a multicast address",
        ),
    ] {
        let got = converted(changed(pointer, value)).map(|converted| converted.event);
        assert_eq!(got.unwrap_err().to_string(), format!("EndpointSlice shop/web-1: {want}"));
    }
}

#[test]
fn a_bad_annotation_is_left_out_and_the_slice_is_kept() {
    let weights = "metadata.annotations[lb-agent.io/weights]";
    let weights_pointer = "/metadata/annotations/lb-agent.io~1weights";
    let time_pointer = "/metadata/annotations/endpoints.kubernetes.io~1last-change-trigger-time";
    for (pointer, text, want) in [
        (weights_pointer, "{", format!("{weights}: is no JSON object of addresses and weights: ")),
        (weights_pointer, "[1]", format!("{weights}: is no JSON object of addresses and weights: ")),
        (weights_pointer, "{\"10.0.0.1\": 101}", format!("{weights}: 101 of 10.0.0.1 is no number from 0 to 100; ")),
        (weights_pointer, "{\"10.0.0.1\": -1}", format!("{weights}: -1 of 10.0.0.1 is no number from 0 to 100; ")),
        (weights_pointer, "{\"10.0.0.1\": 1.5}", format!("{weights}: 1.5 of 10.0.0.1 is no number from 0 to 100; ")),
        (
            weights_pointer,
            "{\"10.0.0.1\": \"5\"}",
            format!("{weights}: \"5\" of 10.0.0.1 is no number from 0 to 100; "),
        ),
        (weights_pointer, "{\"pod\": 5}", format!("{weights}: \"pod\" is no IP address; every address weighs 1")),
        (
            time_pointer,
            "yesterday",
            "metadata.annotations[endpoints.kubernetes.io/last-change-trigger-time]: \"yesterday\" is no time: "
                .to_owned(),
        ),
    ] {
        let (slice, warnings) = applied(changed(pointer, json!(text)));
        assert_eq!(slice.endpoints.len(), 2, "{text}");
        assert_eq!(warnings.len(), 1, "{text}: {warnings:?}");
        let start = format!("EndpointSlice shop/web-1: {want}");
        assert!(warnings[0].starts_with(&start), "{} does not start with {start}", warnings[0]);
        assert_eq!(slice.weights.is_empty(), pointer == weights_pointer, "{text}");
        assert_eq!(slice.triggered.is_none(), pointer == time_pointer, "{text}");
    }
}
