use serde_json::{Value, json};

use super::*;

fn web() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "1970-01-01T00:00:02.000000003Z"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00:96::10"],
            "externalIPs": ["203.0.113.250", "203.0.113.250", "2001:db8::250"],
            "ports": [
                {"name": "http", "port": 80, "nodePort": 30080, "targetPort": "http"},
                {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
            ],
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Cluster",
            "healthCheckNodePort": 32100,
            "sessionAffinity": "ClientIP",
            "loadBalancerSourceRanges": [" 198.51.100.0/24 ", "2001:db8:1::/48"],
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.10"}, {"ip": "192.0.2.11", "ipMode": "VIP"}, {"ip": "192.0.2.12", "ipMode": "Proxy"},
            {"hostname": "lb.example.com"},
        ]}},
    })
}

fn converted(value: Value) -> Result<Converted, Refusal> {
    convert(&serde_json::from_value(value).unwrap())
}

fn applied(value: Value) -> Service {
    let Converted { event, warnings } = converted(value).unwrap();
    assert_eq!(warnings, []);
    let Event::Apply(Object::Service(service)) = event else { panic!("{event:?}") };
    service
}

/// The Service with each value put where its pointer says; null removes.
fn changed(changes: &[(&str, Value)]) -> Value {
    let mut value = web();
    for (pointer, new) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match value.pointer_mut(parent).unwrap() {
            Value::Object(map) if new.is_null() => drop(map.remove(key)),
            Value::Object(map) => drop(map.insert(key.to_owned(), new.clone())),
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = new.clone(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => panic!("{parent} has no {key}"),
        }
    }
    value
}

#[test]
fn a_whole_service_converts() {
    let service = applied(web());
    let ips = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<std::net::IpAddr>>();
    assert_eq!(service.name.to_string(), "shop/web");
    assert_eq!(service.created, Some(2_000_000_003));
    assert_eq!(service.cluster_ips, ips(&["10.96.0.10", "fd00:96::10"]));
    assert_eq!(service.external_ips, ips(&["203.0.113.250", "2001:db8::250"]), "each once");
    assert_eq!(service.load_balancer_ips, ips(&["192.0.2.10", "192.0.2.11"]), "mode Proxy is not served");
    let ports: Vec<_> =
        service.ports.iter().map(|p| format!("{} {}/{} {}", p.name, p.port, p.protocol, p.node_port)).collect();
    assert_eq!(ports, ["http 80/TCP 30080", "dns 53/UDP 30053"]);
    assert!(service.external && !service.publish_not_ready_addresses);
    assert_eq!(service.internal_traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(service.external_traffic_policy, TrafficPolicy::Local);
    assert_eq!(service.affinity_seconds, Some(10_800));
    assert_eq!(service.health_check_node_port, 32_100);
    let ranges: Vec<_> = service.source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["198.51.100.0/24", "2001:db8:1::/48"]);
    assert_eq!(service.algorithm, None);
}

#[test]
fn the_least_that_the_api_has_converts() {
    let service = applied(json!({
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]},
    }));
    assert_eq!(service.name.to_string(), "default/web");
    assert_eq!((service.created, service.affinity_seconds), (None, None));
    assert_eq!(service.ports.len(), 1);
    assert_eq!((service.ports[0].name.as_str(), service.ports[0].node_port), ("", 0));
    assert!(!service.external);
}

