//! Bad input of every kind gets one clear message that names what is wrong, and the rest goes on.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lb_tests::{
    ask::{PATIENCE, Wrong, ended, eventually},
    lab::{
        Lab, Options, Topology,
        agent::AgentOptions,
        binaries,
        client::{Client, Dial, Family, Http, Protocol, Request},
        object::Object,
        topology,
    },
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal::{SIGKILL, SIGTERM},
};
use serde_json::Value;

const WEB: &str = "10.96.0.10:80";
const SHARED: &str = "10.96.0.50:80";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("is an address")
}

/// The default topology with an agent on node-a alone.
fn up(config: &str) -> Lab {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(topology::DEFAULT).expect("the topology is fine");
    let absent = AgentOptions { absent: true, ..AgentOptions::default() };
    let agent = AgentOptions { config: Some(config.to_owned()), ..AgentOptions::default() };
    let agents = BTreeMap::from([("node-b".to_owned(), absent)]);
    Lab::up(&topology, &Options { agent, agents, ..Options::default() }).expect("the lab comes up")
}

/// Who answers there, or nobody.
fn who(client: &mut Client, to: &str) -> Option<String> {
    let dial = Dial { timeout_ms: 300, ..Dial::new(at(to), Protocol::Tcp, 1) };
    client.dial(dial).expect("is possible").remove(0).pod().map(str::to_owned)
}

/// Whether a connect there is refused at once.
fn refuses(client: &mut Client, to: &str) -> bool {
    let dial = Dial { timeout_ms: 300, ..Dial::new(at(to), Protocol::Tcp, 1) };
    client.dial(dial).expect("is possible").remove(0).outcome() == "ECONNREFUSED"
}

/// A Service of one port and its slice with one endpoint.
fn service(name: &str, address: &str, port: &str, created: &str, endpoint: &str) -> String {
    let created = if created.is_empty() { String::new() } else { format!(", creationTimestamp: \"{created}\"") };
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}{created}}}, spec: {{clusterIP: {address}, \
         ports: [{{port: {port}}}]}}}}\n---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: \
         {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}, addressType: IPv4, ports: [{{port: 8080}}], \
         endpoints: [{{addresses: [{endpoint}]}}]}}\n"
    )
}

/// The warnings in a log that say this.
fn warnings(lab: &Lab, text: &str) -> Vec<String> {
    let log = lab.log("node-a").expect("there is a log");
    let of = |line: &&str| line.contains("level=warn") && line.contains(text);
    log.lines().filter(of).map(str::to_owned).collect()
}

/// A problem that stands and was said once.
fn said_once(lab: &Lab, kind: &str, object: &str, field: &str, words: &str) {
    let wrong = lab.wait_wrong("node-a", kind, object);
    assert_eq!(wrong.field, field, "{wrong:?}");
    assert!(wrong.message.contains(words) && !wrong.message.contains('\n'), "{words:?}: {wrong:?}");
    let lines = warnings(lab, &wrong.message.replace('"', "\\\""));
    assert_eq!(lines.len(), 1, "{wrong:?}: {lines:?}");
    assert!(lines[0].contains(object), "{lines:?}");
}

#[test]
#[ignore = "needs root"]
fn manifests() {
    let mut lab = up("socket: {closeTcp: false}");
    let mut client = lab.client("default/caller").expect("a client starts");
    mistakes(&lab, &mut client);
    overlaps(&mut lab, &mut client);
    taken_port(&mut lab, &mut client);
}

