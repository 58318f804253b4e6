//! The agent's life: killed, restarted, resized, moved, cleaned away. Connections never notice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_agent::maps::raw::RawMap;
use lb_tests::{
    ask::{Link, PATIENCE, eventually},
    lab::{
        Lab, Options, Topology,
        agent::AgentOptions,
        client::{Client, Dial, Family, Protocol, Reply, Request, SocketId},
        object::Object,
        topology,
    },
};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

const WEB: &str = "10.96.0.10:80";
const ECHO: &str = "10.96.0.10:53";
const WEB6: &str = "[fd00:10:96::10]:80";
const STICKY: &str = "10.96.0.20:80";
const GONE: &str = "10.96.0.30:80";
const LATE: &str = "10.96.0.40:80";

/// Services beside that of the default topology, all on its pods.
fn service(name: &str, address: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: {address}, \
         ports: [{{port: 80}}]{more}}}}}\n---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: \
         {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}, addressType: IPv4, ports: [{{port: 8080}}], \
         endpoints: [{{addresses: [10.244.1.10], nodeName: node-a}}, {{addresses: [10.244.2.10], nodeName: node-b}}, \
         {{addresses: [10.244.2.11], nodeName: node-b}}]}}\n---\n"
    )
}

fn objects(yaml: &str) -> Vec<Object> {
    Object::parse_all(yaml).expect("the objects are fine")
}

/// The default topology with an agent on node-a alone: everything here happens to that one.
fn up(more: &str, config: &str) -> Lab {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let topology = Topology::parse(&format!("{}\n---\n{more}", topology::DEFAULT)).expect("the topology is fine");
    let absent = AgentOptions { absent: true, ..AgentOptions::default() };
    let agent = AgentOptions { config: Some(config.to_owned()), ..AgentOptions::default() };
    let agents = BTreeMap::from([("node-b".to_owned(), absent)]);
    let options = Options { agent, agents, ready_timeout: PATIENCE, ..Options::default() };
    Lab::up(&topology, &options).expect("the lab comes up")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("is an address")
}

/// Connects and asks once.
fn try_once(client: &mut Client, to: &str) -> Reply {
    let dial = Dial { timeout_ms: 1000, ..Dial::new(at(to), Protocol::Tcp, 1) };
    client.dial(dial).expect("is possible").remove(0)
}

/// Connects and asks twenty times; every time somebody answers.
fn works(client: &mut Client, what: &str) {
    for (to, protocol) in [(WEB, Protocol::Tcp), (ECHO, Protocol::Udp), (WEB6, Protocol::Tcp)] {
        for reply in client.dial(Dial::new(at(to), protocol, 20)).expect("is possible") {
            assert!(reply.ok && reply.pod().is_some(), "{what}: {to}: {reply:?}");
        }
    }
}

/// Connections that stay open, in use all the time.
struct Held {
    tcp: SocketId,
    tcp6: SocketId,
    udp: SocketId,
    /// Not connected: each datagram is sent to the service's address.
    loose: SocketId,
}

impl Held {
    fn start(client: &mut Client) -> Self {
        let mut open = |to: &str, protocol| {
            let id = client.open(Family::of(&at(to)), protocol).expect("is possible");
            assert!(client.connect(id, at(to)).expect("is possible").ok, "{to}");
            let http = lb_tests::lab::client::Http::default();
            client.call(&Request::Hold { id, every_ms: 20, timeout_ms: 2000, http }).expect("is possible");
            id
        };
        let (tcp, tcp6, udp) = (open(WEB, Protocol::Tcp), open(WEB6, Protocol::Tcp), open(ECHO, Protocol::Udp));
        let loose = client.open(Family::V4, Protocol::Udp).expect("is possible");
        Self { tcp, tcp6, udp, loose }
    }

    /// Each has been used since, and without a failure.
    fn live(&self, client: &mut Client, what: &str) {
        for id in [self.tcp, self.tcp6, self.udp] {
            let before = client.call(&Request::Held { id }).expect("is possible");
            eventually(&format!("{what}: {id:?} is used"), || {
                let held = client.call(&Request::Held { id }).expect("is possible");
                assert!(held.ok, "{what}: {held:?}");
                (held.uses > before.uses).then_some(())
            });
        }
        let reply = client.ask(self.loose, Some(at(ECHO))).expect("is possible");
        assert_eq!((reply.outcome(), reply.from), ("ok", Some(at(ECHO))), "{what}: unconnected datagrams");
    }
}

