//! Removal of a lab, whole or half-made, by its prefix alone: nothing needs to have been written down.

use std::{
    fs::{self, File},
    io::{self, BufRead, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, umount2},
};

use super::{
    binaries, cgroup, netns,
    place::detach,
    process::Process,
    state::{self, Claim, PREFIX, RUN_DIR},
};

const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes processes, namespaces, mounts, cgroups and files of one lab; fine when there is none.
pub fn tear_down(id: &str) -> Result<()> {
    assert!(id.starts_with(PREFIX), "only what carries the lab's prefix is removed");
    let directory = Path::new(RUN_DIR).join(id);
    // The guard and the lab's own process may both be at it; whoever comes second finds nothing left.
    let lock = File::open(&directory).ok().map(|file| Flock::lock(file, FlockArg::LockExclusive));
    let _lock = lock.transpose().map_err(|(_, errno)| errno).with_context(|| directory.display().to_string())?;
    let mut errors: Vec<anyhow::Error> = Vec::new();
    let mut note = |result: Result<()>| errors.extend(result.err());
    note(cgroup::mount().and_then(|mount| cgroup::remove(&mount.join(id), KILL_TIMEOUT)));
    for name in netns::list(&format!("{id}-")) {
        note(netns::remove(&name));
    }
    note(unmount_below(&directory));
    note(match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| directory.display().to_string())
        }
        Ok(()) | Err(_) => Ok(()),
    });
    // Only the last lab's end leaves it empty.
    let _ = fs::remove_dir(RUN_DIR);
    match errors.into_iter().next() {
        Some(error) => Err(error.context(format!("lab {id} is not down"))),
        None => Ok(()),
    }
}

/// Removes every lab whose process ended without doing so.
pub fn sweep() -> Result<()> {
    for id in state::all() {
        if is_orphan(&id) {
            tear_down(&id)?;
        }
    }
    Ok(())
}

fn is_orphan(id: &str) -> bool {
    match Claim::load(id) {
        Ok(claim) => claim.owner.is_some_and(|owner| !owner.is_alive()),
        Err(_) => {
            let pid = id.trim_start_matches(PREFIX).trim_start_matches('-').split('-').next();
            pid.and_then(|pid| pid.parse().ok()).and_then(Process::of).is_none()
        }
    }
}

fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(directory)) {
        umount2(point, MntFlags::MNT_DETACH).with_context(|| format!("umount {point}"))?;
    }
    Ok(())
}

/// Returns everything of this machine that carries the id of a lab: nothing once it is down.
pub fn traces(id: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let (prefix, inside) = (format!("{id}-"), format!("{id}/"));
    let named = |text: &str| text.contains(&prefix) || text.contains(&inside) || text.ends_with(id);
    for directory in [netns::DIR, RUN_DIR, "/sys/class/net"] {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        let names = entries.flatten().map(|entry| entry.path().display().to_string());
        found.extend(names.filter(|name| named(name)));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let mounts = mounts.lines().filter(|line| line.split(' ').nth(1).is_some_and(named));
    found.extend(mounts.map(|line| format!("mount {line}")));
    let cgroup = cgroup::mount()?.join(id);
    found.extend(cgroup.exists().then(|| format!("cgroup {}", cgroup.display())));
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        let pid = entry.file_name().to_string_lossy().parse().ok();
        // One that ended and waits for its parent, maybe the machine's init, is no process any more.
        if !pid.and_then(Process::of).is_some_and(|process| process.is_alive()) {
            continue;
        }
        let line =
            String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).unwrap_or_default()).replace('\0', " ");
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if line.contains(&format!("guard {id}")) || line.contains(&prefix) || cgroups.lines().any(named) {
            found.push(format!("process {}: {line}", entry.file_name().display()));
        }
    }
    Ok(found)
}

/// A process that takes a lab down when the one that holds this value ends, however it ends.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard of a lab.
    pub fn start(id: &str) -> Result<Self> {
        let mut command = Command::new(binaries::find("lb-lab")?);
        command.args(["guard", id]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        detach(&mut command);
        let mut child = command.spawn().context("lb-lab guard")?;
        Ok(Self { pipe: child.stdin.take(), child })
    }

    /// Sends the guard away: the lab is to outlive this process, or is down.
    pub fn dismiss(mut self) -> Result<()> {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.write_all(b"dismissed\n").context("lb-lab guard")?;
        }
        self.child.wait().context("lb-lab guard")?;
        Ok(())
    }
}

/// Is the guard: waits for the end of standard input, and takes the lab down unless it was sent away before.
pub fn guard(id: &str) -> Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("standard input")?;
    if line.is_empty() {
        return tear_down(id);
    }
    if line != "dismissed\n" {
        bail!("`{}` is no word for a guard", line.trim());
    }
    Ok(())
}
