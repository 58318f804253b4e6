//! A place is where a process of the lab runs: a network namespace and a cgroup.

use std::{
    fs::{File, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use nix::{
    sched::{CloneFlags, setns},
    unistd::{setsid, write},
};

/// Where a process of the lab runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file of the network namespace.
    pub namespace: PathBuf,
    /// The directory of the cgroup.
    pub cgroup: PathBuf,
    /// The node that the place belongs to; none for clients and the fabric.
    pub node: Option<String>,
}

impl Place {
    /// Makes a command start here.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        let path = self.cgroup.join("cgroup.procs");
        let procs = OpenOptions::new().write(true).open(&path).with_context(|| path.display().to_string())?;
        let join = move || write(&procs, b"0").map(drop).map_err(Into::into);
        // SAFETY: between fork and exec the closure only calls write(2), on a descriptor opened before.
        #[expect(unsafe_code, reason = "a process enters its cgroup after fork and before exec")]
        unsafe {
            command.pre_exec(join)
        };
        enter_namespace(command, &self.namespace)
    }
}

/// Makes a command start in a network namespace, and in the caller's cgroup.
pub fn enter_namespace(command: &mut Command, namespace: &Path) -> Result<()> {
    let namespace = File::open(namespace).with_context(|| format!("namespace {}", namespace.display()))?;
    let enter = move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(Into::into);
    // SAFETY: between fork and exec the closure only calls setns(2), on a descriptor opened before.
    #[expect(unsafe_code, reason = "a process enters its namespace after fork and before exec")]
    unsafe {
        command.pre_exec(enter)
    };
    Ok(())
}

/// Makes a command start in a session of its own, so that a signal from the terminal passes it by.
pub fn detach(command: &mut Command) {
    // SAFETY: between fork and exec the closure only calls setsid(2).
    #[expect(unsafe_code, reason = "a process leaves the terminal after fork and before exec")]
    unsafe {
        command.pre_exec(|| setsid().map(drop).map_err(Into::into))
    };
}