/// Connects in a tight loop, from before `work` to after it. Every connect succeeds, and there are many.
fn nobody_notices(lab: &mut Lab, client: &mut Client, what: &str, work: impl FnOnce(&mut Lab)) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (stop, tries) = (AtomicBool::new(false), AtomicBool::new(false));
    let replies = thread::scope(|scope| {
        let dialler = scope.spawn(|| {
            let mut replies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                for (to, protocol) in [(WEB, Protocol::Tcp), (ECHO, Protocol::Udp), (STICKY, Protocol::Tcp)] {
                    replies.extend(client.dial(Dial::new(at(to), protocol, 10)).expect("is possible"));
                }
                tries.store(true, Ordering::Relaxed);
            }
            replies
        });
        let stop = Stop(&stop);
        eventually("the first connections", || tries.load(Ordering::Relaxed).then_some(()));
        work(lab);
        drop(stop);
        dialler.join().expect("the dialler does not panic")
    });
    let failed: Vec<_> = replies.iter().filter(|reply| !reply.ok).collect();
    println!("{what}: {} connections, {} failed", replies.len(), failed.len());
    assert!(failed.is_empty(), "{what}: of {}: {failed:?}", replies.len());
}

fn of(links: &BTreeMap<String, Link>, part: impl Fn(&Link) -> u64) -> BTreeMap<&str, u64> {
    links.iter().map(|(hook, link)| (hook.as_str(), part(link))).collect()
}

#[test]
#[ignore = "needs root"]
fn an_agent_comes_and_goes() {
    let sticky = service("sticky", "10.96.0.20", ", sessionAffinity: ClientIP");
    let sizes = "maps: {frontends: 1024, backends: 2048, addresses: 512, peers: 4096, datagrams: 8192}";
    let mut lab = up(&format!("{sticky}{}", service("gone", "10.96.0.30", "")), sizes);
    let mut client = lab.client("default/caller").expect("a client starts");
    let mut loop_client = lab.client("default/caller").expect("a client starts");
    let held = Held::start(&mut client);
    held.live(&mut client, "with an agent");
    works(&mut client, "with an agent");
    let favourite = try_once(&mut client, STICKY).pod().expect("somebody answers").to_owned();
    let same_favourite = |client: &mut Client, what: &str| {
        for _ in 0..8 {
            assert_eq!(try_once(client, STICKY).pod(), Some(favourite.as_str()), "{what}: affinity");
        }
    };
    let (ids, dump, links) = (lab.ids("node-a").unwrap(), lab.dump("node-a").unwrap(), lab.links("node-a").unwrap());
    assert_eq!(ids.len(), 18, "three backends of web in two families and two protocols, of the others in one: {ids:?}");
    assert_eq!(links.len(), 11, "{links:?}");

    lab.end_agent("node-a", SIGKILL).unwrap();
    held.live(&mut client, "killed");
    works(&mut client, "killed");
    same_favourite(&mut client, "killed");

    lab.start_agent("node-a").unwrap();
    nobody_notices(&mut lab, &mut loop_client, "killed and started again", |lab| {
        lab.end_agent("node-a", SIGKILL).unwrap();
        lab.start_agent("node-a").unwrap();
    });
    held.live(&mut client, "started again");
    same_favourite(&mut client, "started again");
    assert_eq!(lab.ids("node-a").unwrap(), ids, "ids survive");
    assert_eq!(lab.dump("node-a").unwrap(), dump, "runs survive");
    let swapped = lab.links("node-a").unwrap();
    assert_eq!(of(&swapped, |link| link.link), of(&links, |link| link.link), "the links are the same");
    for (hook, link) in &swapped {
        assert_ne!(link.program, links[hook].program, "{hook}: the program is another one");
    }

    away(&mut lab, &mut client, &held);
    same_favourite(&mut client, "after changes");
    let now = lab.ids("node-a").unwrap();
    for (backend, id) in ids.iter().filter(|(backend, _)| !backend.contains("default/gone")) {
        assert_eq!(now.get(backend), Some(id), "{backend} keeps its id beside others that come and go");
    }

    resized(&mut lab, &mut loop_client);
    held.live(&mut client, "resized");
    same_favourite(&mut client, "resized");

    cleaned(&mut lab, &mut client, &held);
}

