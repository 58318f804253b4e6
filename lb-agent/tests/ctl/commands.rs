//! What the commands print, and with which status they end.

use std::{io::Read, process::Stdio, sync::atomic::Ordering};

use serde_json::Value;

use crate::node::{Agent, command, lbctl};

#[test]
fn services_in_columns() {
    let said = Agent::start().lbctl("service list");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
        NAMESPACE    NAME       PORT      VIA           ADDRESS            ALGORITHM  AFFINITY  POLICY           BACKENDS
        default      deathstar  80/TCP    NodePort      0.0.0.0:30080      random     -         Cluster/Cluster  10.0.1.3:80,10.0.2.4:80
        default      deathstar  80/TCP    ClusterIP     10.96.0.1:80       random     -         Cluster/Cluster  10.0.1.3:80,10.0.2.4:80
        default      deathstar  80/TCP    LoadBalancer  192.0.2.80:80      random     -         Cluster/Cluster  10.0.1.3:80,10.0.2.4:80
        default      deathstar  80/TCP    ClusterIP     [fd00:96::1]:80    random     -         Cluster/Cluster  [fd00:2::4]:80
        default      nobody     443/TCP   ClusterIP     10.96.0.99:443     random     -         Cluster/Cluster  -
        default      sticky     8080/TCP  ExternalIP    198.51.100.7:8080  maglev     10800s    Cluster/Local    10.0.1.3:8080
        kube-system  kube-dns   53/TCP    ClusterIP     10.96.0.10:53      random     -         Cluster/Cluster  10.0.1.10:53,10.0.1.9:53,10.0.2.10:53 and 2 more
        kube-system  kube-dns   53/UDP    ClusterIP     10.96.0.10:53      random     -         Cluster/Cluster  10.0.1.10:53,10.0.1.9:53,10.0.2.10:53 and 2 more
        ");
}

#[test]
fn one_service_in_columns() {
    let said = Agent::start().lbctl("service get default/deathstar");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
        NAMESPACE  NAME       PORT    VIA           ADDRESS          ALGORITHM  AFFINITY  POLICY           BACKENDS
        default    deathstar  80/TCP  NodePort      0.0.0.0:30080    random     -         Cluster/Cluster  10.0.1.3:80
                                                                                                           10.0.2.4:80
        default    deathstar  80/TCP  ClusterIP     10.96.0.1:80     random     -         Cluster/Cluster  10.0.1.3:80
                                                                                                           10.0.2.4:80
        default    deathstar  80/TCP  LoadBalancer  192.0.2.80:80    random     -         Cluster/Cluster  10.0.1.3:80
                                                                                                           10.0.2.4:80
        default    deathstar  80/TCP  ClusterIP     [fd00:96::1]:80  random     -         Cluster/Cluster  [fd00:2::4]:80
        ");
}

#[test]
fn backends_in_columns() {
    let said = Agent::start().lbctl("backend list");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
        ID  ADDRESS         PROTOCOL  NODE      STATE        SERVICES
        1   10.0.1.3:80     TCP       worker-1  active       default/deathstar:80
        2   10.0.2.4:80     TCP       worker-2  terminating  default/deathstar:80
        3   [fd00:2::4]:80  TCP       worker-2  active       default/deathstar:80
        4   10.0.1.9:53     TCP       -         active       kube-system/kube-dns:53
        ");
}

/// The canary's age runs.
fn without_age(text: &str) -> String {
    let (before, rest) = text.split_once(", ").unwrap();
    let (age, after) = rest.split_once(" s ago").unwrap();
    assert!(age.parse::<u64>().is_ok_and(|age| age > 1_000_000_000), "since 1970: {age}");
    format!("{before}, N s ago{after}")
}

