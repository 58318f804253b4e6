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
    ///
    /// # Panics
    ///
    /// When the process is not root, or the place cannot be made: a test that cannot run has failed.
    pub fn enter(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this needs root");
        let name = format!("lb-test-{}-{name}", std::process::id());
        let (bpffs, mount) = (std::env::temp_dir().join(&name), cgroup::mount().unwrap());
        fs::create_dir_all(&bpffs).unwrap();
        let mounted = Command::new("mount").args(["-t", "bpf", "lb-test"]).arg(&bpffs).status().unwrap();
        assert!(mounted.success(), "mount bpffs: {mounted}");
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let ground = Self { bpffs, cgroup: mount.join(name), home: mount.join(own) };
        fs::create_dir(&ground.cgroup).unwrap();
        ground.go_in();
        ground
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
    pub fn go_in(&self) {
        move_to(&self.cgroup);
    }

    /// Puts the process back to where it was: no program of the place sees it.
    pub fn go_out(&self) {
        move_to(&self.home);
    }

    /// Moves the calling thread, and those that it will start, to a fresh network namespace in which every address of
    /// 10.0.0.0/8 is local.
    pub fn isolate(&self) {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for arguments in ["link set lo up", "route add local 10.0.0.0/8 dev lo"] {
            let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(status.success(), "ip {arguments}: {status}");
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.go_out();
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

fn move_to(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}