/// Changes made while the agent was away are picked up, and nothing goes before the first full list.
fn away(lab: &mut Lab, client: &mut Client, held: &Held) {
    lab.end_agent("node-a", SIGTERM).unwrap();
    held.live(client, "ended");
    works(client, "ended");
    assert!(lab.log("node-a").unwrap().contains("the datapath stays in place"));
    lab.apply(objects(&service("late", "10.96.0.40", ""))).unwrap();
    lab.delete(&objects(&service("gone", "10.96.0.30", ""))).unwrap();
    assert!(try_once(client, GONE).ok, "nobody has told the maps");
    assert!(!try_once(client, LATE).ok, "nobody has told the maps");

    let manifests = lab.manifests("node-a");
    let hidden = manifests.with_file_name("hidden");
    fs::rename(&manifests, &hidden).unwrap();
    let options = lab.state().node("node-a").unwrap().options.clone();
    let agent = lab.start_agent_with("node-a", options).unwrap();
    let directory = manifests.display().to_string();
    let wrong = lab.wait_wrong("node-a", "NoManifests", &directory);
    assert!(wrong.message.contains("what was read before stays"), "{wrong:?}");
    let status = agent.status().unwrap();
    assert_eq!((&status["synced"], &status["ready"]), (&false.into(), &false.into()), "{status}");
    assert!(try_once(client, GONE).ok, "nothing goes before the first full list");
    works(client, "before the first full list");

    fs::rename(&hidden, &manifests).unwrap();
    agent.wait_ready(PATIENCE).unwrap();
    eventually("the new service", || try_once(client, LATE).ok.then_some(()));
    eventually("the deleted service is gone", || (!try_once(client, GONE).ok).then_some(()));
    lab.wait_cured("node-a", "NoManifests");

    // The same once more under a running agent: what was read stays, and what changed meanwhile counts afterwards.
    fs::rename(&manifests, &hidden).unwrap();
    lab.wait_wrong("node-a", "NoManifests", &directory);
    works(client, "without a directory");
    assert!(try_once(client, LATE).ok);
    fs::remove_file(hidden.join("service_default_late.yaml")).unwrap();
    fs::remove_file(hidden.join("endpointslice_default_late.yaml")).unwrap();
    fs::rename(&hidden, &manifests).unwrap();
    lab.wait_cured("node-a", "NoManifests");
    eventually("what went with the directory is gone", || (!try_once(client, LATE).ok).then_some(()));
    works(client, "with the directory back");
    let warned =
        lab.log("node-a").unwrap().lines().filter(|l| l.contains("cannot be listed") && !l.contains("solved")).count();
    assert_eq!(warned, 2, "one warning each time");
}

/// Another size of maps keeps what they hold.
fn resized(lab: &mut Lab, client: &mut Client) {
    let (ids, dump) = (lab.ids("node-a").unwrap(), lab.dump("node-a").unwrap());
    let sizes = "maps: {frontends: 512, backends: 1024, addresses: 256, affinity: 64, peers: 8192, datagrams: 4096}";
    nobody_notices(lab, client, "resized", |lab| {
        lab.end_agent("node-a", SIGTERM).unwrap();
        let config = Some(sizes.to_owned());
        let agent = lab.start_agent_with("node-a", AgentOptions { config, ..AgentOptions::default() }).unwrap();
        agent.wait_ready(PATIENCE).unwrap();
    });
    assert_eq!((lab.ids("node-a").unwrap(), lab.dump("node-a").unwrap()), (ids, dump), "everything is kept");
    let status = lab.agent("node-a").unwrap().status().unwrap();
    let capacity = |name: &str| {
        let maps = status["maps"].as_array().unwrap();
        maps.iter().find(|map| map["name"] == name).unwrap_or_else(|| panic!("{name}: {status}"))["capacity"].clone()
    };
    for (map, want) in [("frontends4", 512), ("frontends6", 512), ("backends4", 1024), ("peers4", 8192)] {
        assert_eq!(capacity(map), want, "{map}");
    }
}

/// `cleanup` refuses beside an agent, and leaves nothing behind.
fn cleaned(lab: &mut Lab, client: &mut Client, held: &Held) {
    let node = lab.state().node_dir("node-a");
    let flag = |name: &str, path: &Path| [name.to_owned(), path.display().to_string()];
    let cleanup = [vec!["cleanup".to_owned()], flag("--bpf-dir", &node.join("bpf")).to_vec()].concat();
    let refused = lab.ends("node-a", "lb-agent", &cleanup).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("another lb-agent is running on these pins"), "{said}");
    works(client, "cleanup was refused");

    lab.end_agent("node-a", SIGTERM).unwrap();
    works(client, "ended again");
    // What an older version would have left there goes with the rest.
    let old = node.join("bpf/v0/maps");
    fs::create_dir_all(&old).unwrap();
    let done = lab.ends("node-a", "lb-agent", &cleanup).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // The kernel keeps files of its own in a bpffs.
    let left = fs::read_dir(node.join("bpf")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with('v')).collect::<Vec<_>>(), Vec::<String>::new(), "no pin is left");
    assert!(!try_once(client, WEB).ok, "nothing translates any more");
    for id in [held.tcp, held.tcp6] {
        let held = client.call(&Request::Held { id }).unwrap();
        assert!(held.ok, "a translated connection needs nothing more: {held:?}");
    }
    let again = lab.ends("node-a", "lb-agent", &cleanup).unwrap();
    assert!(again.status.success(), "a second time is fine: {}", String::from_utf8_lossy(&again.stderr));
    lab.start_agent("node-a").unwrap();
    works(client, "from nothing");
}

