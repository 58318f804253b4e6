//! The lab itself: that it comes up as asked, carries what it should without an agent, and leaves nothing behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lb_tests::lab::{
    Lab, Options, Topology,
    client::{Dial, Family, Http, Protocol, Request},
    object::Object,
    probe::{Answer, ProbeOptions},
    process::Process,
    state::RUN_DIR,
    topology,
};

/// Three nodes with two addresses each, pods of every kind, a client: what the tests below share.
const THREE: &str = include_str!("../topologies/three.yaml");

fn up(yaml: &str) -> Lab {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(yaml).expect("the topology is fine");
    Lab::up(&topology, &Options::without_proxy()).expect("the lab comes up")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("is an address")
}

/// Everything of this machine that carries the lab's id.
fn traces(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    let own = format!("{id}-");
    let named = |text: &str| text.contains(&own) || text.ends_with(id) || text.contains(&format!("{id}/"));
    for directory in ["/run/netns", RUN_DIR, "/sys/class/net"] {
        let entries = fs::read_dir(directory).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
        let names = entries.iter().map(|entry| entry.path().display().to_string());
        found.extend(names.filter(|name| named(name)));
    }
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc is mounted");
    found.extend(mounts.lines().filter(|line| line.split(' ').nth(1).is_some_and(named)).map(str::to_owned));
    let cgroup = lb_tests::lab::cgroup::mount().expect("cgroup v2 is mounted").join(id);
    found.extend(cgroup.exists().then(|| cgroup.display().to_string()));
    for process in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let pid = process.file_name().to_string_lossy().parse().ok();
        // One that ended and waits for its parent, the machine's init, is no process any more.
        if !pid.and_then(Process::of).is_some_and(|process| process.is_alive()) {
            continue;
        }
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let group = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        if line.contains(&own) || line.contains(&format!("guard {id}")) || group.lines().any(named) {
            found.push(format!("process {}: {line}", process.path().display()));
        }
    }
    found
}