/// Mistakes in files: each is said once, by object and field; what was there before goes on, and so do the others.
fn mistakes(lab: &Lab, client: &mut Client) {
    let file = lab.manifests("node-a").join("service_default_web.yaml");
    let good = fs::read_to_string(&file).unwrap();
    lab.write_manifest("node-a", "service_default_web.yaml", &format!("{good}spec: [\n")).unwrap();
    said_once(lab, "BrokenManifest", &file.display().to_string(), "", "what it held before stays");
    assert!(who(client, WEB).is_some(), "the old content keeps serving");

    lab.write_manifest("node-a", "unknown.yaml", "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\n")
        .unwrap();
    said_once(
        lab,
        "RefusedObject",
        "Gadget g",
        "kind",
        "example.com/v1 Gadget is a kind that this agent does not know",
    );

    let zero = service("zero", "10.96.0.60", "0", "", "10.244.2.10");
    lab.write_manifest("node-a", "zero.yaml", &zero).unwrap();
    said_once(lab, "RefusedObject", "Service default/zero", "spec.ports[0].port", "0 is outside 1 to 65535");
    let large = service("large", "10.96.0.61", "70000", "", "10.244.2.10");
    lab.write_manifest("node-a", "large.yaml", &large).unwrap();
    said_once(lab, "RefusedObject", "Service default/large", "spec.ports[0].port", "70000 is outside 1 to 65535");

    // A service that turns bad goes on as it was.
    let fine = service("fine", "10.96.0.62", "80", "", "10.244.2.10");
    lab.write_manifest("node-a", "fine.yaml", &fine).unwrap();
    eventually("a good file beside bad ones counts", || who(client, "10.96.0.62:80"));
    lab.write_manifest("node-a", "fine.yaml", &service("fine", "10.96.0.62", "65536", "", "10.244.2.10")).unwrap();
    said_once(lab, "RefusedObject", "Service default/fine", "spec.ports[0].port", "65536 is outside 1 to 65535");
    assert!(who(client, "10.96.0.62:80").is_some(), "the last good version keeps serving");

    let orphan = service("orphan", "10.96.0.63", "80", "", "10.244.2.10");
    let orphan = orphan.split_once("---\n").unwrap().1;
    lab.write_manifest("node-a", "orphan.yaml", orphan).unwrap();
    let label = "metadata.labels[kubernetes.io/service-name]";
    said_once(lab, "NoService", "EndpointSlice default/orphan", label, "Service default/orphan is in no file");

    // One message for each mistake, and no more than these.
    let objects = |lab: &Lab| lab.wrong("node-a").unwrap().into_iter().map(|wrong| wrong.object).collect::<Vec<_>>();
    std::thread::sleep(lb_agent::reconcile::PATIENCE + std::time::Duration::from_secs(1));
    let standing = objects(lab);
    assert_eq!(standing.iter().filter(|object| object.contains("orphan")).count(), 1, "{standing:?}");
    assert_eq!(standing.len(), 6, "{standing:?}");
    lab.write_manifest("node-a", "service_default_web.yaml", &good).unwrap();
    for name in ["unknown", "zero", "large", "fine", "orphan"] {
        fs::remove_file(lab.manifests("node-a").join(format!("{name}.yaml"))).unwrap();
    }
    eventually("everything is cured", || objects(lab).is_empty().then_some(()));
    assert!(lab.log("node-a").unwrap().contains("solved: "), "and the log says so");
}

/// Two services on one address: who wins depends on nothing but the objects, and the loser follows.
fn overlaps(lab: &mut Lab, client: &mut Client) {
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    for (name, a, b, wins) in [
        ("the older wins", early, late, "a"),
        ("whatever its name", late, early, "b"),
        ("a missing time counts as newest", "", late, "b"),
        ("ties go by name", early, early, "a"),
    ] {
        let (loser, loses) = if wins == "a" { ("b", "default/b") } else { ("a", "default/a") };
        let pod = |service: &str| if service == "a" { "default/web-2" } else { "default/web-3" };
        let [first, second] =
            [("a", a, "10.244.2.10"), ("b", b, "10.244.2.11")].map(|(service_name, created, endpoint)| {
                Object::parse_all(&service(service_name, "10.96.0.50", "80", created, endpoint)).unwrap()
            });
        for order in [[&first, &second], [&second, &first]] {
            for objects in order {
                lab.apply(objects.clone()).unwrap();
                eventually("the one or both are there", || who(client, SHARED));
            }
            let object = format!("Service {loses}");
            let wrong = lab.wait_wrong("node-a", "Conflict", &object);
            assert_eq!(wrong.field, "spec.clusterIPs", "{name}: {wrong:?}");
            assert!(wrong.message.contains(&format!("belongs to default/{wins}:80")), "{name}: {wrong:?}");
            eventually(name, || (who(client, SHARED).as_deref() == Some(pod(wins))).then_some(()));
            if order[0] == &first && name == "whatever its name" {
                lab.end_agent("node-a", SIGKILL).unwrap();
                lab.start_agent("node-a").unwrap();
                assert_eq!(who(client, SHARED).as_deref(), Some(pod(wins)), "{name}: after a restart");
                lab.wait_wrong("node-a", "Conflict", &object);
            }
            let (gone, stays) = if wins == "a" { (&first, &second) } else { (&second, &first) };
            lab.delete(gone).unwrap();
            eventually(&format!("{name}: the loser follows"), || {
                (who(client, SHARED).as_deref() == Some(pod(loser))).then_some(())
            });
            lab.wait_cured("node-a", "Conflict");
            lab.delete(stays).unwrap();
            eventually("nobody is left", || who(client, SHARED).is_none().then_some(()));
        }
    }
}