/// Everything in the maps that the agent keeps, by map; of the arena, which is reached by words alone, nothing.
fn kept(pins: &Path) -> BTreeMap<&'static str, BTreeSet<Vec<u8>>> {
    let names = ["frontends4", "frontends6", "backends4", "backends6", "addresses4", "addresses6", "config"];
    let entries = |name: &str| {
        let map = RawMap::open(&pins.join("maps").join(name)).expect(name);
        let entries = map.entries().expect(name).into_iter();
        let is_hash = name.starts_with("frontends");
        // A frontend's word says where its run lies, which may be elsewhere after it was written anew.
        entries.map(|(key, value)| if is_hash { key } else { [key, value].concat() }).collect()
    };
    names.map(|name| (name, entries(name))).into()
}

fn warnings(lab: &Lab) -> Vec<String> {
    let log = lab.log("node-a").unwrap();
    log.lines().filter(|line| line.contains("level=warn")).map(str::to_owned).collect()
}

fn flush(pins: &Path) {
    for name in kept(pins).keys() {
        let map = RawMap::open(&pins.join("maps").join(name)).expect(name);
        for (key, value) in map.entries().expect(name) {
            match map.remove(&key) {
                Ok(()) => {}
                // Elements of arrays cannot go.
                Err(_) => map.set(&key, &vec![0; value.len()]).expect(name),
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_others_take_away_comes_back() {
    // Small maps, since all of them is read again and again.
    let small = "maps: {frontends: 64, backends: 64, addresses: 64}";
    let mut lab = up(&service("sticky", "10.96.0.20", ", sessionAffinity: ClientIP"), small);
    let mut client = lab.client("default/caller").expect("a client starts");
    works(&mut client, "at first");
    eventually("the canary", || (lab.agent("node-a").ok()?.status().ok()?["canary"]["ok"] == true).then_some(()));
    assert_eq!(warnings(&lab), Vec::<String>::new(), "nothing is wrong yet");
    let pins = lab.pins("node-a");

    let links = lab.links("node-a").unwrap();
    for hook in links.keys() {
        fs::remove_file(pins.join("links").join(hook)).expect(hook);
    }
    eventually("the hooks are back", || (lab.links("node-a").ok()?.len() == links.len()).then_some(()));
    let back = lab.links("node-a").unwrap();
    assert_eq!(of(&back, |link| link.cgroup), of(&links, |link| link.cgroup));
    for (hook, link) in &back {
        assert_ne!(link.link, links[hook].link, "{hook}: the link was gone and is another one");
    }
    works(&mut client, "with its hooks back");
    // A single one, whose loss no canary sees.
    fs::remove_file(pins.join("links/recvmsg4")).unwrap();
    eventually("the hook is back", || lab.links("node-a").unwrap().contains_key("recvmsg4").then_some(()));

    // The maps are read back every half minute.
    let before = kept(&pins);
    assert!(before.values().all(|entries| !entries.is_empty()), "{before:?}");
    flush(&pins);
    assert!(!try_once(&mut client, WEB).ok, "the maps are empty");
    eventually("the maps are as they were", || (kept(&pins) == before).then_some(()));
    works(&mut client, "with its maps back");
    eventually("the canary", || (lab.agent("node-a").ok()?.status().ok()?["canary"]["ok"] == true).then_some(()));

    // One warning for each time; a look in the middle of a removal makes two of one. The canary may have failed meanwhile.
    let warned = warnings(&lab).into_iter().filter(|line| !line.contains("kind=Canary"));
    let hooks = warned.map(|line| {
        let (_, hooks) = line.split_once("somebody else had detached hooks").expect("nothing else is wrong");
        hooks.rsplit_once('=').and_then(|(_, count)| count.trim().parse::<usize>().ok()).expect("how many")
    });
    let hooks: Vec<usize> = hooks.collect();
    assert!(hooks.iter().sum::<usize>() == 12 && hooks.len() <= 3, "{hooks:?}");
    let dump = lab.dump("node-a").unwrap();
    lab.end_agent("node-a", SIGKILL).unwrap();
    lab.start_agent("node-a").unwrap();
    assert_eq!(lab.dump("node-a").unwrap(), dump, "what was repaired is what a restart finds");
}
