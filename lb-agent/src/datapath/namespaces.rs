//! Network namespaces on this machine: which are pods of this node, what addresses they hold, who runs in them.
//!
//! No CNI is asked. A namespace is a pod's if one of its addresses is on a Pod object of this node, or if a veth joins
//! it to the namespace that the agent runs in; other nodes' pods on the same machine are neither, and another cluster's
//! are not ours though their addresses may be. A veth whose end here
//! holds the node's own address leads the other way: a node that is a container itself is joined so to its machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::IpAddr,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use super::sys;

const RTM_GETLINK: u16 = 18;
const RTM_GETNSID: u16 = 90;
const IFLA_LINK_NETNSID: u16 = 37;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// Bytes of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// Bytes of `struct rtgenmsg`, aligned.
const RTGENMSG: usize = 4;

/// A network namespace that is not the agent's own.
#[derive(Debug)]
pub struct Namespace {
    /// Holds the namespace open.
    pub file: File,
    /// Its inode: names it on this machine.
    pub inode: u64,
    /// Its cookie; `None` below 5.14, where only a hook can tell.
    pub cookie: Option<u64>,
    /// Addresses of its devices, without loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
    /// A veth joins it to the agent's namespace.
    pub joined: bool,
    /// Processes that run in it.
    pub processes: Vec<u32>,
}

/// The namespace that the agent runs in.
#[derive(Debug)]
pub struct Host {
    /// Holds the namespace open.
    pub file: File,
    /// Its inode.
    pub inode: u64,
    /// Its cookie; `None` below 5.14.
    pub cookie: Option<u64>,
}

impl Host {
    /// Looks at the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let file = File::open("/proc/thread-self/ns/net")?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode, cookie: sys::netns_cookie()? })
    }
}

/// Finds the namespaces of this machine, the agent's own left out, by inode. What vanishes meanwhile is passed over.
/// `node` are the node's addresses.
pub fn scan(host: &Host, node: &BTreeSet<IpAddr>) -> io::Result<BTreeMap<u64, Namespace>> {
    let peers = joined_ids(node)?;
    let mut found: BTreeMap<u64, (File, Vec<u32>)> = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        add(&mut found, &entry.path().join("ns/net"), Some(pid));
    }
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        add(&mut found, &entry.path(), None);
    }
    found.remove(&host.inode);
    let mut namespaces = BTreeMap::new();
    for (inode, (file, processes)) in found {
        let joined = id_of(&file).is_some_and(|id| peers.contains(&id));
        let Ok((cookie, addresses)) = sys::in_namespace(&file, || (sys::netns_cookie().ok().flatten(), addresses()))
        else {
            continue;
        };
        namespaces.insert(inode, Namespace { file, inode, cookie, addresses, joined, processes });
    }
    Ok(namespaces)
}

/// Addresses of the calling thread's namespace that others can dial.
fn addresses() -> Vec<IpAddr> {
    let all = super::netlink::addresses().unwrap_or_default();
    all.into_iter().filter(|local| !local.loopback && !local.link_local()).map(|local| local.address).collect()
}

fn add(found: &mut BTreeMap<u64, (File, Vec<u32>)>, path: &Path, process: Option<u32>) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let entry = found.entry(metadata.ino());
    let (_, processes) = match entry {
        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::btree_map::Entry::Vacant(entry) => {
            // A file below /run/netns that no namespace is mounted on has another inode and cannot be entered.
            let Ok(file) = File::open(path) else { return };
            entry.insert((file, Vec::new()))
        }
    };
    processes.extend(process);
}

/// The ids (as the agent's namespace counts them) of namespaces that hold the other end of one of its devices, those
/// devices left out that hold an address of the node.
fn joined_ids(node: &BTreeSet<IpAddr>) -> io::Result<BTreeSet<i32>> {
    let held = super::netlink::addresses()?.into_iter().filter(|local| node.contains(&local.address));
    let uplinks: BTreeSet<String> = held.map(|local| local.device).collect();
    let links = sys::netlink(libc::NETLINK_ROUTE, RTM_GETLINK, libc::NLM_F_DUMP as u16, &[0; IFINFOMSG])?;
    let is_uplink = |link: &[u8]| {
        let name =
            sys::attribute(link, IFINFOMSG, libc::IFLA_IFNAME).and_then(|name| name.split(|byte| *byte == 0).next());
        name.and_then(|name| std::str::from_utf8(name).ok()).is_some_and(|name| uplinks.contains(name))
    };
    let pods = links.iter().filter(|link| !is_uplink(link));
    Ok(pods.filter_map(|link| number(sys::attribute(link, IFINFOMSG, IFLA_LINK_NETNSID)?)).collect())
}

/// The id by which the agent's namespace knows another one, if it knows it.
fn id_of(file: &File) -> Option<i32> {
    let mut request = [0u8; RTGENMSG + 8];
    request[4..6].copy_from_slice(&8u16.to_ne_bytes());
    request[6..8].copy_from_slice(&NETNSA_FD.to_ne_bytes());
    request[8..].copy_from_slice(&file.as_raw_fd().to_ne_bytes());
    let answers = sys::netlink(libc::NETLINK_ROUTE, RTM_GETNSID, 0, &request).ok()?;
    number(sys::attribute(answers.first()?, RTGENMSG, NETNSA_NSID)?).filter(|id| *id >= 0)
}

fn number(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}