/// A port that somebody else holds is waited for.
fn taken_port(lab: &mut Lab, client: &mut Client) {
    lab.end_agent("node-a", SIGTERM).unwrap();
    let mut squatter = lab.client("node-a").unwrap();
    let id = squatter.open(Family::V4, Protocol::Tcp).unwrap();
    assert!(squatter.bind(id, at("0.0.0.0:10256")).unwrap().ok);
    assert!(squatter.call(&Request::Listen { id }).unwrap().ok);
    lab.start_agent("node-a").unwrap();
    said_once(lab, "PortTaken", "listener 0.0.0.0:10256", "--healthz-bind-address", "port 10256 is taken");
    assert!(who(client, WEB).is_some(), "Services go on");
    assert_eq!(squatter.fetch(at("127.0.0.1:10249"), "/metrics").unwrap().status, Some(200), "and so do metrics");
    assert!(squatter.close(id).unwrap().ok);
    lab.wait_cured("node-a", "PortTaken");
    let (id, _) = squatter.tcp(at("127.0.0.1:10256")).unwrap();
    assert_eq!(squatter.request(id, Http::new("GET", "/livez")).unwrap().status, Some(200));
}

/// A directory of cgroup v1, made if this machine has none, and removed again.
struct CgroupV1 {
    path: PathBuf,
    made: bool,
}

impl CgroupV1 {
    /// None where the kernel has no v1 at all.
    fn find(below: &Path) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        if let Some(fields) = lines.find(|fields| fields[2] == "cgroup") {
            return Some(Self { path: PathBuf::from(fields[1]), made: false });
        }
        let path = below.join("cgroup-v1");
        fs::create_dir_all(&path).unwrap();
        let options = format!("none,name=lb-test-{}", std::process::id());
        let mounted = mount(Some("lb-test"), &path, Some("cgroup"), MsFlags::empty(), Some(options.as_str()));
        mounted.is_ok().then_some(Self { path, made: true })
    }
}

impl Drop for CgroupV1 {
    fn drop(&mut self) {
        if self.made {
            let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        }
    }
}

/// The flags of `lb-agent run` with which node-a's own agent was started, some of them replaced.
fn flags(lab: &Lab, replaced: &[(&str, &str)]) -> Vec<String> {
    let (directory, place) = (lab.state().node_dir("node-a"), lab.place("node-a").unwrap());
    let path = |name: &str| directory.join(name).display().to_string();
    let own = [
        ("--node-name", "node-a".to_owned()),
        ("--manifests", path("manifests")),
        ("--cgroup", place.cgroup.display().to_string()),
        ("--bpf-dir", path("bpf")),
        ("--state-dir", path("second-state")),
        ("--socket", path("second.sock")),
        ("--healthz-bind-address", String::new()),
        ("--metrics-bind-address", String::new()),
    ];
    let given = |flag: &str| replaced.iter().find(|(name, _)| *name == flag).map(|(_, value)| (*value).to_owned());
    let mut words = vec!["run".to_owned()];
    for (flag, value) in own {
        words.extend([flag.to_owned(), given(flag).unwrap_or(value)]);
    }
    if let Some(config) = given("--config") {
        words.extend(["--config".to_owned(), config]);
    }
    words
}

