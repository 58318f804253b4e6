//! Network namespaces with a name, where `ip netns` and CNI plugins keep theirs.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

/// Where named namespaces are, as `ip netns` has it.
pub const DIR: &str = "/run/netns";

/// What a namespace does with packets that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nodes and the fabric forward.
    Router,
    /// Pods and clients do not.
    Host,
}

/// Returns the file that stands for a namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Makes a namespace with the settings of its role; its loopback is still down.
pub fn create(name: &str, role: Role) -> Result<()> {
    let path = path(name);
    File::create_new(&path).with_context(|| format!("namespace {name}"))?;
    let made = on_fresh_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
        let none: Option<&str> = None;
        mount(Some("/proc/thread-self/ns/net"), &path, none, MsFlags::MS_BIND, none).context("bind mount")?;
        configure(role)
    });
    made.with_context(|| format!("namespace {name}"))
}

/// Runs a closure on a thread of its own inside the namespace.
///
/// Only the thread's network namespace changes; its cgroup stays that of the process, since a thread cannot move alone.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = File::open(path).with_context(|| format!("namespace {}", path.display()))?;
    on_fresh_thread(|| {
        setns(&namespace, CloneFlags::CLONE_NEWNET).with_context(|| format!("namespace {}", path.display()))?;
        work()
    })
}

/// Returns the names of the namespaces whose name starts so.
pub fn list(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIR) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Removes a namespace; fine when there is none.
pub fn remove(name: &str) -> Result<()> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: the file is there and nothing is mounted on it, as after a start that was cut short.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => bail!("namespace {name}: umount: {errno}"),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("namespace {name}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the directory of names a shared mount point of its own, as `ip netns add` does at its first use.
///
/// Were that left to a later `ip netns add`, it would cover our names by a copy, and removing one would free half of it.
pub fn prepare_dir() -> Result<()> {
    fs::create_dir_all(DIR).context(DIR)?;
    let dir = File::open(DIR).context(DIR)?;
    let _lock = Flock::lock(dir, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context(DIR)?;
    let none: Option<&str> = None;
    let share = || mount(none, DIR, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match share() {
        Ok(()) => Ok(()),
        Err(Errno::EINVAL) => {
            mount(Some(DIR), DIR, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).context(DIR)?;
            share().context(DIR)
        }
        Err(errno) => Err(errno).context(DIR),
    }
}

/// Writes a setting of the calling thread's namespace, `net/…`; fine when this kernel has no such setting.
pub fn set(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    match fs::write(&path, value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| path.display().to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn configure(role: Role) -> Result<()> {
    let forward = if role == Role::Router { "1" } else { "0" };
    // First, because it resets other settings (Documentation/networking/ip-sysctl.rst).
    set("net/ipv4/ip_forward", forward)?;
    set("net/ipv6/conf/all/forwarding", forward)?;
    set("net/ipv6/conf/default/forwarding", forward)?;
    for scope in ["all", "default"] {
        set(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        set(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
        set(&format!("net/ipv4/conf/{scope}/accept_redirects"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/accept_redirects"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/dad_transmits"), "0")?;
    }
    // Every refused datagram is answered, so that a hundred in a row have one outcome.
    set("net/ipv4/icmp_ratelimit", "0")?;
    set("net/ipv4/icmp_msgs_per_sec", "100000")?;
    set("net/ipv4/icmp_msgs_burst", "100000")?;
    set("net/ipv6/icmp/ratelimit", "0")
}

fn on_fresh_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
