//! Pins: what stays in the kernel when the agent does not run.
//!
//! ```text
//! BPF_DIR/v1/maps/NAME     maps; a restart reads them back
//! BPF_DIR/v1/links/NAME    links; a restart or an upgrade swaps the program behind them
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use lb_ebpf::abi;
use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs},
};

use crate::maps::raw::{self, Mapping, RawMap};

/// Says why a directory cannot hold pins, or a cgroup programs.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The path is not on a bpffs.
    #[error(
        "--bpf-dir {}: not on a BPF file system; mount one on the host: mount -t bpf bpf /sys/fs/bpf", path.display()
    )]
    NotBpffs {
        /// The path.
        path: PathBuf,
    },
    /// The path is not on cgroup v2.
    #[error(
        "--cgroup {}: not a cgroup v2 directory (cgroup v1 has no hooks for connect); the mounts of type cgroup2 \
         in /proc/mounts name the right place", path.display()
    )]
    NotCgroup2 {
        /// The path.
        path: PathBuf,
    },
    /// The cgroup cannot be opened.
    #[error("--cgroup {}: {source}", path.display())]
    Cgroup {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another agent holds the pins.
    #[error("--bpf-dir {}: another lb-agent is running on these pins", path.display())]
    Held {
        /// The path.
        path: PathBuf,
    },
    /// Something in the directory cannot be made, read or removed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The pins of one agent, held against a second one until dropped.
#[derive(Debug)]
pub struct Pins {
    dir: PathBuf,
    root: PathBuf,
    _lock: Flock<File>,
}

impl Pins {
    /// Takes hold of the pins below `dir`, which must be on a bpffs; makes the directories that are missing.
    pub fn hold(dir: &Path) -> Result<Self, PinError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| PinError::Io { path, source }
        };
        // The directory itself may be missing: then its parent must be on the bpffs.
        let mut existing = dir;
        while !existing.exists() {
            existing = existing.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("/"));
        }
        let found =
            statfs(existing).map_err(|errno| PinError::Io { path: existing.to_owned(), source: errno.into() })?;
        if found.filesystem_type() != BPF_FS_MAGIC {
            return Err(PinError::NotBpffs { path: dir.to_owned() });
        }
        fs::create_dir_all(dir).map_err(io(dir))?;
        let file = File::open(dir).map_err(io(dir))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == nix::errno::Errno::EWOULDBLOCK {
                PinError::Held { path: dir.to_owned() }
            } else {
                PinError::Io { path: dir.to_owned(), source: errno.into() }
            }
        })?;
        let root = dir.join(format!("v{}", abi::VERSION));
        let pins = Self { dir: dir.to_owned(), root, _lock: lock };
        for path in [pins.maps(), pins.links()] {
            fs::create_dir_all(&path).map_err(io(&path))?;
        }
        Ok(pins)
    }

    /// Where the maps are pinned.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Where the links are pinned.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Removes every pin, of other versions too: programs detach and maps go, unless somebody else holds them. Returns
    /// how many.
    pub fn remove(self) -> Result<usize, PinError> {
        let mut removed = 0;
        for root in entries(&self.dir)?.into_iter().filter(|path| is_version(path)) {
            // Links first: no program runs on while its maps go.
            for dir in [root.join("links"), root.join("maps")].into_iter().filter(|dir| dir.exists()) {
                for path in entries(&dir)? {
                    fs::remove_file(&path).map_err(|source| PinError::Io { path, source })?;
                    removed += 1;
                }
                fs::remove_dir(&dir).map_err(|source| PinError::Io { path: dir, source })?;
            }
            fs::remove_dir(&root).map_err(|source| PinError::Io { path: root, source })?;
        }
        // It stays where it is a mount of its own, or holds something else.
        drop(fs::remove_dir(&self.dir));
        Ok(removed)
    }
}

/// Opens a cgroup v2 directory.
pub fn open_cgroup(path: &Path) -> Result<File, PinError> {
    let io = |source| PinError::Cgroup { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    match nix::sys::statfs::fstatfs(&file) {
        Ok(found) if found.filesystem_type() == CGROUP2_SUPER_MAGIC => Ok(file),
        Ok(_) => Err(PinError::NotCgroup2 { path: path.to_owned() }),
        Err(errno) => Err(io(errno.into())),
    }
}

/// Replaces pinned maps whose capacity differs from the configured one by copies of the new capacity. Programs that
/// run go on with the old maps until they are swapped.
pub(super) fn resize(maps: &Path, sizes: &BTreeMap<String, u32>) -> Result<(), PinError> {
    for (name, size) in sizes {
        let path = maps.join(name);
        let io = |source| PinError::Io { path: path.clone(), source };
        if !path.exists() {
            continue;
        }
        let old = RawMap::open(&path).map_err(io)?;
        // An arena that an earlier run has grown stays: the configuration names its first size.
        if old.shape().max_entries == *size || (name == abi::maps::ARENA && old.shape().max_entries > *size) {
            continue;
        }
        let new = raw::create_like(&old, name, *size).map_err(io)?;
        if name == abi::maps::ARENA {
            Mapping::new(&old).and_then(|from| Mapping::new(&new)?.copy_from(&from)).map_err(io)?;
        } else {
            copy(&old, &new).map_err(io)?;
        }
        let fresh = maps.join(format!("{name}_new"));
        drop(fs::remove_file(&fresh));
        raw::pin(new.fd(), &fresh).map_err(io)?;
        fs::rename(&fresh, &path).map_err(io)?;
        tracing::info!(map = name.as_str(), from = old.shape().max_entries, to = size, "map resized");
    }
    Ok(())
}

/// Copies what fits; what does not is reported by the next full comparison, which names the objects.
fn copy(old: &RawMap, new: &RawMap) -> io::Result<()> {
    for (key, value) in old.entries()? {
        match new.set(&key, &value) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)) => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// `v` and a number: the directory of one layout of the maps.
fn is_version(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('v'));
    name.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, PinError> {
    let io = |source| PinError::Io { path: dir.to_owned(), source };
    fs::read_dir(dir).map_err(io)?.map(|entry| entry.map(|entry| entry.path()).map_err(io)).collect()
}