/// An agent that refused to start, in one line.
fn refusal(name: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = output.status.code();
    assert!(status.is_some_and(|code| code != 0), "{name}: {:?}: {text}", output.status);
    assert_eq!(text.lines().count(), 1, "{name}: {text}");
    text
}

#[test]
#[ignore = "needs root"]
fn starts_that_are_refused() {
    let lab = up("maps: {peers: 4096}");
    let mut client = lab.client("default/caller").expect("a client starts");
    let directory = lab.state().node_dir("node-a");
    let scratch = directory.join("scratch");
    fs::create_dir_all(scratch.join("plain")).unwrap();
    let file = |name: &str, text: &str| {
        fs::write(scratch.join(name), text).unwrap();
        scratch.join(name).display().to_string()
    };
    let plain = scratch.join("plain").display().to_string();
    let other = directory.join("bpf/other").display().to_string();
    let socket = directory.join("agent.sock").display().to_string();
    let bpf = directory.join("bpf").display().to_string();
    let before = (lab.links("node-a").unwrap(), lab.dump("node-a").unwrap());

    let v1 = CgroupV1::find(&scratch);
    let v1_path = v1.as_ref().map_or(plain.clone(), |v1| v1.path.display().to_string());
    for (name, replaced, want) in [
        ("the same pins", vec![], format!("--bpf-dir {bpf}: another lb-agent is running on these pins")),
        (
            "the same socket",
            vec![("--bpf-dir", other.as_str()), ("--socket", socket.as_str())],
            format!("--socket {socket}: another agent serves it"),
        ),
        (
            "no bpffs",
            vec![("--bpf-dir", plain.as_str())],
            format!("--bpf-dir {plain}: not on a BPF file system; mount one"),
        ),
        (
            "cgroup v1",
            vec![("--bpf-dir", &other), ("--cgroup", &v1_path)],
            format!("--cgroup {v1_path}: not a cgroup v2 directory"),
        ),
        (
            "a plain directory as cgroup",
            vec![("--bpf-dir", &other), ("--cgroup", &plain)],
            format!("--cgroup {plain}: not a cgroup v2 directory"),
        ),
        (
            "no cgroup",
            vec![("--bpf-dir", &other), ("--cgroup", "/no/such")],
            "--cgroup /no/such: No such file".to_owned(),
        ),
        (
            "an unknown key",
            vec![("--config", &file("key.yaml", "socket: {closeTpc: true}"))],
            "unknown key socket.closeTpc; known here: ".to_owned(),
        ),
        (
            "a bad value",
            vec![("--config", &file("value.yaml", "maps: {frontends: 3}"))],
            "maps.frontends: 3 is not a number from 16 to".to_owned(),
        ),
        ("no YAML", vec![("--config", &file("broken.yaml", "socket: [\n"))], "no YAML: ".to_owned()),
        (
            "an excluded cgroup that is none",
            vec![("--bpf-dir", &other), ("--config", &file("exclude.yaml", "socket: {excludeCgroups: [/no/such]}"))],
            "socket.excludeCgroups: /no/such: not a cgroup v2 directory".to_owned(),
        ),
    ] {
        let output = lab.ends("node-a", "lb-agent", &flags(&lab, &replaced)).unwrap();
        let text = refusal(name, &output);
        assert!(text.contains(&want), "{name}: {text}");
        assert!(lab.agent("node-a").unwrap().status().is_ok(), "{name}: the node's own agent is served as before");
        assert!(!directory.join("second.sock").exists(), "{name}: no socket is left");
    }
    drop(v1);
    assert!(!Path::new(&other).join("v1/links/connect4").exists(), "nothing was attached");

    // As nobody, and as a root without the capabilities that it takes.
    let program = scratch.join("lb-agent");
    fs::copy(binaries::find("lb-agent").unwrap(), &program).unwrap();
    let reachable = fs::Permissions::from_mode(0o755);
    for path in [&program, &scratch, &directory] {
        fs::set_permissions(path, reachable.clone()).unwrap();
    }
    let words = flags(&lab, &[("--bpf-dir", &other)]);
    let command = |program: &Path| {
        let mut command = Command::new(program);
        command.args(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let missing = "CAP_NET_ADMIN, CAP_SYS_ADMIN missing";
    let mut nobody = command(&program);
    nobody.uid(65534).gid(65534);
    let text = refusal("nobody", &ended(nobody).unwrap());
    assert!(text.contains("lb-agent needs root, or the capabilities") && text.contains(missing), "{text}");
    let mut bare = command(&program);
    without_capabilities(&mut bare);
    let text = refusal("a root in a container", &ended(bare).unwrap());
    assert!(text.contains(missing), "{text}");

    assert_eq!((lab.links("node-a").unwrap(), lab.dump("node-a").unwrap()), before, "nothing has changed");
    assert!(who(&mut client, WEB).is_some());
    probe(&lab);
}

/// Takes CAP_NET_ADMIN and CAP_SYS_ADMIN from what the program can get.
fn without_capabilities(command: &mut Command) {
    let drop_both = || {
        for capability in [12u64, 21] {
            // SAFETY: takes numbers alone.
            #[expect(unsafe_code, reason = "prctl has no safe form for the bounding set")]
            let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            if result != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only calls prctl(2).
    #[expect(unsafe_code, reason = "capabilities are taken after fork and before exec")]
    unsafe {
        command.pre_exec(drop_both)
    };
}

/// What the kernel can do, and what each missing thing costs.
fn probe(lab: &Lab) {
    let words = ["probe", "-o", "json"].map(str::to_owned);
    let output = lab.ends("node-a", "lb-agent", &words).unwrap();
    let probe: Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(probe["kernel"], nix::sys::utsname::uname().unwrap().release().to_str().unwrap());
    let features = probe["features"].as_array().expect("features");
    for feature in features {
        let text = |field: &str| feature[field].as_str().unwrap_or_default();
        assert!(feature["available"].is_boolean(), "{feature}");
        assert!(
            !text("name").is_empty() && !text("neededFor").is_empty() && !text("withoutIt").is_empty(),
            "{feature}"
        );
    }
    let named = |name: &str| {
        features.iter().find(|feature| feature["name"] == name).unwrap_or_else(|| panic!("{name}: {probe}"))
    };
    let btf = named("vmlinux-btf");
    assert_eq!(btf["available"], Path::new("/sys/kernel/btf/vmlinux").exists());
    assert_eq!(btf["required"], false, "the socket path needs no BTF");
    assert!(btf["withoutIt"].as_str().unwrap().starts_with("Services work"), "{btf}");
    for name in ["cgroup-sock-addr", "cgroup-sock", "map-types", "cgroup-v2"] {
        assert_eq!(named(name)["available"], true, "{name}: the agent runs here");
    }
    assert_eq!(named("sctp-hooks")["available"], false);
    let usable = features.iter().all(|feature| feature["available"] == true || feature["required"] == false);
    assert_eq!(output.status.success(), usable, "{probe}");
}

/// What each of many services comes to in a map of sixteen entries, which does not hold them all.
fn crowd(lab: &mut Lab, client: &mut Client, count: usize, what: &str, map: &str) {
    let name = |index: usize| format!("crowd-{index:02}");
    let objects = |index: usize| {
        Object::parse_all(&service(&name(index), &format!("10.96.1.{index}"), "80", "", "10.244.2.10")).unwrap()
    };
    lab.end_agent("node-a", SIGTERM).unwrap();
    let options = AgentOptions { config: Some(format!("maps: {{{what}: 16}}")), ..AgentOptions::default() };
    lab.start_agent_with("node-a", options).unwrap().wait_ready(PATIENCE).unwrap();
    assert!(who(client, WEB).is_some(), "{what}");
    for index in 0..count {
        lab.apply(objects(index)).unwrap();
    }
    // Whoever is not served is named, and whoever is not named is served.
    let refused = |lab: &Lab| {
        let wrong = lab.wrong("node-a").unwrap();
        let full: Vec<Wrong> = wrong.into_iter().filter(|wrong| wrong.kind == "MapFull").collect();
        let objects = full.iter().map(|wrong| wrong.object.clone());
        (objects.collect::<std::collections::BTreeSet<_>>(), full)
    };
    let rows = |lab: &Lab| lab.asked("node-a", &["service", "list"]).unwrap();
    eventually(&format!("{what}: the agent has seen them all"), || {
        (rows(lab).as_array().unwrap().iter().filter(|row| row["name"].as_str().unwrap().starts_with("crowd")).count()
            + refused(lab).0.len()
            >= count)
            .then_some(())
    });
    let settled = eventually(&format!("{what}: settled"), || {
        let (names, full) = refused(lab);
        let served = |index: &usize| match map {
            // A Service without its address is dialled all the same; that its other ports are closed is what it lacks.
            "addresses4" => refuses(client, &format!("10.96.1.{index}:81")),
            _ => who(client, &format!("10.96.1.{index}:80")).is_some(),
        };
        let (yes, no): (Vec<usize>, Vec<usize>) = (0..count).partition(served);
        let right = yes.iter().all(|index| !names.contains(&format!("Service default/{}", name(*index))))
            && no.iter().all(|index| names.contains(&format!("Service default/{}", name(*index))));
        (right && !no.is_empty()).then_some((yes, no, full))
    });
    let (served, left_out, full) = settled;
    println!("{what}: {} of {count} are served; {}", served.len(), full[0].message);
    assert!(served.len() >= left_out.len(), "{what}: {served:?}");
    assert!(full.iter().all(|wrong| wrong.message.contains(map)), "{what}: {full:?}");
    assert!(who(client, WEB).is_some(), "{what}: the services that were there before go on");
    if map == "addresses4" {
        let dialled = (0..count).filter(|index| who(client, &format!("10.96.1.{index}:80")).is_some());
        assert_eq!(dialled.count(), count, "{what}");
    }

    // Room for all that were left out.
    for index in served.iter().take(left_out.len()) {
        lab.delete(&objects(*index)).unwrap();
    }
    eventually(&format!("{what}: cured"), || {
        let all = left_out.iter().all(|index| who(client, &format!("10.96.1.{index}:80")).is_some());
        (all && refused(lab).0.is_empty()).then_some(())
    });
    for index in (0..count).filter(|index| !served[..left_out.len()].contains(index)) {
        lab.delete(&objects(index)).unwrap();
    }
    eventually(&format!("{what}: as before"), || {
        (!rows(lab).as_array().unwrap().iter().any(|row| row["name"].as_str().unwrap().starts_with("crowd")))
            .then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn full_maps() {
    // The arena starts small and grows: nobody is left out, and tables larger than all of it are published.
    let mut lab = up("{maps: {arenaLines: 64}, defaultAlgorithm: maglev, maglevTableSize: 1021}");
    let mut client = lab.client("default/caller").expect("a client starts");
    lab.wait_until("node-a", "the arena has grown", |wrong| wrong.is_empty().then_some(()));
    eventually("web is served", || who(&mut client, WEB));
    let status = lab.agent("node-a").unwrap().status().unwrap();
    let arena = status["maps"].as_array().unwrap().iter().find(|map| map["name"] == "arena").unwrap().clone();
    let (used, capacity) = (arena["used"].as_u64().unwrap(), arena["capacity"].as_u64().unwrap());
    assert!(used > 64 && used <= capacity, "{arena}");

    crowd(&mut lab, &mut client, 18, "frontends", "frontends4");
    crowd(&mut lab, &mut client, 13, "backends", "backend");
    crowd(&mut lab, &mut client, 20, "addresses", "addresses4");
}
