//! What is written down about a lab below `/run/lb-lab`, so that another process can enter it, change it and take it down.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    agent::{AgentOptions, Proxy, RunningAgent},
    cgroup, netns,
    place::Place,
    process::Process,
    topology::{Client, Node, Pod, Route},
};

/// Below this directory each lab has one of its own.
pub const RUN_DIR: &str = "/run/lb-lab";
/// What every name starts with.
pub const PREFIX: &str = "lb-lab";
/// The namespace of the router between nodes and clients.
pub const FABRIC: &str = "fabric";

/// One lab, as written in `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// `lb-lab-PID-N`: the prefix of every name, PID being the process that brought it up.
    pub id: String,
    /// The name that a command finds it by; none for a lab that lives and dies with its process.
    pub name: Option<String>,
    /// The process whose end is the lab's end; none once it stands on its own.
    pub owner: Option<Process>,
    /// What carries Services.
    pub proxy: Proxy,
    /// The lab's directory in cgroup v2.
    pub cgroup: PathBuf,
    /// The nodes.
    pub nodes: Vec<NodeState>,
    /// The pods.
    pub pods: Vec<PodState>,
    /// The clients.
    pub clients: Vec<ClientState>,
    /// The router's additional routes.
    pub routes: Vec<Route>,
    /// The number of the next pod's device.
    pub next_device: u32,
}

/// A node that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeState {
    /// The node.
    pub node: Node,
    /// The router's device to it.
    pub device: String,
    /// How its agent is started.
    pub options: AgentOptions,
    /// Its agent, when one was started.
    pub agent: Option<RunningAgent>,
}

/// A pod that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodState {
    /// The pod.
    pub pod: Pod,
    /// Its node's device to it; none with `hostNetwork`.
    pub device: Option<String>,
    /// Its server, when it has ports.
    pub server: Option<Process>,
}

/// A client that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientState {
    /// The client.
    pub client: Client,
    /// The router's device to it.
    pub device: String,
}

impl State {
    /// Makes the directory of a new lab, of a name that no other has.
    pub fn create(name: Option<String>, proxy: Proxy) -> Result<Self> {
        let mount = cgroup::mount()?;
        for number in 0.. {
            let id = format!("{PREFIX}-{}-{number}", std::process::id());
            fs::create_dir_all(RUN_DIR).context(RUN_DIR)?;
            match DirBuilder::new().mode(0o755).create(Path::new(RUN_DIR).join(&id)) {
                Ok(()) => {
                    let state = Self {
                        cgroup: mount.join(&id),
                        id,
                        name,
                        owner: Some(Process::this()),
                        proxy,
                        nodes: Vec::new(),
                        pods: Vec::new(),
                        clients: Vec::new(),
                        routes: Vec::new(),
                        next_device: 0,
                    };
                    state.save()?;
                    return Ok(state);
                }
                // NotFound: the last lab of this machine went down in between.
                Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
                Err(error) => return Err(error).with_context(|| format!("{RUN_DIR}/{id}")),
            }
        }
        unreachable!("the range has no end")
    }

    /// Reads a lab's state by its id.
    pub fn load(id: &str) -> Result<Self> {
        read(id)
    }

    /// Finds the lab of that name.
    pub fn find(name: &str) -> Result<Option<Self>> {
        match ids_of(name).as_slice() {
            [] => Ok(None),
            [id] => Self::load(id).map(Some),
            ids => bail!("there is more than one lab of the name {name}: {}", ids.join(", ")),
        }
    }

