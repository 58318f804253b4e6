//! What tests ask of agents and of the kernel while a lab is up.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use lb_agent::maps::raw;
use serde_json::Value;

use crate::lab::{
    Lab,
    client::{Client, Http, Reply},
};

/// How long something may take that takes a moment on an idle machine: kernels of the matrix run in slow emulation.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until there is something to see; the complaint names what was waited for.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(50));
    }
}

/// Something that is wrong, as `lbctl status` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    /// What sort of thing it is.
    pub kind: String,
    /// The object.
    pub object: String,
    /// Its field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A pinned link of a hook, as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The link's id.
    pub link: u64,
    /// The id of the program behind it.
    pub program: u64,
    /// The inode of the cgroup that it is attached to.
    pub cgroup: u64,
}

impl Lab {
    /// Runs `lbctl` against a node's agent.
    pub fn lbctl(&self, node: &str, arguments: &[&str]) -> Result<Output> {
        let command: Vec<&str> = std::iter::once("lbctl").chain(arguments.iter().copied()).collect();
        self.exec(node, &command)
    }

    /// Runs `lbctl` against a node's agent and reads its answer; for lists and dumps, which end with 0.
    pub fn asked(&self, node: &str, arguments: &[&str]) -> Result<Value> {
        let output = self.lbctl(node, &[arguments, &["-o", "json"]].concat())?;
        ensure!(output.status.success(), "lbctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Returns what the maps hold as text, the golden form.
    pub fn dump(&self, node: &str) -> Result<String> {
        let output = self.lbctl(node, &["maps", "dump"])?;
        ensure!(output.status.success(), "lbctl maps dump: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Returns the ids of a node's backends by `ADDR:PORT PROTOCOL NS/NAME:PORT`.
    pub fn ids(&self, node: &str) -> Result<BTreeMap<String, u64>> {
        let rows = self.asked(node, &["backend", "list"])?;
        let mut ids = BTreeMap::new();
        for row in rows.as_array().context("backend list")? {
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            let services = row["services"].as_array().context("services")?.iter().filter_map(Value::as_str);
            let key = format!("{} {} {}", text("address"), text("protocol"), services.collect::<Vec<_>>().join(","));
            ids.insert(key, row["id"].as_u64().context("id")?);
        }
        Ok(ids)
    }

    /// Returns what is wrong on a node.
    pub fn wrong(&self, node: &str) -> Result<Vec<Wrong>> {
        let status = self.agent(node)?.status()?;
        let problems = status["problems"].as_array().context("problems")?;
        let text = |problem: &Value, field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        Ok(problems
            .iter()
            .map(|problem| Wrong {
                kind: text(problem, "kind"),
                object: text(problem, "object"),
                field: text(problem, "field"),
                message: text(problem, "message"),
            })
            .collect())
    }

    /// Waits until a problem of that kind, about that object, stands on a node.
    pub fn wait_wrong(&self, node: &str, kind: &str, object: &str) -> Wrong {
        self.wait_until(node, &format!("{kind} of {object}"), |wrong| {
            wrong.iter().find(|wrong| wrong.kind == kind && wrong.object == object).cloned()
        })
    }

    /// Waits until nothing of that kind is wrong on a node.
    pub fn wait_cured(&self, node: &str, kind: &str) {
        self.wait_until(node, &format!("no {kind}"), |wrong| {
            (!wrong.iter().any(|wrong| wrong.kind == kind)).then_some(())
        });
    }

    /// Waits until what is wrong on a node is as wanted; the complaint names what is wrong in the end.
    pub fn wait_until<T>(&self, node: &str, what: &str, mut look: impl FnMut(&[Wrong]) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let wrong = self.wrong(node).unwrap_or_default();
            if let Some(seen) = look(&wrong) {
                return seen;
            }
            assert!(start.elapsed() < PATIENCE, "{node}: {what}: not within {PATIENCE:?}; what is wrong: {wrong:#?}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Returns what a node's agent has said since it was first started.
    pub fn log(&self, node: &str) -> Result<String> {
        let log = &self.agent(node)?.log;
        fs::read_to_string(log).with_context(|| log.display().to_string())
    }

    /// Returns the directory of a node's pins, the version included.
    pub fn pins(&self, node: &str) -> PathBuf {
        self.state().node_dir(node).join("bpf").join(format!("v{}", lb_ebpf::abi::VERSION))
    }

    /// Returns a node's pinned links by hook.
    pub fn links(&self, node: &str) -> Result<BTreeMap<String, Link>> {
        let directory = self.pins(node).join("links");
        let mut links = BTreeMap::new();
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let fd = raw::get(&path).with_context(|| path.display().to_string())?;
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
            let number = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
                line.and_then(|value| value.trim().parse().ok()).with_context(|| format!("{key} in {text:?}"))
            };
            let link = Link { link: number("link_id")?, program: number("prog_id")?, cgroup: number("cgroup_id")? };
            links.insert(path.file_name().context("a name")?.to_string_lossy().into_owned(), link);
        }
        Ok(links)
    }

    /// Runs a program on a node that is expected to end by itself, at the latest after a while.
    pub fn ends(&self, node: &str, program: &str, arguments: &[String]) -> Result<Output> {
        let mut command = self.command(node, program)?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(command)
    }
}

/// Runs a command to its end, which must come.
pub fn ended(mut command: std::process::Command) -> Result<Output> {
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill()?;
            let output = child.wait_with_output()?;
            bail!("{command:?} goes on running: {}", String::from_utf8_lossy(&output.stderr));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output()?)
}

impl Client {
    /// Sends one HTTP request on a connection of its own.
    pub fn fetch(&mut self, at: SocketAddr, path: &str) -> Result<Reply> {
        let (id, reply) = self.tcp(at)?;
        ensure!(reply.ok, "{at}: {}", reply.outcome());
        let reply = self.request(id, Http::new("GET", path))?;
        self.close(id)?;
        Ok(reply)
    }
}
