//! One look at the pods of this node: who they are, whether the hooks see them, where their sockets live.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::IpAddr,
    path::Path,
};

use super::{
    canary::{self, CgroupPath},
    namespaces::{self, Host, Namespace},
};
use crate::{maps::raw::RawMap, model::Name};

/// Looks at pods, and remembers what only a hook can tell.
#[derive(Debug)]
pub struct Pods {
    host: Host,
    canary: RawMap,
    attached: Option<CgroupPath>,
    /// Cookies by the inode of the namespace, for kernels that do not tell them (below 5.14).
    cookies: BTreeMap<u64, u64>,
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Look {
    /// Cookie of the host's namespace; 0 while it is not known.
    pub host: u64,
    /// The hooks saw the canary of the host's namespace and of every pod's.
    pub hooks_work: bool,
    /// Pods that the hooks do not cover: their canary was not seen, or a process of theirs lies outside the cgroup.
    pub uncovered: Vec<String>,
    /// Addresses by the cookie of the pod's namespace.
    pub clients: BTreeMap<u64, Vec<IpAddr>>,
    /// The namespaces in which translated sockets live: the host's and the pods'.
    pub namespaces: Vec<File>,
}

impl Pods {
    /// Prepares for looks from the calling thread's namespace. `canary` is the map of that name, `cgroup` the attach
    /// point.
    pub fn new(canary: RawMap, cgroup: &Path) -> io::Result<Self> {
        Ok(Self { host: Host::open()?, canary, attached: CgroupPath::of(cgroup)?, cookies: BTreeMap::new() })
    }

    /// Looks. `pods` are the addresses on Pod objects of this node that have a namespace of their own.
    pub fn look(&mut self, pods: &BTreeMap<IpAddr, Name>) -> io::Result<Look> {
        let mut found = namespaces::scan(&self.host)?;
        // Another cluster on this machine may give its pods the same addresses: the one that a veth joins is ours.
        let joined = found.values().filter(|namespace| namespace.joined);
        let taken: BTreeSet<IpAddr> = joined.flat_map(|namespace| &namespace.addresses).copied().collect();
        let named = |ip: &IpAddr| pods.contains_key(ip) && !taken.contains(ip);
        found.retain(|_, namespace| namespace.joined || namespace.addresses.iter().any(named));
        let dialled: BTreeMap<u64, u64> = std::iter::once((self.host.inode, &self.host.file))
            .chain(found.iter().map(|(inode, namespace)| (*inode, &namespace.file)))
            .filter_map(|(inode, file)| Some((inode, canary::dial(file).ok()?)))
            .collect();
        let sighted = canary::sightings(&self.canary)?;
        let seen = |inode: &u64| dialled.get(inode).and_then(|socket| sighted.get(socket)).copied();
        self.cookies.retain(|inode, _| found.contains_key(inode));
        for inode in found.keys() {
            if let Some(cookie) = seen(inode) {
                self.cookies.insert(*inode, cookie);
            }
        }
        let host = seen(&self.host.inode);
        let mut look = Look {
            host: self.host.cookie.or(host).unwrap_or(0),
            hooks_work: host.is_some(),
            namespaces: vec![self.host.file.try_clone()?],
            ..Look::default()
        };
        for (inode, namespace) in found {
            let covered = seen(&inode).is_some() && self.covers(&namespace);
            if !covered {
                look.uncovered.push(title(&namespace, pods));
            }
            if let Some(cookie) = namespace.cookie.or_else(|| self.cookies.get(&inode).copied()) {
                look.clients.insert(cookie, namespace.addresses);
            }
            look.namespaces.push(namespace.file);
        }
        look.uncovered.sort();
        Ok(look)
    }

    /// True if every process in the namespace has its cgroup at or below the attach point.
    fn covers(&self, namespace: &Namespace) -> bool {
        self.attached.as_ref().is_none_or(|at| namespace.processes.iter().all(|process| at.covers(*process)))
    }
}

/// The pod's name, or where no Pod object has one of its addresses, those.
fn title(namespace: &Namespace, pods: &BTreeMap<IpAddr, Name>) -> String {
    match namespace.addresses.iter().find_map(|ip| pods.get(ip)) {
        Some(name) => name.to_string(),
        None => match namespace.addresses.first() {
            Some(address) => address.to_string(),
            None => format!("netns {}", namespace.inode),
        },
    }
}