    /// Writes the state, whole or not at all.
    pub fn save(&self) -> Result<()> {
        write_by_way_of(&self.dir(), &self.dir(), "state.json", serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Returns the lab's own directory.
    pub fn dir(&self) -> PathBuf {
        Path::new(RUN_DIR).join(&self.id)
    }

    /// Returns the directory of a node: `agent.sock`, `agent.log`, `manifests`, `state` and the bpffs `bpf`.
    pub fn node_dir(&self, node: &str) -> PathBuf {
        self.dir().join("nodes").join(node)
    }

    /// Returns the directory that a node's agent reads its objects from.
    pub fn manifests(&self, node: &str) -> PathBuf {
        self.node_dir(node).join("manifests")
    }

    /// Returns the lab's own copy of every object.
    pub fn objects_dir(&self) -> PathBuf {
        self.dir().join("objects")
    }

    /// Returns where a pod's server writes a line for each request.
    pub fn server_log(&self, pod: &Pod) -> PathBuf {
        self.dir().join("logs").join(format!("{}_{}.log", pod.namespace, pod.name))
    }

    /// Returns the name of the namespace of a node, a client or the fabric, without the lab's prefix as `kind`-`name`.
    pub fn namespace(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.id)
    }

    /// Returns the node of that name.
    pub fn node(&self, name: &str) -> Result<&NodeState> {
        let found = self.nodes.iter().find(|state| state.node.name == name);
        found.with_context(|| format!("there is no node `{name}`"))
    }

    /// Returns where a node's processes run.
    pub fn node_place(&self, name: &str) -> Place {
        Place {
            namespace: netns::path(&self.namespace(&format!("node-{name}"))),
            cgroup: self.cgroup.join(format!("node-{name}")),
            node: Some(name.to_owned()),
        }
    }

    /// Returns where a pod's processes run.
    pub fn pod_place(&self, pod: &Pod) -> Place {
        let node = self.node_place(&pod.node);
        let name = format!("pod-{}_{}", pod.namespace, pod.name);
        let namespace = if pod.host_network { node.namespace } else { netns::path(&self.namespace(&name)) };
        Place { namespace, cgroup: node.cgroup.join(name), node: node.node }
    }

    /// Returns where a client's processes run.
    pub fn client_place(&self, name: &str) -> Place {
        let suffix = format!("client-{name}");
        Place { namespace: netns::path(&self.namespace(&suffix)), cgroup: self.cgroup.join(suffix), node: None }
    }

    /// Returns where a process beside the router runs.
    pub fn fabric_place(&self) -> Place {
        Place { namespace: netns::path(&self.namespace(FABRIC)), cgroup: self.cgroup.join(FABRIC), node: None }
    }

    /// Returns the place of a name as commands take it: `NS/POD`, a node, a client, or `fabric`.
    pub fn place(&self, name: &str) -> Result<Place> {
        if let Some(state) = self.pods.iter().find(|state| state.pod.full_name() == name) {
            return Ok(self.pod_place(&state.pod));
        }
        if self.nodes.iter().any(|state| state.node.name == name) {
            return Ok(self.node_place(name));
        }
        if self.clients.iter().any(|state| state.client.name == name) {
            return Ok(self.client_place(name));
        }
        if name == FABRIC {
            return Ok(self.fabric_place());
        }
        bail!("there is no pod, node or client `{name}` (there are: {})", self.names().join(", "))
    }

    /// Returns every name that [`Self::place`] takes.
    pub fn names(&self) -> Vec<String> {
        let nodes = self.nodes.iter().map(|state| state.node.name.clone());
        let pods = self.pods.iter().map(|state| state.pod.full_name());
        let clients = self.clients.iter().map(|state| state.client.name.clone());
        nodes.chain(pods).chain(clients).collect()
    }
}

/// The part of a lab's state that decides about its removal, and that each version of this program writes alike.
#[derive(Clone, Debug, Deserialize)]
pub struct Claim {
    /// As in [`State`].
    pub name: Option<String>,
    /// As in [`State`].
    pub owner: Option<Process>,
}

impl Claim {
    /// Reads who claims a lab.
    pub fn load(id: &str) -> Result<Self> {
        read(id)
    }
}

fn read<T: serde::de::DeserializeOwned>(id: &str) -> Result<T> {
    let path = Path::new(RUN_DIR).join(id).join("state.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Returns the ids of the labs of that name; more than one only if two were brought up at the same moment.
pub fn ids_of(name: &str) -> Vec<String> {
    let named = |id: &String| Claim::load(id).is_ok_and(|claim| claim.name.as_deref() == Some(name));
    all().into_iter().filter(named).collect()
}

/// Returns the ids of all labs of this machine.
pub fn all() -> Vec<String> {
    let Ok(entries) = fs::read_dir(RUN_DIR) else { return Vec::new() };
    let mut ids: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ids.retain(|id| id.starts_with(PREFIX));
    ids.sort();
    ids
}

/// Writes a file so that whoever watches the directory sees it appear whole: beside the directory, then renamed into it.
pub fn write_atomically(directory: &Path, name: &str, content: &[u8]) -> Result<()> {
    let parent = directory.parent().expect("the directory is below that of the lab");
    write_by_way_of(parent, directory, name, content)
}

fn write_by_way_of(other: &Path, directory: &Path, name: &str, content: &[u8]) -> Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    // Threads of one process write side by side, and so do commands on one lab.
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = other.join(format!(".{name}.{}.{number}", std::process::id()));
    let path = directory.join(name);
    fs::write(&temporary, content).with_context(|| temporary.display().to_string())?;
    fs::rename(&temporary, &path).with_context(|| path.display().to_string())
}
