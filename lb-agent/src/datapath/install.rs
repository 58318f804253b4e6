//! What is in the kernel: the loaded programs, their pins and their cgroup, and how they are exchanged while they run.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use lb_ebpf::abi::maps::ARENA;

use super::{
    attach::{self, AttachError, Attached},
    load::{LoadError, LoadOptions, Loaded, load},
    pin::{self, PinError, Pins},
    probe,
};
use crate::maps::{kernel::KernelStore, raw::RawMap};

/// Says why the datapath cannot be put in place.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The pins or the cgroup cannot be used.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The programs cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The programs cannot be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The maps cannot be opened.
    #[error("the pinned maps cannot be opened: {source}")]
    Maps {
        /// The system's error.
        #[from]
        source: io::Error,
    },
}

/// The datapath of one agent.
#[derive(Debug)]
pub struct Installed {
    pins: Pins,
    path: PathBuf,
    cgroup: File,
    sizes: BTreeMap<String, u32>,
    loaded: Loaded,
}

impl Installed {
    /// Takes hold of the pins, opens or makes the maps and loads the programs. Attaches nothing yet: programs of an
    /// earlier run go on.
    pub fn load(bpf_dir: &Path, cgroup: &Path, sizes: BTreeMap<String, u32>) -> Result<Self, InstallError> {
        let path = cgroup.to_owned();
        let cgroup = pin::open_cgroup(cgroup)?;
        let pins = Pins::hold(bpf_dir)?;
        let loaded = load_sized(&pins, &sizes)?;
        Ok(Self { pins, path, cgroup, sizes, loaded })
    }

    /// Puts the programs behind the hooks; those of an earlier run are swapped atomically.
    pub fn attach(&self) -> Result<Attached, InstallError> {
        Ok(attach::attach(&self.loaded, &self.cgroup, &self.pins.links())?)
    }

    /// Attaches again what somebody else has detached, and returns how many hooks that were. A cgroup that was removed
    /// and made again under its name is another one.
    pub fn mend(&mut self) -> Result<usize, InstallError> {
        self.cgroup = pin::open_cgroup(&self.path)?;
        if attach::is_attached(&self.cgroup, &self.pins.links()) {
            return Ok(0);
        }
        Ok(self.attach()?.made)
    }

    /// The kernel's number of a hook's program.
    pub fn program_id(&self, hook: &str) -> Option<u32> {
        self.loaded.programs.get(hook).map(|program| program.id)
    }

    /// The maps that the agent keeps.
    pub fn store(&self) -> Result<KernelStore, InstallError> {
        Ok(KernelStore::open(&self.pins.maps())?)
    }

    /// All maps, by descriptors of the caller's own.
    pub fn maps(&self) -> Result<BTreeMap<&'static str, RawMap>, InstallError> {
        let maps = self.loaded.maps.iter().map(|(name, map)| Ok((*name, map.try_clone()?)));
        Ok(maps.collect::<io::Result<_>>()?)
    }

    /// Makes the arena larger: a new map with the old lines in it, programs that use it, and one swap. Every word
    /// means the same in both, so it does not matter when a program sees which. The caller writes nothing meanwhile,
    /// and opens the store anew.
    pub fn grow_arena(&mut self, lines: u32) -> Result<(), InstallError> {
        self.sizes.insert(ARENA.to_owned(), lines);
        self.loaded = load_sized(&self.pins, &self.sizes)?;
        self.attach()?;
        Ok(())
    }
}

fn load_sized(pins: &Pins, sizes: &BTreeMap<String, u32>) -> Result<Loaded, LoadError> {
    load(&LoadOptions { maps: &pins.maps(), sizes, has_set_retval: probe::has_set_retval() })
}
