//! The lab itself: that it comes up as asked, carries what it should without an agent, and leaves nothing behind.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use lb_tests::lab::{
    Lab, Options, Topology,
    client::{Dial, Family, Http, Protocol, Request},
    object::Object,
    patience,
    probe::{Answer, ProbeOptions},
    state::RUN_DIR,
    teardown::{tear_down, traces},
    topology,
};

/// Three nodes with two addresses each, pods of every kind, a client: what the tests below share.
const THREE: &str = include_str!("../topologies/three.yaml");

fn up(yaml: &str) -> Lab {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(yaml).expect("the topology is fine");
    Lab::up(&topology, &Options::without_proxy()).expect("the lab comes up")
}

/// Returns what is left of a lab.
fn left(id: &str) -> Vec<String> {
    traces(id).expect("the machine can be looked at")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("is an address")
}

#[test]
#[ignore = "needs root"]
fn down_leaves_nothing_behind() {
    let lab = up(THREE);
    let id = lab.state().id.clone();
    let standing = left(&id);
    for what in ["/run/netns/", RUN_DIR, "bpf", "process"] {
        assert!(standing.iter().any(|trace| trace.contains(what)), "{what} is looked for where it is: {standing:?}");
    }
    lab.down().expect("the lab goes down");
    assert_eq!(left(&id), Vec::<String>::new());
    tear_down(&id).expect("a second time is fine");
}

#[test]
#[ignore = "needs root"]
fn labs_stand_side_by_side() {
    let labs: Vec<Lab> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| up(topology::DEFAULT))).collect();
        threads.into_iter().map(|thread| thread.join().expect("each comes up")).collect()
    });
    let ids: BTreeSet<String> = labs.iter().map(|lab| lab.state().id.clone()).collect();
    assert_eq!(ids.len(), 8);
    for lab in labs {
        let written = lb_tests::lab::state::State::load(&lab.state().id).expect("is written down");
        assert_eq!(written.id, lab.state().id);
        let mut client = lab.client("outside").expect("a client starts");
        let reply =
            client.dial(Dial::new(address("10.244.1.10:8080"), Protocol::Tcp, 1)).expect("is possible").remove(0);
        assert_eq!(reply.pod(), Some("default/web-1"));
    }
}

