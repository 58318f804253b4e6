//! How the agent and the kernel are.

use serde::{Deserialize, Serialize};

use crate::problem;

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// Every list of the source has been read.
    pub synced: bool,
    /// What was read is in the maps, and the programs are attached.
    pub ready: bool,
    /// What the last canary found.
    pub canary: Canary,
    /// How full the maps are, sorted by name.
    pub maps: Vec<MapUse>,
    /// What is wrong, sorted.
    pub problems: Vec<Problem>,
}

/// What the last canary found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// The hooks work, and cover the processes of every pod found.
    pub ok: bool,
    /// When it ran, in seconds since 1970; 0: it has not.
    pub last_unix: u64,
    /// Pods that the hooks do not cover, as `NS/NAME`, sorted.
    pub uncovered: Vec<String>,
}

/// One refusal or fault: an object that is not served, a map that is full, a port that is taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// What sort of thing it is, one word in CamelCase.
    pub kind: String,
    /// The object.
    pub object: String,
    /// The field at fault, as the object writes it (`spec.ports[0].port`); empty where there is none.
    pub field: String,
    /// What is wrong with it, and what follows, in one line.
    pub message: String,
}

impl From<&problem::Problem> for Problem {
    fn from(problem: &problem::Problem) -> Self {
        let problem::Problem { kind, object, field, message } = problem.clone();
        Self { kind: kind.to_owned(), object, field, message }
    }
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MapUse {
    /// The map's name, as it is pinned.
    pub name: String,
    /// Entries taken (lines, for the arena).
    pub used: u64,
    /// Entries that it can take.
    pub capacity: u64,
}

/// What this kernel can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Everything that the agent asks of it.
    pub features: Vec<Feature>,
}

/// One thing that the agent asks of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// The kernel has it.
    pub available: bool,
    /// What needs it.
    pub needed_for: String,
    /// What happens without it.
    pub without_it: String,
}

impl Status {
    /// True if the agent serves this node: it has synced, it is ready, and the canary is well. A problem is about one
    /// object, and does not make it false.
    pub const fn well(&self) -> bool {
        self.synced && self.ready && self.canary.ok
    }
}
