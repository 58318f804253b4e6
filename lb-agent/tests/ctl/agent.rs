//! The agent's own command line, as a process.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::node::{Said, command, said};

fn agent(line: &str) -> Said {
    said(command(env!("CARGO_BIN_EXE_lb-agent")).args(line.split_whitespace()))
}

/// The message of the one line that the agent logged.
fn complaint(said: &Said) -> String {
    assert_eq!((said.code, said.err.lines().count()), (1, 1), "{said:?}");
    let (_, rest) = said.err.trim_end().split_once(" level=error msg=").unwrap();
    serde_json::from_str(rest).unwrap_or_else(|_| rest.to_owned())
}

#[test]
fn wrong_usage_ends_with_two() {
    for line in ["", "walk", "run --no-such", "run --healthz-bind-address here", "probe -o xml", "run --log-format xml"]
    {
        assert_eq!(agent(line).code, 2, "{line:?}");
    }
    assert_eq!(agent("--version").out, concat!("lb-agent ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn what_cannot_be_served_is_one_line() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("config.yaml");
    fs::write(&config, "socket: {closeTCP: true}\n").unwrap();
    let config = config.to_str().unwrap();
    insta::assert_snapshot!(complaint(&agent("run")), @"nothing to serve: --manifests DIR names the directory of Services, EndpointSlices, Nodes and Pods");
    insta::assert_snapshot!(complaint(&agent("run --kubeconfig /etc/kubeconfig")), @"--kubeconfig comes with the Kubernetes source; this version reads the same objects from --manifests DIR");
    insta::assert_snapshot!(complaint(&agent("run --manifests /m --devices eth0")), @"--devices comes with the packet path (traffic from outside the nodes); this version translates at sockets and attaches to no device");
    let said = agent(&format!("run --manifests /m --cgroup /c --node-name n1 --config {config}"));
    insta::assert_snapshot!(complaint(&said).replace(config, "FILE"), @"--config FILE: unknown key socket.closeTCP; known here: hostNamespaceOnly, excludeCgroups, closeTcp, rememberPeer, translateLocalAddresses");
    let said = agent("run --log-format json");
    let line: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((&line["level"], said.code), (&Value::from("ERROR"), 1));
    assert!(line["message"].as_str().unwrap().starts_with("nothing to serve"), "{line}");
}

#[test]
fn a_probe_names_the_kernel_and_its_features() {
    let said = agent("probe -o json");
    let probe: Value = serde_json::from_str(&said.out).unwrap();
    let kernel = nix::sys::utsname::uname().unwrap();
    assert_eq!(probe["kernel"], kernel.release().to_str().unwrap());
    let features = probe["features"].as_array().unwrap();
    let missing = |feature: &&Value| feature["required"] == true && feature["available"] == false;
    assert_eq!(said.code, i32::from(features.iter().any(|feature| missing(&feature))));
    for feature in features {
        for key in ["name", "neededFor", "withoutIt"] {
            assert!(feature[key].as_str().is_some_and(|text| !text.is_empty()), "{feature}");
        }
        assert!(feature["available"].is_boolean(), "{feature}");
    }
    let table = agent("probe").out;
    assert!(table.starts_with("kernel  "), "{table}");
    assert_eq!(table.lines().count(), features.len() + 3, "{table}");
}
