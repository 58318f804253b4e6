//! How the agent and the kernel are.

use serde::{Deserialize, Serialize};

use crate::{datapath::probe, problem::Problem};

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
    pub problems: Vec<ProblemRow>,
}

/// Something that is wrong, for as long as it is: [`Problem`] as it travels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProblemRow {
    /// What sort of thing it is, one word in CamelCase.
    pub kind: String,
    /// The object, as `KIND NAMESPACE/NAME`, or the file, map or device.
    pub object: String,
    /// The field by its path from the object's root; empty if it is about the whole.
    pub field: String,
    /// What is wrong with it, and what is done about it, in one line.
    pub message: String,
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
    /// The agent cannot start without it.
    pub required: bool,
    /// What needs it.
    pub needed_for: String,
    /// What happens without it.
    pub without_it: String,
}

impl Canary {
    /// Sorts the pods, as every list is.
    pub fn sorted(mut self) -> Self {
        self.uncovered.sort();
        self
    }
}

impl Status {
    /// True if the agent serves this node: it has synced, it is ready, and the canary is well. A problem is about one
    /// object, and does not make it false.
    pub const fn well(&self) -> bool {
        self.synced && self.ready && self.canary.ok
    }
}

impl Probe {
    /// Asks this kernel; takes the agent's own privileges.
    pub fn of_this_kernel() -> Self {
        Self { kernel: probe::kernel_release(), features: probe::features().into_iter().map(Feature::from).collect() }
    }

    /// True if the agent can start on this kernel.
    pub fn usable(&self) -> bool {
        self.features.iter().all(|feature| feature.available || !feature.required)
    }
}

impl From<probe::Feature> for Feature {
    fn from(feature: probe::Feature) -> Self {
        let probe::Feature { name, available, required, needed_for, without_it } = feature;
        Self { name: name.into(), available, required, needed_for: needed_for.into(), without_it: without_it.into() }
    }
}

impl From<&Problem> for ProblemRow {
    fn from(problem: &Problem) -> Self {
        let Problem { kind, object, field, message } = problem.clone();
        Self { kind: kind.to_owned(), object, field, message }
    }
}
