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
    /// Pods that the hooks do not cover, by name, and why: their canary was not seen, or a process of theirs lies
    /// outside the cgroup.
    pub uncovered: BTreeMap<String, String>,
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

    /// Looks. `pods` are the addresses on Pod objects of this node that have a namespace of their own, `node` those of
    /// the node itself.
    pub fn look(&mut self, pods: &BTreeMap<IpAddr, Name>, node: &BTreeSet<IpAddr>) -> io::Result<Look> {
        let mut found = namespaces::scan(&self.host, node)?;
        keep_pods(&mut found, pods);
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
            let outside = self.outside(&namespace);
            let unseen = || seen(&inode).is_none().then(|| "no hook saw a connect from its namespace".to_owned());
            if let Some(why) = outside.or_else(unseen) {
                look.uncovered.insert(title(&namespace, pods), why);
            }
            if let Some(cookie) = namespace.cookie.or_else(|| self.cookies.get(&inode).copied()) {
                look.clients.insert(cookie, namespace.addresses);
            }
            look.namespaces.push(namespace.file);
        }
        Ok(look)
    }

    /// Names the first process in the namespace whose cgroup is neither the attach point nor below it.
    fn outside(&self, namespace: &Namespace) -> Option<String> {
        let at = self.attached.as_ref()?;
        let mut missed = namespace.processes.iter().filter_map(|process| Some((process, at.misses(*process)?)));
        let (process, cgroup) = missed.next()?;
        Some(format!("its process {process} is in cgroup {}, which the hooks are not attached to", cgroup.display()))
    }
}

/// Keeps the namespaces of this node's pods: those that a veth joins to the host's, and for networks without one those
/// that hold a pod's address. An address that a joined namespace holds says nothing about another one, such as that of
/// a second cluster on this machine.
fn keep_pods(found: &mut BTreeMap<u64, Namespace>, pods: &BTreeMap<IpAddr, Name>) {
    let joined = found.values().filter(|namespace| namespace.joined);
    let taken: BTreeSet<IpAddr> = joined.flat_map(|namespace| namespace.addresses.iter().copied()).collect();
    let told = |ip: &IpAddr| pods.contains_key(ip) && !taken.contains(ip);
    found.retain(|_, namespace| namespace.joined || namespace.addresses.iter().any(told));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_told_by_its_veth_or_else_by_its_address() {
        let pods = BTreeMap::from([("10.0.0.1".parse().unwrap(), Name::new("x", "a"))]);
        for (name, namespaces, want) in [
            ("a veth", vec![(true, "10.0.0.1")], vec![0]),
            ("a veth and no Pod object", vec![(true, "10.0.0.9")], vec![0]),
            ("no veth and a pod's address", vec![(false, "10.0.0.1")], vec![0]),
            ("no veth and another address", vec![(false, "10.0.0.9")], vec![]),
            ("another cluster's pod of the same address", vec![(true, "10.0.0.1"), (false, "10.0.0.1")], vec![0]),
        ] {
            let mut found: BTreeMap<u64, Namespace> = (0..)
                .zip(namespaces)
                .map(|(inode, (joined, address))| {
                    let file = File::open("/dev/null").unwrap();
                    let addresses = vec![address.parse().unwrap()];
                    (inode, Namespace { file, inode, cookie: None, addresses, joined, processes: Vec::new() })
                })
                .collect();
            keep_pods(&mut found, &pods);
            assert_eq!(found.into_keys().collect::<Vec<_>>(), want, "{name}");
        }
    }
}
