//! The canary: a connect to a reserved address proves that the hooks run, and for whom.
//!
//! A namespace is covered if the hook saw the connect made in it; a pod's processes are covered if their cgroup is the
//! attach point or below it. The second half matters because the canary's own sockets belong to the agent's cgroup.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use lb_ebpf::abi::{
    address::{Address, V4},
    flow::Sighting,
};
use zerocopy::FromBytes as _;

use super::sys;
use crate::maps::raw::RawMap;

/// The port that the canary dials; the address is [`Address::CANARY`].
pub const PORT: u16 = 1;

/// Makes the canary connect in `namespace` and returns the cookie of the socket that did.
pub fn dial(namespace: &File) -> io::Result<u64> {
    sys::in_namespace(namespace, || {
        let socket = sys::datagram_socket(libc::AF_INET)?;
        let cookie = sys::socket_cookie(&socket)?;
        // The hook refuses, or (below 5.18) sends it to a closed port; without a hook it leads nowhere. No datagram
        // is sent in any case.
        drop(connect(socket));
        Ok(cookie)
    })?
}

/// What the hooks saw: cookies of namespaces by the sockets that dialled in them.
pub fn sightings(canary: &RawMap) -> io::Result<BTreeMap<u64, u64>> {
    // Told apart by the socket and not by the time: an old sighting proves nothing.
    let sighted = canary.entries()?.into_iter().filter_map(|(namespace, sighting)| {
        let sighting = Sighting::read_from_bytes(&sighting).ok()?;
        Some((sighting.socket, u64::from_ne_bytes(*namespace.first_chunk()?)))
    });
    Ok(sighted.collect())
}

fn connect(socket: OwnedFd) -> io::Result<()> {
    UdpSocket::from(socket).connect(SocketAddr::from((V4::CANARY, PORT)))
}

/// Where a cgroup directory lies below the root of cgroup v2, as `/proc/PID/cgroup` spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath(PathBuf);

impl CgroupPath {
    /// Finds a directory's place from the mounts of this process.
    pub fn of(directory: &Path) -> io::Result<Option<Self>> {
        let directory = directory.canonicalize()?;
        Ok(place(&fs::read_to_string("/proc/self/mountinfo")?, &directory).map(Self))
    }

    /// Returns the process's cgroup unless it is this one or below it. A process that is gone is nowhere.
    pub fn misses(&self, process: u32) -> Option<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        let path = Path::new(cgroup2(&text)?);
        (!path.starts_with(&self.0)).then(|| path.to_owned())
    }

    /// The depth below the root, which is 0.
    pub fn level(&self) -> u32 {
        self.0.components().count().saturating_sub(1) as u32
    }
}

/// The line of cgroup v2: hierarchy 0, no controllers.
fn cgroup2(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

fn place(mounts: &str, directory: &Path) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        if tail.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = head.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = directory.strip_prefix(point).ok()?;
        Some(Path::new(root).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_table() {
        let mounts = "24 30 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro\n\
                      33 24 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let below = "40 24 0:28 /kubelet /run/cg rw - cgroup2 none rw\n";
        for (name, mounts, directory, want) in [
            ("the root", mounts, "/sys/fs/cgroup/unified", Some("/")),
            ("a child", mounts, "/sys/fs/cgroup/unified/a/b", Some("/a/b")),
            ("no cgroup v2", mounts, "/sys/fs/cgroup/cpu", None),
            ("a mount of a part", below, "/run/cg/pods", Some("/kubelet/pods")),
        ] {
            assert_eq!(place(mounts, Path::new(directory)).as_deref(), want.map(Path::new), "{name}");
        }
    }

    #[test]
    fn the_v2_line_is_found_among_v1() {
        assert_eq!(cgroup2("4:memory:/a\n0::/lab/node\n"), Some("/lab/node"));
        assert_eq!(cgroup2("4:memory:/a\n"), None);
    }

    #[test]
    fn coverage_goes_by_whole_names() {
        let at = CgroupPath("/lab/n1".into());
        for (path, want) in [("/lab/n1", true), ("/lab/n1/pod", true), ("/lab/n10", false), ("/", false)] {
            assert_eq!(Path::new(path).starts_with(&at.0), want, "{path}");
        }
        assert_eq!((at.level(), CgroupPath("/".into()).level()), (2, 0));
    }
}