#[test]
fn variants() {
    type Case = (&'static str, Vec<(&'static str, Value)>, fn(&Service) -> bool);
    let cases: [Case; 8] = [
        ("a timeout", vec![("/spec/sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 86_400}}))], |s| {
            s.affinity_seconds == Some(86_400)
        }),
        ("no affinity", vec![("/spec/sessionAffinity", json!("None"))], |s| s.affinity_seconds.is_none()),
        ("no health check for Cluster policy", vec![("/spec/externalTrafficPolicy", json!("Cluster"))], |s| {
            s.health_check_node_port == 0
        }),
        (
            "no node ports for a balancer (KEP-1864)",
            vec![
                ("/spec/allocateLoadBalancerNodePorts", json!(false)),
                ("/spec/ports/0/nodePort", Value::Null),
                ("/spec/ports/1/nodePort", Value::Null),
            ],
            |s| s.external && s.ports.iter().all(|port| port.node_port == 0) && s.load_balancer_ips.len() == 2,
        ),
        ("what is left of a balancer's status", vec![("/spec/type", json!("NodePort"))], |s| {
            s.load_balancer_ips.is_empty()
        }),
        ("an algorithm", vec![("/metadata/annotations", json!({"lb-agent.io/algorithm": "maglev"}))], |s| {
            s.algorithm == Some(Algorithm::Maglev)
        }),
        ("unready addresses", vec![("/spec/publishNotReadyAddresses", json!(true))], |s| s.publish_not_ready_addresses),
        (
            "an externalIP alone makes it external",
            vec![
                ("/spec/type", json!("ClusterIP")),
                ("/spec/ports/0/nodePort", Value::Null),
                ("/spec/ports/1/nodePort", Value::Null),
            ],
            |s| s.external,
        ),
    ];
    for (name, changes, check) in cases {
        let service = applied(changed(&changes));
        assert!(check(&service), "{name}: {service:?}");
    }
}

#[test]
fn what_is_not_ours_is_deleted() {
    for (name, changes) in [
        ("another proxy's", ("/metadata/labels", json!({"service.kubernetes.io/service-proxy-name": ""}))),
        ("headless by label", ("/metadata/labels", json!({"service.kubernetes.io/headless": "x"}))),
        ("headless", ("/spec/clusterIP", json!("None"))),
        ("headless in the list", ("/spec/clusterIPs/0", json!("None"))),
        ("a name elsewhere", ("/spec/type", json!("ExternalName"))),
    ] {
        let Converted { event, warnings } = converted(changed(&[changes])).unwrap();
        let Event::Delete(reference) = event else { panic!("{name}: {event:?}") };
        assert_eq!((reference.to_string().as_str(), warnings.len()), ("Service shop/web", 0), "{name}");
    }
}

