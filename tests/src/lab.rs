//! The lab: a cluster of network namespaces on one machine.
//!
//! It is the one harness of the demo, the tests and the benchmarks. A node is a namespace with a cgroup, a bpffs and an agent
//! of its own; a pod is a namespace with a server, joined to its node in a routed CNI's shape ([`wiring`]); a client is a
//! namespace outside the cluster. Every name starts with `lb-lab-PID-N`, and everything is gone when the [`Lab`] is: on drop,
//! on panic and, through a [`teardown::Guard`], when the process is killed. The machine's own devices, root cgroup, bpffs and
//! settings are never touched.
//!
//! Read in this order: [`topology`] (what is asked for), [`Lab`] (how it comes up), [`place`] (how a process gets inside).

pub mod agent;
pub mod binaries;
pub mod cgroup;
pub mod cidr;
pub mod client;
pub mod netns;
pub mod object;
pub mod place;
pub mod probe;
pub mod process;
pub mod server;
pub mod state;
pub mod teardown;
pub mod topology;
pub mod wiring;

mod change;
mod up;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Output},
    time::Duration,
};

use agent::{AgentOptions, Proxy, RunningAgent};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use object::Object;
use place::Place;
use state::{State, write_atomically};
use teardown::{Guard, tear_down};

pub use topology::Topology;

/// How a lab is brought up.
#[derive(Clone, Debug)]
pub struct Options {
    /// What carries Services.
    pub proxy: Proxy,
    /// A name by which other processes find the lab; such a lab may be left standing by [`Lab::detach`].
    pub name: Option<String>,
    /// How agents are started.
    pub agent: AgentOptions,
    /// How single nodes' agents are started, by the node's name, in place of `agent`.
    pub agents: BTreeMap<String, AgentOptions>,
    /// How long an agent may take until it is ready.
    pub ready_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            proxy: Proxy::default(),
            name: None,
            agent: AgentOptions::default(),
            agents: BTreeMap::new(),
            ready_timeout: Duration::from_secs(30) * patience(),
        }
    }
}

impl Options {
    /// Returns options for a lab without agents.
    pub fn without_proxy() -> Self {
        Self { proxy: Proxy::None, ..Self::default() }
    }
}

/// The factor by which this machine is slower than those that the lab's time limits are made for.
pub const PATIENCE: &str = "LB_LAB_PATIENCE";

/// Returns that factor, 1 when nothing is said.
pub fn patience() -> u32 {
    let said = std::env::var(PATIENCE).ok().and_then(|text| text.parse().ok());
    said.filter(|factor| (1..=1000).contains(factor)).unwrap_or(1)
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    state: State,
    guard: Option<Guard>,
    children: Vec<Child>,
    ready_timeout: Duration,
}

impl Lab {
    /// Opens a lab that another process left standing; dropping it leaves it standing.
    pub fn open(name: &str) -> Result<Option<Self>> {
        let state = State::find(name)?;
        let ready_timeout = Options::default().ready_timeout;
        Ok(state.map(|state| Self { state, guard: None, children: Vec::new(), ready_timeout }))
    }

    /// Leaves the lab standing when this process ends; it needs a name to be found again.
    pub fn detach(mut self) -> Result<()> {
        ensure!(self.state.name.is_some(), "a lab without a name cannot be left standing");
        self.state.owner = None;
        self.state.save()?;
        self.guard.take().map_or(Ok(()), Guard::dismiss)
    }

    /// Takes the lab down, which dropping it does too, and says what could not be removed.
    pub fn down(mut self) -> Result<()> {
        let result = self.remove();
        self.guard.take().map_or(Ok(()), Guard::dismiss)?;
        result
    }

    fn remove(&mut self) -> Result<()> {
        let result = tear_down(&self.state.id);
        for mut child in self.children.drain(..) {
            let _ = child.wait();
        }
        result
    }

    /// Returns what is written down about the lab: names, places, processes.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the place of a pod (`NS/POD`), a node, a client, or of the router (`fabric`).
    pub fn place(&self, name: &str) -> Result<Place> {
        self.state.place(name)
    }

    /// Prepares a command that runs in a place: its namespace and cgroup, our programs in `PATH`, `LB_AGENT_SOCKET` set.
    pub fn command(&self, name: &str, program: &str) -> Result<Command> {
        let place = self.place(name)?;
        let mut command = Command::new(program);
        command.env("PATH", binaries::search_path());
        match &place.node {
            Some(node) => command.env("LB_AGENT_SOCKET", self.state.node_dir(node).join("agent.sock")),
            None => command.env_remove("LB_AGENT_SOCKET"),
        };
        if let Some(name) = &self.state.name {
            command.env("LB_LAB", name);
        }
        place.enter(&mut command)?;
        Ok(command)
    }

