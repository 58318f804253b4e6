//! A place for one process that loads the programs itself: a bpffs, a cgroup with the process in it, a namespace.
//!
//! For tests and measurements of the programs alone; what involves agents and pods belongs to the [`lab`](crate::lab).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

use crate::lab::cgroup;

/// The place; leaving it (drop) removes it.
#[derive(Debug)]
pub struct Ground {
    bpffs: PathBuf,
    cgroup: PathBuf,
    home: PathBuf,
}

impl Ground {
    /// Makes the place and enters its cgroup. `name` tells places of one process apart.
    pub fn enter(name: &str) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "this needs root");
        let name = format!("lb-test-{}-{name}", std::process::id());
        let (bpffs, mount) = (std::env::temp_dir().join(&name), cgroup::mount()?);
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("/proc/self/cgroup: no cgroup v2")?;
        let ground = Self { bpffs, cgroup: mount.join(name), home: mount.join(own) };
        // From here on, what is made is removed by dropping.
        fs::create_dir_all(&ground.bpffs)?;
        let mounted = Command::new("mount").args(["-t", "bpf", "lb-test"]).arg(&ground.bpffs).status()?;
        ensure!(mounted.success(), "mount bpffs: {mounted}");
        fs::create_dir(&ground.cgroup).with_context(|| format!("cgroup {}", ground.cgroup.display()))?;
        ground.go_in()?;
        Ok(ground)
    }

    /// A directory on the bpffs.
    pub fn bpf_dir(&self) -> PathBuf {
        self.bpffs.join("lb")
    }

    /// The cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Puts the process into the cgroup.
    pub fn go_in(&self) -> Result<()> {
        move_to(&self.cgroup)
    }

    /// Puts the process back to where it was: no program of the place sees it.
    pub fn go_out(&self) -> Result<()> {
        move_to(&self.home)
    }

    /// Moves the calling thread, and those that it will start, to a fresh network namespace in which every address of
    /// 10.0.0.0/8 is local.
    pub fn isolate(&self) -> Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        for arguments in ["link set lo up", "route add local 10.0.0.0/8 dev lo"] {
            let status = Command::new("ip").args(arguments.split(' ')).status()?;
            ensure!(status.success(), "ip {arguments}: {status}");
        }
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.go_out();
        // The process is counted out a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        drop(Command::new("umount").arg(&self.bpffs).status());
        drop(fs::remove_dir(&self.bpffs));
    }
}

fn move_to(cgroup: &Path) -> Result<()> {
    let path = cgroup.join("cgroup.procs");
    fs::write(&path, std::process::id().to_string()).with_context(|| path.display().to_string())
}
