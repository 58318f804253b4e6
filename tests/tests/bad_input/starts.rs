//! Starts that are refused, and what `probe` says before one.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lb_tests::{
    ask::ended,
    lab::{Lab, binaries},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use crate::{WEB, up, who};

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
