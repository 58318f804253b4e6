//! The lab's command: what it says when something is wrong, what it leaves standing, and what a signal leaves behind.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lb_tests::lab::{
    binaries,
    teardown::{sweep, tear_down, traces},
};
use nix::sys::signal::Signal;

fn lb_lab() -> Command {
    Command::new(binaries::find("lb-lab").expect("is built with this test"))
}

/// Returns what is left of a lab.
fn left(id: &str) -> Vec<String> {
    traces(id).expect("the machine can be looked at")
}

/// Waits until a lab that another process takes down is gone.
fn assert_gone(id: &str) {
    let start = Instant::now();
    while !left(id).is_empty() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(left(id), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn a_killed_process_leaves_nothing_behind() {
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        // Killed at moments that lie in all parts of coming up, which takes about a tenth of a second.
        for delay in [0, 5, 15, 30, 45, 60, 75, 90, 120] {
            let mut child = lb_lab()
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
                tear_down(&id).expect("it was up before the signal");
            }
            assert_gone(&id);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn the_command_says_what_is_wrong() {
    let directory = tempfile::tempdir().expect("there is room");
    let node = "kind: Node\napiVersion: v1\nmetadata: {name: a}\nspec: {podCIDR: 10.1.0.0/24}\nstatus: {addresses: [{type: InternalIP, \
                address: 192.168.0.2}]}\n";
    let bad_pod = format!("{node}---\nkind: Pod\napiVersion: v1\nmetadata: {{name: p}}\nspec: {{nodeName: b}}\n");
    let clash = format!(
        "{node}---\nkind: Pod\napiVersion: v1\nmetadata: {{name: p}}\nspec: {{nodeName: a, hostNetwork: true, containers: [{{ports: \
         [{{containerPort: 80}}]}}]}}\n---\nkind: Pod\napiVersion: v1\nmetadata: {{name: q}}\nspec: {{nodeName: a, hostNetwork: true, \
         containers: [{{ports: [{{containerPort: 80}}]}}]}}\n"
    );
    let lab = |arguments: &[&str]| {
        let output = lb_lab().args(["--lab", "wrong"]).args(arguments).output();
        let output = output.expect("lb-lab starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (name, yaml, want) in [
        ("malformed", "kind: [\n".to_owned(), "t.yaml: line "),
        ("no node", "kind: Lab\n".to_owned(), "t.yaml: there is no Node"),
        ("unknown node", bad_pod, "t.yaml: Pod default/p: spec.nodeName: there is no node `b`"),
        ("one port twice", clash, ": TCP port 0.0.0.0:80: EADDRINUSE"),
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
        let mut command = lb_lab();
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
    sweep().expect("is possible");
    assert!(!left(&id).is_empty());
    assert_eq!(lab(&["down"]).0, Some(0));
    assert_eq!(left(&id), Vec::<String>::new());
}