    /// Runs a command in a place to its end.
    pub fn exec(&self, name: &str, command: &[&str]) -> Result<Output> {
        let (program, arguments) = command.split_first().context("there is no command")?;
        let mut command = self.command(name, program)?;
        command.args(arguments).output().with_context(|| format!("{name}: {program}"))
    }

    /// Runs a closure on a thread of its own inside a place's namespace, for example to ask netlink.
    ///
    /// The thread stays in the cgroup of this process, so socket programs do not see it.
    pub fn in_namespace<T: Send>(&self, name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        netns::within(&self.place(name)?.namespace, work)
    }

    /// Starts the node's agent, with the options that it had before or those given at the start, and waits until it is ready.
    pub fn start_agent(&mut self, node: &str) -> Result<()> {
        let timeout = self.ready_timeout;
        self.launch_agent(node)?.wait_ready(timeout).with_context(|| format!("Node {node}"))
    }

    /// Starts the node's agent with other options, and does not wait.
    pub fn start_agent_with(&mut self, node: &str, options: AgentOptions) -> Result<RunningAgent> {
        self.node_mut(node)?.options = options;
        self.launch_agent(node)
    }

    fn launch_agent(&mut self, node: &str) -> Result<RunningAgent> {
        let state = self.state.node(node)?;
        let running = state.agent.as_ref().is_some_and(|agent| agent.process.is_alive());
        ensure!(!running, "Node {node}: its agent runs already");
        let options = state.options.clone();
        let (agent, child) = RunningAgent::start(&self.state, node, "agent", &options)?;
        self.children.push(child);
        self.node_mut(node)?.agent = Some(agent.clone());
        self.state.save()?;
        Ok(agent)
    }

    /// Starts one more agent on a node, beside the node's own; `name` names its socket and its log.
    pub fn start_additional_agent(&mut self, node: &str, name: &str, options: &AgentOptions) -> Result<RunningAgent> {
        ensure!(name != "agent", "`agent` is the node's own");
        let (agent, child) = RunningAgent::start(&self.state, node, name, options)?;
        self.children.push(child);
        Ok(agent)
    }

    /// Returns the node's own agent.
    pub fn agent(&self, node: &str) -> Result<&RunningAgent> {
        self.state.node(node)?.agent.as_ref().with_context(|| format!("Node {node}: it has no agent"))
    }

    /// Sends the node's agent a signal and waits until it has ended.
    pub fn end_agent(&mut self, node: &str, signal: Signal) -> Result<()> {
        self.agent(node)?.end(signal).with_context(|| format!("Node {node}"))
    }

    /// Writes a file into a node's directory of manifests, whatever it holds; it appears whole.
    pub fn write_manifest(&self, node: &str, file: &str, content: &str) -> Result<()> {
        write_atomically(&self.state.manifests(node), file, content.as_bytes())
    }

    /// Returns the directory from which a node's agent reads its objects.
    pub fn manifests(&self, node: &str) -> PathBuf {
        self.state.manifests(node)
    }

    /// Returns every object that the agents see.
    pub fn objects(&self) -> Result<Vec<Object>> {
        let directory = self.state.objects_dir();
        let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
            .with_context(|| directory.display().to_string())?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.sort();
        let mut objects = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            objects.extend(Object::parse_all(&text).with_context(|| path.display().to_string())?);
        }
        Ok(objects)
    }

    /// Returns the lines that a pod's server wrote, one for each request.
    pub fn server_log(&self, pod: &str) -> Result<Vec<String>> {
        let state = self.state.pods.iter().find(|state| state.pod.full_name() == pod);
        let state = state.with_context(|| format!("there is no pod `{pod}`"))?;
        let text = fs::read_to_string(self.state.server_log(&state.pod)).unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn node_mut(&mut self, name: &str) -> Result<&mut state::NodeState> {
        let found = self.state.nodes.iter_mut().find(|state| state.node.name == name);
        found.with_context(|| format!("there is no node `{name}`"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        if let Err(error) = self.remove() {
            eprintln!("lab: {error:#}");
        }
        let _ = guard.dismiss();
    }
}
