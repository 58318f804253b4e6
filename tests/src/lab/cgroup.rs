//! Control groups of the lab's own, below the mount of cgroup v2.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::process::Process;

/// Finds where cgroup v2 is mounted; beside cgroup v1 that is not /sys/fs/cgroup itself.
pub fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("/proc/mounts")?;
    let cgroup2 =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&"cgroup2"));
    match cgroup2 {
        Some(fields) => Ok(PathBuf::from(fields[1])),
        None => bail!("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

/// Makes a cgroup, its parents included.
pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cgroup {}", path.display()))
}

/// Returns the ids of the processes in a cgroup and below it; a cgroup that is gone holds none.
pub fn processes(path: &Path) -> Vec<u32> {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    pids.extend(children(path).iter().flat_map(|child| processes(child)));
    pids
}

/// Kills what runs in a cgroup and below, and removes it; fine when there is none.
///
/// The cgroup itself says which processes are meant, so a reused process id cannot be hit.
pub fn remove(path: &Path, timeout: Duration) -> Result<()> {
    let start = Instant::now();
    while path.exists() {
        let pids = processes(path);
        if pids.contains(&std::process::id()) {
            bail!("cgroup {}: the calling process is inside it", path.display());
        }
        kill(path, &pids)?;
        match remove_tree(path) {
            Ok(()) => return Ok(()),
            Err(_) if start.elapsed() < timeout => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(error).with_context(|| format!("cgroup {}", path.display())),
        }
    }
    Ok(())
}

/// Kills by `cgroup.kill` (from kernel 5.14 on), else one by one after looking again at each one's cgroup.
fn kill(path: &Path, pids: &[u32]) -> Result<()> {
    if pids.is_empty() || fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return Ok(());
    }
    for pid in pids {
        let Some(process) = Process::of(*pid) else { continue };
        if processes(path).contains(pid) {
            process.signal(Signal::SIGKILL)?;
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for child in children(path) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