#[test]
fn status_in_columns() {
    let agent = Agent::start();
    let said = agent.lbctl("status");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(without_age(&said.out), @r"
        node      worker-1
        version   0.1.0
        synced    yes
        ready     yes
        canary    ok, N s ago
        problems  1

        MAP         USED  CAPACITY
        arena       9     262144
        frontends4  7     262144
        frontends6  1     262144

        KIND      OBJECT               FIELD               PROBLEM
        BadField  Service default/odd  spec.ports[0].port  70000 is not a port (1 to 65535); the service is not served
        ");
    agent.node.well.store(false, Ordering::SeqCst);
    let said = agent.lbctl("status");
    assert_eq!((said.code, said.err.as_str()), (1, ""), "a failing canary is something wrong");
    insta::assert_snapshot!(without_age(said.out.lines().find(|line| line.starts_with("canary")).unwrap()), @"canary    failing, N s ago; not covered: default/tiefighter, default/xwing");
}

#[test]
fn maglev_in_columns() {
    let said = Agent::start().lbctl("maglev show default/sticky:8080");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
        size    251
        digest  00f1e2d3c4b5a697

        BACKEND        SLOTS  SHARE
        10.0.1.3:8080  126    50.20 %
        10.0.2.3:8080  125    49.80 %
        ");
}

#[test]
fn json_has_the_keys_of_the_contract() {
    let agent = Agent::start();
    let said = agent.lbctl("service get default/sticky -o json");
    insta::assert_snapshot!(said.out, @r#"
        [
          {
            "namespace": "default",
            "name": "sticky",
            "port": 8080,
            "protocol": "TCP",
            "via": "ExternalIP",
            "address": "198.51.100.7:8080",
            "backends": [
              "10.0.1.3:8080"
            ],
            "algorithm": "maglev",
            "affinitySeconds": 10800,
            "internalTrafficPolicy": "Cluster",
            "externalTrafficPolicy": "Local"
          }
        ]
        "#);
    let said = agent.lbctl("backend list -o json");
    let rows: Value = serde_json::from_str(&said.out).unwrap();
    insta::assert_snapshot!(rows[1], @r#"{"address":"10.0.2.4:80","id":2,"node":"worker-2","protocol":"TCP","services":["default/deathstar:80"],"state":"terminating"}"#);
    let said = agent.lbctl("maglev show default/sticky:8080 -o json");
    insta::assert_snapshot!(said.out, @r#"
        {
          "size": 251,
          "slots": {
            "10.0.1.3:8080": 126,
            "10.0.2.3:8080": 125
          },
          "digest": "00f1e2d3c4b5a697"
        }
        "#);
    let said = agent.lbctl("maps dump -o json");
    insta::assert_snapshot!(said.out, @r#"
        {
          "backends4": [
            {
              "key": 1,
              "value": {
                "address": "10.0.1.3",
                "port": 80
              }
            }
          ]
        }
        "#);
    let said = agent.lbctl("status -o json");
    insta::assert_snapshot!(said.out, @r#"
        {
          "node": "worker-1",
          "version": "0.1.0",
          "synced": true,
          "ready": true,
          "canary": {
            "ok": true,
            "lastUnix": 1,
            "uncovered": []
          },
          "maps": [
            {
              "name": "arena",
              "used": 9,
              "capacity": 262144
            },
            {
              "name": "frontends4",
              "used": 7,
              "capacity": 262144
            },
            {
              "name": "frontends6",
              "used": 1,
              "capacity": 262144
            }
          ],
          "problems": [
            {
              "kind": "BadField",
              "object": "Service default/odd",
              "field": "spec.ports[0].port",
              "message": "70000 is not a port (1 to 65535); the service is not served"
            }
          ]
        }
        "#);
}

#[test]
fn lists_are_sorted() {
    let agent = Agent::start();
    let said = agent.lbctl("-o json service list");
    let rows: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    let keys: Vec<_> = rows
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            (text("namespace"), text("name"), row["port"].as_u64().unwrap(), text("protocol"), text("address"))
        })
        .collect();
    assert_eq!(keys.len(), 8);
    assert!(keys.is_sorted(), "{keys:?}");
    for row in rows {
        let backends: Vec<_> = row["backends"].as_array().unwrap().iter().map(|b| b.as_str().unwrap()).collect();
        assert!(backends.is_sorted(), "{backends:?}");
    }
}

#[test]
fn yaml_says_what_json_says() {
    let agent = Agent::start();
    for line in [
        "status",
        "service list",
        "service get default/nobody",
        "backend list",
        "maps dump",
        "maglev show default/sticky:8080",
    ] {
        let json: Value = serde_json::from_str(&agent.lbctl(&format!("{line} -o json")).out).unwrap();
        let yaml: Value = serde_saphyr::from_str(&agent.lbctl(&format!("{line} -o yaml")).out).unwrap();
        assert_eq!(yaml, json, "{line}");
    }
}

#[test]
fn a_map_dump_for_people_is_the_golden_text() {
    let said = Agent::start().lbctl("maps dump");
    assert_eq!((said.code, said.out.as_str()), (0, "backends4 1 10.0.1.3:80/TCP active\n"));
}

#[test]
fn exit_status() {
    let agent = Agent::start();
    for (name, line, code, err) in [
        ("no such service", "service get default/none", 1, ""),
        ("no such service, as JSON", "service get default/none -o json", 1, ""),
        ("no such port", "maglev show default/none:80", 1, "lbctl: no service has port default/none:80\n"),
        ("not Maglev", "maglev show default/deathstar:80", 1, "lbctl: default/deathstar:80 is chosen random\n"),
        ("protocol that it has not", "maglev show default/sticky:8080 --protocol udp", 1, "lbctl: no service has port"),
        ("no command", "", 2, "error: 'lbctl' requires a subcommand"),
        ("half a command", "service", 2, ""),
        ("unknown command", "flow list", 2, "error: unrecognized subcommand 'flow'"),
        ("no name", "service get", 2, "error: the following required arguments"),
        ("no namespace", "service get web", 2, "error: invalid value 'web' for '<NAMESPACE/NAME>'"),
        ("no port", "maglev show default/web", 2, "error: invalid value 'default/web' for"),
        ("unknown format", "status -o xml", 2, "error: invalid value 'xml'"),
        ("help", "--help", 0, ""),
        ("version", "--version", 0, ""),
    ] {
        let said = agent.lbctl(line);
        assert_eq!(said.code, code, "{name}: {said:?}");
        assert!(said.err.starts_with(err), "{name}: {said:?}");
    }
    assert_eq!(agent.lbctl("service get default/none -o json").out, "[]\n");
    assert_eq!(agent.lbctl("service get default/none").out, "no service default/none\n");
}

#[test]
fn the_socket_comes_from_the_environment_too() {
    let agent = Agent::start();
    let status = command(env!("CARGO_BIN_EXE_lbctl"))
        .arg("status")
        .env("LB_AGENT_SOCKET", &agent.socket)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let agent = Agent::start();
    // More than a pipe holds.
    let row = agent.node.services.lock().unwrap()[0].clone();
    agent.node.services.lock().unwrap().extend(std::iter::repeat_n(row, 5000));
    let mut child = command(env!("CARGO_BIN_EXE_lbctl"))
        .args(["service", "list", "--socket"])
        .arg(&agent.socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 9];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"NAMESPACE");
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let said = lbctl(&[], &format!("completions {shell}"));
        assert_eq!(said.code, 0, "{said:?}");
        for word in ["status", "service", "backend", "maps", "maglev", "completions", "dump", "show", "socket"] {
            assert!(said.out.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(lbctl(&[], "completions tcsh").code, 2);
}