#[test]
fn what_the_api_cannot_hold_is_refused() {
    for (pointer, value, want) in [
        ("/spec", Value::Null, "spec: is missing"),
        (
            "/spec/type",
            json!("Cluster"),
            "spec.type: \"Cluster\" is none of ClusterIP, NodePort, LoadBalancer, ExternalName",
        ),
        ("/spec/clusterIP", json!("10.96.0.300"), "spec.clusterIP: \"10.96.0.300\" is no IP address"),
        (
            "/spec/clusterIP",
            json!("10.96.0.11"),
            "spec.clusterIP: \"10.96.0.11\" is not spec.clusterIPs[0], 10.96.0.10",
        ),
        ("/spec/clusterIPs/1", json!("10.96.0.11"), "spec.clusterIPs[1]: is a second one of IPv4"),
        ("/spec/clusterIPs/0", json!("127.0.0.1"), "spec.clusterIPs[0]: \"127.0.0.1\" is a loopback address"),
        ("/spec/externalIPs/1", json!("here"), "spec.externalIPs[1]: \"here\" is no IP address"),
        ("/spec/externalIPs/1", json!("0.0.0.0"), "spec.externalIPs[1]: \"0.0.0.0\" is the unspecified address"),
        (
            "/spec/externalIPs/1",
            json!("::ffff:127.0.0.1"),
            "spec.externalIPs[1]: \"::ffff:127.0.0.1\" is a loopback address",
        ),
        (
            "/spec/externalIPs/1",
            json!("169.254.169.254"),
            "spec.externalIPs[1]: \"169.254.169.254\" is a link-local address",
        ),
        ("/spec/ports", json!([]), "spec.ports: is empty"),
        ("/spec/ports/0/port", json!(0), "spec.ports[0].port: 0 is outside 1 to 65535"),
        ("/spec/ports/1/port", json!(70_000), "spec.ports[1].port: 70000 is outside 1 to 65535"),
        ("/spec/ports/1/port", json!(-1), "spec.ports[1].port: -1 is outside 1 to 65535"),
        ("/spec/ports/0/port", Value::Null, "spec.ports[0].port: 0 is outside 1 to 65535"),
        ("/spec/ports/0/nodePort", json!(70_000), "spec.ports[0].nodePort: 70000 is outside 1 to 65535"),
        ("/spec/ports/0/protocol", json!("tcp"), "spec.ports[0].protocol: \"tcp\" is none of TCP, UDP, SCTP"),
        ("/spec/ports/0/name", Value::Null, "spec.ports[0].name: is missing: each of several ports needs one"),
        ("/spec/ports/1/name", json!("http"), "spec.ports[1].name: \"http\" names an earlier port"),
        ("/spec/ports/1", json!({"name": "again", "port": 80}), "spec.ports[1].port: 80/TCP is an earlier port"),
        (
            "/spec/ports/1",
            json!({"name": "alt", "port": 8080, "nodePort": 30080}),
            "spec.ports[1].nodePort: 30080/TCP is an earlier one",
        ),
        ("/spec/type", json!("ClusterIP"), "spec.ports[0].nodePort: may not be given for a Service of type ClusterIP"),
        ("/spec/sessionAffinity", json!("Cookie"), "spec.sessionAffinity: \"Cookie\" is none of None, ClientIP"),
        (
            "/spec/sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 0}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is outside 1 to 86400",
        ),
        (
            "/spec/sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 86_401}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is outside 1 to 86400",
        ),
        (
            "/spec/internalTrafficPolicy",
            json!("local"),
            "spec.internalTrafficPolicy: \"local\" is none of Cluster, Local",
        ),
        (
            "/spec/externalTrafficPolicy",
            json!("Zone"),
            "spec.externalTrafficPolicy: \"Zone\" is none of Cluster, Local",
        ),
        ("/spec/healthCheckNodePort", json!(-5), "spec.healthCheckNodePort: -5 is outside 1 to 65535"),
        (
            "/spec/loadBalancerSourceRanges",
            json!(["198.51.100.0/40"]),
            "spec.loadBalancerSourceRanges: holds no valid range, and none would admit all",
        ),
        (
            "/status/loadBalancer/ingress/0/ip",
            json!("lb"),
            "status.loadBalancer.ingress[0].ip: \"lb\" is no IP address",
        ),
        (
            "/status/loadBalancer/ingress/0/ipMode",
            json!("Vip"),
            "status.loadBalancer.ingress[0].ipMode: \"Vip\" is none of VIP, Proxy",
        ),
    ] {
        let got = converted(changed(&[(pointer, value)])).map(|converted| converted.event);
        assert_eq!(got.unwrap_err().to_string(), format!("Service shop/web: {want}"));
    }
    let none = [("/spec/clusterIP", Value::Null), ("/spec/clusterIPs", Value::Null)];
    assert_eq!(
        converted(changed(&none)).unwrap_err().to_string(),
        "Service shop/web: spec.clusterIP: is missing: the API server allocates one, nothing else does"
    );
}

#[test]
fn what_a_proxy_skips_is_a_warning() {
    for (changes, want) in [
        (
            vec![("/spec/loadBalancerSourceRanges/0", json!("198.51.100.0/40"))],
            vec![
                "spec.loadBalancerSourceRanges[0]: \"198.51.100.0/40\" has a prefix length outside 0 to 32; it is skipped",
            ],
        ),
        (
            vec![("/metadata/annotations", json!({"lb-agent.io/algorithm": "fastest"}))],
            vec![
                "metadata.annotations[lb-agent.io/algorithm]: \"fastest\" is none of random, maglev, \
                 least-connections; the default is used",
            ],
        ),
        (
            vec![("/status/loadBalancer/ingress/0/ip", json!("127.0.0.1"))],
            vec!["status.loadBalancer.ingress[0].ip: \"127.0.0.1\" is a loopback address; it is not served"],
        ),
        (
            vec![("/spec/type", json!("NodePort")), ("/spec/ports/0/nodePort", Value::Null)],
            vec![
                "spec.ports[0].nodePort: is missing: the API server allocates one, nothing else does; \
                 no node port is served",
            ],
        ),
    ] {
        let Converted { event, warnings } = converted(changed(&changes)).unwrap();
        assert!(matches!(event, Event::Apply(_)), "the service is served: {changes:?}");
        let got: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(got, want.iter().map(|text| format!("Service shop/web: {text}")).collect::<Vec<_>>());
    }
}