/// Waits until a lab that another process takes down is gone.
fn assert_gone(id: &str) {
    let start = Instant::now();
    while !traces(id).is_empty() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(traces(id), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn down_leaves_nothing_behind() {
    let lab = up(THREE);
    let id = lab.state().id.clone();
    let standing = traces(&id);
    for what in ["/run/netns/", RUN_DIR, "bpf", "process"] {
        assert!(standing.iter().any(|trace| trace.contains(what)), "{what} is looked for where it is: {standing:?}");
    }
    lab.down().expect("the lab goes down");
    assert_eq!(traces(&id), Vec::<String>::new());
    lb_tests::lab::teardown::tear_down(&id).expect("a second time is fine");
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
    assert_eq!(traces(&id), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn a_killed_process_leaves_nothing_behind() {
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGINT] {
        // Killed at moments that lie in all parts of coming up, which takes about a tenth of a second.
        for delay in [0, 5, 15, 30, 45, 60, 75, 90, 120] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_lb-lab"))
                .args(["--lab", &format!("killed-{signal}-{delay}"), "up", "--proxy", "none"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("lb-lab starts");
            std::thread::sleep(Duration::from_millis(delay));
            let pid = nix::unistd::Pid::from_raw(child.id() as i32);
            nix::sys::signal::kill(pid, signal).expect("the process is ours");
            let status = child.wait().expect("is our child");
            let id = format!("lb-lab-{pid}-0");
            if status.success() {
                lb_tests::lab::teardown::tear_down(&id).expect("it was up before the signal");
            }
            assert_gone(&id);
        }
    }
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
    client.call(&Request::Sleep { ms: 50 }).expect("is possible");
    let held = client.call(&Request::Release { id }).expect("is possible");
    assert!(held.ok && held.uses > Some(5), "{held:?}");

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
    let pod = "kind: Pod\nmetadata: {name: late, namespace: z}\nspec: {nodeName: node-c, containers: [{ports: \
               [{containerPort: 80}]}]}\n";
    let service = "kind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}\n";
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
        let reply =
            client.dial(Dial { timeout_ms: 100, ..Dial::new(to, Protocol::Tcp, 1) }).expect("is possible").remove(0);
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
        ("a node", "kind: Node\nmetadata: {name: node-a}", "Node node-a: a node of the lab stays as long as the lab"),
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

#[test]
#[ignore = "needs root"]
fn the_command_says_what_is_wrong() {
    let directory = tempfile::tempdir().expect("there is room");
    let node = "kind: Node\nmetadata: {name: a}\nspec: {podCIDR: 10.1.0.0/24}\nstatus: {addresses: [{type: InternalIP, \
                address: 192.168.0.2}]}\n";
    let bad_pod = format!("{node}---\nkind: Pod\nmetadata: {{name: p}}\nspec: {{nodeName: b}}\n");
    let clash = format!(
        "{node}---\nkind: Pod\nmetadata: {{name: p}}\nspec: {{nodeName: a, hostNetwork: true, containers: [{{ports: \
         [{{containerPort: 80}}]}}]}}\n---\nkind: Pod\nmetadata: {{name: q}}\nspec: {{nodeName: a, hostNetwork: true, \
         containers: [{{ports: [{{containerPort: 80}}]}}]}}\n"
    );
    let lab = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lb-lab")).args(["--lab", "wrong"]).args(arguments).output();
        let output = output.expect("lb-lab starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (name, yaml, want) in [
        ("malformed", "kind: [\n".to_owned(), "t.yaml: line "),
        ("no node", "kind: Lab\n".to_owned(), "t.yaml: there is no Node"),
        ("unknown node", bad_pod, "t.yaml: Pod default/p: spec.nodeName: there is no node `b`"),
        ("one port twice", clash, "server of Pod default/q: TCP port 0.0.0.0:80: EADDRINUSE"),
    ] {
        let path = directory.path().join("t.yaml");
        fs::write(&path, yaml).expect("there is room");
        let (status, stderr) = lab(&["up", path.to_str().expect("is text"), "--proxy", "none"]);
        assert_eq!(status, Some(1), "{name}: {stderr}");
        assert!(stderr.contains(want) && stderr.lines().count() == 1, "{name}: {stderr}");
    }
    for (name, arguments, status, want) in [
        ("no such file", &["up", "/none.yaml", "--proxy", "none"][..], 1, "lab: /none.yaml: No such file"),
        ("no lab", &["exec", "x/y", "--", "true"], 1, "lab: there is no lab `wrong`: `lab up` makes one"),
        ("no lab to change", &["apply", "-f", "/dev/null"], 1, "lab: there is no lab `wrong`"),
        ("a peer", &["up", "--proxy", "kube-proxy-nftables"], 2, "kube-proxy in the lab comes with the test cluster"),
        (
            "no proxy",
            &["up", "--proxy", "envoy"],
            2,
            "is none of lb-agent, none, kube-proxy-nftables, kube-proxy-iptables",
        ),
        ("down without up", &["down"], 0, ""),
    ] {
        let (got, stderr) = lab(arguments);
        assert_eq!(got, Some(status), "{name}: {stderr}");
        assert!(stderr.contains(want), "{name}: {stderr}");
    }
}

#[test]
#[ignore = "needs root"]
fn the_command_leaves_a_lab_standing() {
    let lab = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb-lab"));
        let output = command.args(["--lab", "standing"]).args(arguments).output().expect("lb-lab starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, places) = lab(&["up", "--proxy", "none"]);
    assert_eq!(status, Some(0));
    assert!(places.lines().any(|place| place == "default/caller"), "{places}");
    let (status, _) = lab(&["up", "--proxy", "none"]);
    assert_eq!(status, Some(1), "it is up already");
    let (status, text) = lab(&["exec", "default/caller", "--", "sh", "-c", "echo here; exit 3"]);
    assert_eq!((status, text.as_str()), (Some(3), "here\n"));
    let (status, _) = lab(&["exec", "default/caller", "--", "no-such-program"]);
    assert_eq!(status, Some(127));
    let queries = tempfile::NamedTempFile::new().expect("there is room");
    fs::write(queries.path(), "{\"from\":\"default/caller\",\"to\":\"default/web-2\",\"port\":8080}\nx\n")
        .expect("is open");
    let (status, text) = lab(&["probe", "--queries", queries.path().to_str().expect("is text"), "--tries", "2"]);
    let want = "{\"verdict\":\"allow\",\"backends\":[\"10.244.2.10:8080\"],\"source_seen\":[\"10.244.1.2\"],\"outcomes\":{\"ok\":2}}";
    assert_eq!((status, text.lines().next()), (Some(0), Some(want)));
    assert!(text.lines().nth(1).is_some_and(|line| line.contains("BadQuery")), "{text}");
    let dial = ["dial", "10.244.2.10:8080", "--times", "3"];
    let (status, text) = lab(&[&["exec", "default/caller", "--", "lb-lab"][..], &dial].concat());
    assert_eq!((status, text.as_str()), (Some(0), "     3 default/web-2 10.244.2.10:8080\n"));
    let hold = ["hold", "[fd00:10:244:2::10]:5353", "--udp", "--for-ms", "50", "--every-ms", "5"];
    let (status, text) = lab(&[&["exec", "default/caller", "--", "lb-lab"][..], &hold].concat());
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("uses answered by default/web-2, longest wait") && text.ends_with("ms, ok\n"), "{text}");
    let (status, text) = lab(&["exec", "default/caller", "--", "lb-lab", "hold", "10.244.2.10:1"]);
    assert_eq!((status, text.as_str()), (Some(1), "0 uses answered by no one, longest wait 0 ms, ECONNREFUSED\n"));
    let (status, text) = lab(&["status"]);
    assert_eq!(status, Some(0));
    let state: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).expect("is JSON");
    let id = state["id"].as_str().expect("is text").to_owned();
    // Another test's start sweeps what is left of labs whose process is gone; this one stands on its own.
    lb_tests::lab::teardown::sweep().expect("is possible");
    assert!(!traces(&id).is_empty());
    assert_eq!(lab(&["down"]).0, Some(0));
    assert_eq!(traces(&id), Vec::<String>::new());
}