#[test]
#[ignore = "needs root"]
fn a_panic_leaves_nothing_behind() {
    let mut id = String::new();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lab = up(topology::DEFAULT);
        id.clone_from(&lab.state().id);
        let _client = lab.client("default/caller").expect("a client starts");
        panic!("as asked");
    }));
    assert!(panic.is_err());
    assert!(!id.is_empty());
    assert_eq!(left(&id), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn everyone_reaches_every_pod_and_node() {
    let start = Instant::now();
    let lab = up(THREE);
    println!("up: {:?}", start.elapsed());
    let places = ["x/caller", "x/web-1", "x/web-4", "node-a", "node-c", "outside"];
    for place in places {
        let mut client = lab.client(place).expect(place);
        for target in &lab.state().pods {
            for ip in &target.pod.addresses {
                for port in &target.pod.ports {
                    let to = SocketAddr::new(*ip, port.number);
                    let protocol = if port.udp { Protocol::Udp } else { Protocol::Tcp };
                    let tries = client.dial(Dial::new(to, protocol, 1)).expect(place);
                    let answer = tries[0].answer.clone().unwrap_or_else(|| panic!("{place} -> {to}: {:?}", tries[0]));
                    assert_eq!(answer.name, target.pod.full_name(), "{place} -> {to}");
                    assert_eq!(answer.address, to, "{place} -> {to}");
                    let seen = tries[0].local.expect("a connected socket has a name");
                    assert_eq!(answer.source, seen, "{place} -> {to}: nothing translates addresses");
                }
            }
        }
        for node in &lab.state().nodes {
            for ip in &node.node.addresses {
                let reply = client.tcp(SocketAddr::new(*ip, 9)).expect(place).1;
                assert_eq!(reply.outcome(), "ECONNREFUSED", "{place} -> {ip}");
            }
        }
        for nowhere in ["10.96.0.10:80", "[fd00:10:96::10]:80"] {
            let to = address(nowhere);
            let id = client.open(Family::of(&to), Protocol::Tcp).expect(place);
            let reply = client.call(&Request::Connect { id, to, timeout_ms: 50 }).expect(place);
            assert_eq!(reply.outcome(), "TIMEOUT", "{place} -> {nowhere}: there is no agent");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn sockets_of_every_kind() {
    let lab = up(THREE);
    let mut client = lab.client("x/caller").expect("a client starts");
    let (v4, v6) = (address("10.244.2.10:80"), address("[fd00:10:244:2::10]:80"));

    let (id, reply) = client.tcp(v4).expect("is possible");
    assert_eq!(reply.peer, Some(v4));
    for _ in 0..3 {
        let reply = client.get(id).expect("is possible");
        assert_eq!((reply.pod(), reply.status), (Some("x/web-2"), Some(200)), "the connection stays open");
    }
    let reply = client.request(id, Http::new("POST", "/v1/request-landing")).expect("is possible");
    assert_eq!(reply.data.as_deref(), Some("Ship landed"));
    client.call(&Request::Hold { id, every_ms: 1, timeout_ms: 1000, http: Http::default() }).expect("is possible");
    let start = Instant::now();
    while client.call(&Request::Held { id }).expect("is possible").uses < Some(5) {
        assert!(start.elapsed() < Duration::from_secs(10) * patience(), "a held connection is used every millisecond");
    }
    assert!(client.get(id).is_err(), "a held connection is in use");
    let held = client.call(&Request::Release { id }).expect("is possible");
    assert!(held.ok && held.uses >= Some(5) && held.pod() == Some("x/web-2"), "{held:?}");
    assert_eq!(client.get(id).expect("is possible").pod(), Some("x/web-2"));

    let id = client.open(Family::V6, Protocol::Tcp).expect("is possible");
    let reply = client.connect(id, v4).expect("is possible");
    assert_eq!(reply.peer, Some(address("[::ffff:10.244.2.10]:80")), "v4-in-v6");
    assert_eq!(client.get(id).expect("is possible").pod(), Some("x/web-2"));

    let id = client.tcp(v6).expect("is possible").0;
    assert_eq!(client.names(id).expect("is possible").peer, Some(v6));
    assert_eq!(client.get(id).expect("is possible").pod(), Some("x/web-2"));

    let id = client.open(Family::V4, Protocol::Udp).expect("is possible");
    for (to, pod) in [("10.244.2.10:53", "x/web-2"), ("10.244.3.10:53", "x/web-4")] {
        let reply = client.ask(id, Some(address(to))).expect("is possible");
        assert_eq!((reply.pod(), reply.from), (Some(pod), Some(address(to))), "one socket, several destinations");
    }
    let id = client.open(Family::V6, Protocol::Udp).expect("is possible");
    let reply = client.ask(id, Some(address("10.244.2.10:53"))).expect("is possible");
    assert_eq!(reply.from, Some(address("[::ffff:10.244.2.10]:53")));
    let id = client.open(Family::V4, Protocol::Udp).expect("is possible");
    client.connect(id, address("10.244.2.10:54")).expect("is possible");
    let reply = client.ask(id, None).expect("is possible");
    assert_eq!(reply.outcome(), "ECONNREFUSED", "no one listens, and an ICMP error says so");

    // A hostNetwork pod answers on each of its node's addresses, from the one that was asked.
    for to in ["192.168.0.3:8053", "192.168.1.3:8053", "[fd00:192:168::3]:8053"] {
        let id = client.open(Family::of(&address(to)), Protocol::Udp).expect("is possible");
        let reply = client.ask(id, Some(address(to))).expect("is possible");
        assert_eq!((reply.pod(), reply.from), (Some("x/host"), Some(address(to))));
        assert_eq!(reply.answer.map(|answer| answer.address), Some(address(to)));
    }

    let first = client.open(Family::V4, Protocol::Tcp).expect("is possible");
    assert!(client.bind(first, address("0.0.0.0:7000")).expect("is possible").ok);
    assert!(client.call(&Request::Listen { id: first }).expect("is possible").ok);
    let second = client.open(Family::V4, Protocol::Tcp).expect("is possible");
    assert_eq!(client.bind(second, address("0.0.0.0:7000")).expect("is possible").outcome(), "EADDRINUSE");
    assert!(client.close(second).expect("is possible").ok);
    assert!(client.names(second).is_err(), "a closed socket is no socket");
    let open = client.call(&Request::List).expect("is possible").sockets;
    assert!(open.contains(&first) && !open.contains(&second), "{open:?}");
}

#[test]
#[ignore = "needs root"]
fn places_are_what_they_say() {
    let lab = up(THREE);
    for (place, command, status, stdout) in [
        ("x/caller", "exit 7", 7, ""),
        ("x/caller", "ip -o -4 addr show eth0 | awk '{print $4}'", 0, "10.244.1.2/32\n"),
        ("node-b", "ip -o -4 addr show eth0 | awk '{print $4}'", 0, "192.168.0.3/32\n192.168.1.3/32\n"),
        ("x/host", "ip -o -4 addr show eth0 | awk '{print $4}'", 0, "192.168.0.3/32\n192.168.1.3/32\n"),
        ("outside", "ip -o -6 addr show eth0 scope global | awk '{print $4}'", 0, "2001:db8:f::2/128\n"),
        ("node-a", "cat /proc/sys/net/ipv4/ip_forward", 0, "1\n"),
        ("x/caller", "cat /proc/sys/net/ipv4/ip_forward", 0, "0\n"),
        ("outside", "echo ${LB_AGENT_SOCKET-none}", 0, "none\n"),
        ("x/caller", "basename $(dirname $LB_AGENT_SOCKET)", 0, "node-a\n"),
        ("x/caller", "grep -o '/node-node-a/pod-x_caller$' /proc/self/cgroup", 0, "/node-node-a/pod-x_caller\n"),
        ("x/host", "grep -o '/node-node-b/pod-x_host$' /proc/self/cgroup", 0, "/node-node-b/pod-x_host\n"),
    ] {
        let output = lab.exec(place, &["sh", "-c", command]).expect(command);
        assert_eq!(output.status.code(), Some(status), "{place}: {command}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{place}: {command}");
    }
    let error = lab.exec("x/none", &["true"]).expect_err("there is no such pod").to_string();
    assert!(error.starts_with("there is no pod, node or client `x/none`"), "{error}");

    let link = |place| lab.in_namespace(place, || Ok(fs::read_link("/proc/thread-self/ns/net")?)).expect(place);
    let namespaces: BTreeSet<_> = ["x/caller", "x/web-1", "node-a", "outside", "fabric"].map(link).into();
    assert_eq!(namespaces.len(), 5, "each has a namespace of its own");
    assert_eq!(link("x/host"), link("node-b"));
    assert!(!namespaces.contains(&fs::read_link("/proc/self/ns/net").expect("/proc is mounted")));
}

#[test]
#[ignore = "needs root"]
fn objects_reach_every_node() {
    let mut lab = up(THREE);
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {name: late, namespace: z}\nspec: {nodeName: node-c, containers: [{ports: \
               [{containerPort: 80}]}]}\n";
    let service =
        "kind: Service\napiVersion: v1\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}\n";
    let parse = |yaml: &str| Object::parse_all(yaml).expect("is fine");
    lab.apply(parse(&format!("{pod}---\n{service}"))).expect("is fine");
    for node in ["node-a", "node-b", "node-c"] {
        let read = |name: &str| fs::read_to_string(lab.manifests(node).join(name)).expect(name);
        let written = parse(&read("pod_z_late.yaml"));
        assert_eq!(written[0].value["status"]["podIP"], "10.244.3.3", "{node}");
        assert_eq!(parse(&read("service_default_s.yaml")), parse(service), "{node}");
        let strays = fs::read_dir(lab.manifests(node)).expect(node).flatten().map(|entry| entry.file_name());
        assert!(strays.into_iter().all(|name| !name.to_string_lossy().starts_with('.')), "{node}");
    }
    let mut client = lab.client("x/caller").expect("a client starts");
    let mut pod_at = |port: u16| {
        let to = SocketAddr::new("10.244.3.3".parse().expect("is an address"), port);
        let reply = client.dial(Dial::new(to, Protocol::Tcp, 1)).expect("is possible").remove(0);
        reply.pod().unwrap_or(reply.outcome()).to_owned()
    };
    assert_eq!(pod_at(80), "z/late");
    lab.apply(parse(&pod.replace("80", "81"))).expect("is fine");
    assert_eq!((pod_at(80), pod_at(81)), ("ECONNREFUSED".to_owned(), "z/late".to_owned()));
    lab.delete(&parse(pod)).expect("is fine");
    assert_eq!(pod_at(81), "EHOSTUNREACH", "its node says that there is no such pod");
    assert!(!lab.manifests("node-a").join("pod_z_late.yaml").exists());
    for (name, yaml, want) in [
        ("a deleted pod", pod, "Pod z/late: there is no such object"),
        (
            "a node",
            "kind: Node\napiVersion: v1\nmetadata: {name: node-a}",
            "Node node-a: a node of the lab stays as long as the lab",
        ),
    ] {
        assert_eq!(lab.delete(&parse(yaml)).expect_err(name).to_string(), want, "{name}");
    }
    let taken = format!("{pod}status: {{podIP: 10.244.2.10}}\n");
    let error = lab.apply(parse(&taken)).expect_err("the address is taken").to_string();
    assert_eq!(error, "Pod z/late: status.podIPs: 10.244.2.10 is taken");
    assert_eq!(lab.objects().expect("is readable").len(), Topology::parse(THREE).expect("is fine").objects.len() + 1);
}

#[test]
#[ignore = "needs root"]
fn servers_log_whom_they_saw() {
    let lab = up(topology::DEFAULT);
    let mut client = lab.client("default/caller").expect("a client starts");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let port = if protocol == Protocol::Tcp { 8080 } else { 5353 };
        let to = SocketAddr::new("10.244.2.10".parse().expect("is an address"), port);
        let reply = client.dial(Dial::new(to, protocol, 1)).expect("is possible").remove(0);
        let source = reply.local.expect("a connected socket has a name");
        let lines = lab.server_log("default/web-2").expect("there is a log");
        let what = if protocol == Protocol::Tcp { "protocol=TCP method=GET path=/ status=200" } else { "protocol=UDP" };
        let want = format!("name=default/web-2 source={source} address={to} {what}");
        assert!(lines.contains(&want), "{want} is not in {lines:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn probe_answers_by_connections() {
    let lab = up(THREE);
    let queries = [
        r#"{"from":"x/caller","to":"x/web-2","port":80}"#,
        r#"{"from":"outside","to":"x/web-2","port":53,"protocol":"UDP"}"#,
        r#"{"from":"203.0.113.2","to":"fd00:10:244:2::66","port":80}"#,
        r#"{"from":"2001:db8:f::2","to":"x/six","port":80}"#,
        r#"{"from":"192.168.1.3","to":"10.244.1.10","port":80}"#,
        r#"{"from":"x/web-1","to":"node","port":81}"#,
        r#"{"from":"node","to":"10.244.3.10","port":54,"protocol":"UDP"}"#,
        r#"{"from":"node","to":"10.96.0.10","port":80}"#,
        r#"{"from":"x/caller","to":"10.244.1.99","port":80}"#,
        r#"{"from":"x/caller","to":"x/web-2","port":80,"http":{"method":"POST","path":"/v1/request-landing"}}"#,
        r#"{"from":"x/nobody","to":"x/web-2","port":80}"#,
        r#"{"from":"x/caller","to":"service:x/none","port":80}"#,
        r#"{"from":"x/caller","to":"x/web-2","port":80,"protocol":"SCTP"}"#,
        "nonsense",
    ];
    let queries: Vec<_> = queries.iter().map(|line| serde_json::from_str(line).map_err(|e| e.to_string())).collect();
    let mut lines = Vec::new();
    let options = ProbeOptions { node: Some("node-c".to_owned()), tries: Some(3) };
    let put = |answer: Answer| {
        let addresses: Vec<String> = answer.backends.iter().map(ToString::to_string).collect();
        let sources: Vec<String> = answer.source_seen.iter().map(ToString::to_string).collect();
        let reason = answer.reason.unwrap_or_default();
        lines.push(format!("{:?} {} {} {reason}", answer.verdict, addresses.join(","), sources.join(",")));
        Ok(())
    };
    lab.probe_all(&queries, &options, put).expect("queries are answered");
    assert_eq!(
        lines,
        [
            "Allow 10.244.2.10:80 10.244.1.2 ",
            "Allow 10.244.2.10:53 203.0.113.2 ",
            "Error   BadQuery",
            "Allow [fd00:10:244:2::66]:80 2001:db8:f::2 ",
            "Allow 10.244.1.10:80 192.168.1.3 ",
            "Refuse   ",
            "Refuse   ",
            "Drop   ",
            "Drop   ",
            "Allow 10.244.2.10:80 10.244.1.2 ",
            "Error   BadQuery",
            "Error   BadQuery",
            "Error   NoSctp",
            "Error   BadQuery",
        ]
    );
}
