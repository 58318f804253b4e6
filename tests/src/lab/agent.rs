//! A node's agent, or an additional one beside it: how it is started, watched and ended.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    binaries,
    place::{Place, detach},
    process::Process,
    state::State,
};

/// What carries Services on the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proxy {
    /// An agent of ours on each node.
    #[default]
    LbAgent,
    /// Nothing: pods reach pods, Services reach nothing.
    None,
}

/// How an agent is started; what is not set follows from the lab.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentOptions {
    /// Whether the node goes without an agent.
    pub absent: bool,
    /// The content of its `--config` file, YAML.
    pub config: Option<String>,
    /// Another cgroup than the node's own.
    pub cgroup: Option<PathBuf>,
    /// Another directory for pins than the node's own bpffs.
    pub bpf_dir: Option<PathBuf>,
    /// Another state directory.
    pub state_dir: Option<PathBuf>,
    /// Another socket.
    pub socket: Option<PathBuf>,
    /// Another directory of manifests.
    pub manifests: Option<PathBuf>,
    /// Another program than `lb-agent`.
    pub program: Option<PathBuf>,
    /// More flags, after all others.
    pub flags: Vec<String>,
    /// More environment.
    pub environment: Vec<(String, String)>,
}

/// An agent that was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningAgent {
    /// Its process.
    pub process: Process,
    /// Its socket.
    pub socket: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

impl RunningAgent {
    /// Starts an agent on a node and does not wait for it; `name` tells its files from those of others on the node.
    pub fn start(lab: &State, node: &str, name: &str, options: &AgentOptions) -> Result<(Self, Child)> {
        let place = lab.node_place(node);
        let directory = lab.node_dir(node);
        let socket = options.socket.clone().unwrap_or_else(|| directory.join(format!("{name}.sock")));
        let log = directory.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| log.display().to_string())?;
        let program = options.program.clone().map_or_else(|| binaries::find("lb-agent"), Ok)?;
        let mut command = Command::new(&program);
        command.arg("run").args(["--node-name", node]);
        let paths = [
            ("--manifests", options.manifests.clone().unwrap_or_else(|| lab.manifests(node))),
            ("--cgroup", options.cgroup.clone().unwrap_or_else(|| place.cgroup.clone())),
            ("--bpf-dir", options.bpf_dir.clone().unwrap_or_else(|| directory.join("bpf"))),
            ("--state-dir", options.state_dir.clone().unwrap_or_else(|| directory.join("state"))),
            ("--socket", socket.clone()),
        ];
        for (flag, path) in paths {
            command.arg(flag).arg(path);
        }
        if let Some(config) = &options.config {
            let path = directory.join(format!("{name}.config.yaml"));
            fs::write(&path, config).with_context(|| path.display().to_string())?;
            command.arg("--config").arg(path);
        }
        command.args(&options.flags).envs(options.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(file.try_clone().context("log")?).stderr(file);
        start_at(&place, &mut command).map(|(process, child)| (Self { process, socket, log }, child))
    }

    /// Waits until the agent says that it is ready; the complaint ends with what the agent said last.
    pub fn wait_ready(&self, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let problem = match self.status() {
                Ok(status) if status.get("ready") == Some(&Value::Bool(true)) => return Ok(()),
                Ok(status) => format!("its status is {status}"),
                Err(error) => format!("{error:#}"),
            };
            if !self.process.is_alive() {
                bail!("the agent has ended; its last words:\n{}", self.last_words());
            }
            if start.elapsed() > timeout {
                bail!("the agent is not ready after {timeout:?}: {problem}; its last words:\n{}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the agent for its status, through `lbctl`.
    pub fn status(&self) -> Result<Value> {
        let mut command = Command::new(binaries::find("lbctl")?);
        command.arg("--socket").arg(&self.socket).args(["status", "-o", "json"]).stdin(Stdio::null());
        let output = command.output().context("lbctl")?;
        // An unready or unwell agent makes lbctl end with 1, and its status is on standard output all the same.
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text)
            .with_context(|| format!("lbctl status: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Sends a signal and waits until the agent has ended.
    pub fn end(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)?;
        self.process.wait_gone(Duration::from_secs(10))
    }

    /// Returns the last twenty lines of the agent's log.
    pub fn last_words(&self) -> String {
        last_lines(&self.log, 20)
    }
}

/// Starts a command at a place, in a session of its own.
pub fn start_at(place: &Place, command: &mut Command) -> Result<(Process, Child)> {
    detach(command);
    place.enter(command)?;
    let child = command.spawn().with_context(|| command.get_program().to_string_lossy().into_owned())?;
    let process = Process::of(child.id()).context("the process ended before it could be looked at")?;
    Ok((process, child))
}

/// Returns the last lines of a file, none when there is no such file.
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
