//! Manifests with mistakes, services in each other's way, a port that is taken.

use std::fs;

use lb_tests::{
    ask::eventually,
    lab::{
        Lab,
        client::{Client, Family, Http, Protocol, Request},
        object::Object,
    },
};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

use crate::{WEB, at, service, up, who};

const SHARED: &str = "10.96.0.50:80";

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
