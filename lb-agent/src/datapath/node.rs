//! What the programs must know of this node: the entry of the `config` map, and the pods behind namespace cookies.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use lb_ebpf::abi::{
    config::{Config, Excluded, MAX_EXCLUDED, flags},
    flow::{Affinity, AffinityKey, Client, StrayKey},
    maps::{AFFINITY, CLIENTS, CONFIG, STRAYS},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::canary::CgroupPath;
use crate::maps::raw::RawMap;

/// The part of the configuration that the programs read.
#[derive(Clone, Debug, Default)]
pub struct NodeSettings {
    /// Translate sockets of the host namespace only.
    pub host_namespace_only: bool,
    /// Keep what getpeername answers.
    pub remember_peer: bool,
    /// Cgroup directories to leave alone.
    pub exclude_cgroups: Vec<PathBuf>,
}

/// Says which excluded cgroup cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Not a cgroup v2 directory.
    #[error("socket.excludeCgroups: {}: not a cgroup v2 directory", path.display())]
    NotCgroup {
        /// The path.
        path: PathBuf,
    },
    /// More than the programs can hold.
    #[error("socket.excludeCgroups: {count} entries, at most {MAX_EXCLUDED} are possible")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A map cannot be written.
    #[error("map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Writes what the configuration says. What was found out about the node, and stands there from an earlier run, stays.
pub fn write_settings(maps: &BTreeMap<&'static str, RawMap>, settings: &NodeSettings) -> Result<(), NodeError> {
    if settings.exclude_cgroups.len() > MAX_EXCLUDED {
        return Err(NodeError::TooMany { count: settings.exclude_cgroups.len() });
    }
    let mut excluded = [Excluded::default(); MAX_EXCLUDED];
    for (entry, path) in excluded.iter_mut().zip(&settings.exclude_cgroups) {
        let missing = || NodeError::NotCgroup { path: path.clone() };
        let place = CgroupPath::of(path).ok().flatten().ok_or_else(missing)?;
        let cgroup = fs::metadata(path).map_err(|_| missing())?.ino();
        *entry = Excluded { cgroup, level: place.level(), _reserved: 0 };
    }
    let set = |bit, on| if on { bit } else { 0 };
    update(maps, |config| {
        config.flags = set(flags::HOST_NAMESPACE_ONLY, settings.host_namespace_only)
            | set(flags::REMEMBER_PEER, settings.remember_peer)
            | set(flags::EXCLUDES, !settings.exclude_cgroups.is_empty());
        config.excluded = excluded;
    })
}

/// Writes the cookie of the host's namespace; 0 means that it is not known yet, and changes nothing.
pub fn write_host(maps: &BTreeMap<&'static str, RawMap>, cookie: u64) -> Result<(), NodeError> {
    if cookie == 0 { Ok(()) } else { update(maps, |config| config.host_namespace = cookie) }
}

/// Writes the node's primary addresses, the first of each family.
pub fn write_addresses(maps: &BTreeMap<&'static str, RawMap>, addresses: &[IpAddr]) -> Result<(), NodeError> {
    update(maps, |config| {
        (config.node4, config.node6) = ([0; 4], [0; 16]);
        for address in addresses.iter().rev() {
            match address {
                IpAddr::V4(v4) => config.node4 = v4.octets(),
                IpAddr::V6(v6) => config.node6 = v6.octets(),
            }
        }
    })
}

/// Reads the entry of the `config` map, changes it, and writes it back if it is another one.
fn update(maps: &BTreeMap<&'static str, RawMap>, change: impl FnOnce(&mut Config)) -> Result<(), NodeError> {
    // Two threads of the agent write different fields of one entry.
    static WRITER: Mutex<()> = Mutex::new(());
    let _writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    let map = named(maps, CONFIG)?;
    let failed = |source| NodeError::Map { map: CONFIG, source };
    let key = 0u32.to_ne_bytes();
    let before = map.get(&key).map_err(failed)?.unwrap_or_default();
    let before = Config::read_from_bytes(&before).unwrap_or_default();
    let mut config = before;
    change(&mut config);
    if config == before { Ok(()) } else { map.set(&key, config.as_bytes()).map_err(failed) }
}

/// Makes the `clients` map hold exactly `pods` (namespace cookie to addresses). Affinity that a namespace gathered
/// before it was known moves over to the pod's address, so that the client keeps its backends.
pub fn write_clients(
    maps: &BTreeMap<&'static str, RawMap>,
    pods: &BTreeMap<u64, Vec<IpAddr>>,
) -> Result<(), NodeError> {
    let map = named(maps, CLIENTS)?;
    let failed = |source| NodeError::Map { map: CLIENTS, source };
    let have: BTreeMap<Vec<u8>, Vec<u8>> = map.entries().map_err(failed)?.into_iter().collect();
    for key in have.keys() {
        if key.first_chunk().is_none_or(|bytes| !pods.contains_key(&u64::from_ne_bytes(*bytes))) {
            map.remove(key).map_err(failed)?;
        }
    }
    for (cookie, addresses) in pods {
        let client = client(addresses);
        if have.get(cookie.as_bytes()).map(Vec::as_slice) == Some(client.as_bytes()) {
            continue;
        }
        move_strays(maps, *cookie, &client)?;
        map.set(cookie.as_bytes(), client.as_bytes()).map_err(failed)?;
        move_strays(maps, *cookie, &client)?;
    }
    Ok(())
}

fn client(addresses: &[IpAddr]) -> Client {
    let mut client = Client { v6: [0; 16], v4: [0; 4], _reserved: [0; 4] };
    for address in addresses.iter().rev() {
        match address {
            IpAddr::V4(v4) => client.v4 = v4.octets(),
            IpAddr::V6(v6) => client.v6 = v6.octets(),
        }
    }
    client
}

/// Moves the affinity of a stray namespace under its address. Called before the client is known, so that no
/// connection in between starts anew, and after, for what was written meanwhile.
fn move_strays(maps: &BTreeMap<&'static str, RawMap>, cookie: u64, client: &Client) -> Result<(), NodeError> {
    let strays = named(maps, STRAYS)?;
    for (key, value) in strays.entries().map_err(|source| NodeError::Map { map: STRAYS, source })? {
        let (Ok(stray), Ok(affinity)) = (StrayKey::read_from_bytes(&key), Affinity::read_from_bytes(&value)) else {
            continue;
        };
        if stray.namespace != cookie {
            continue;
        }
        let service = stray.service.to_ne_bytes();
        let (name, key4, key6) = (
            AFFINITY[usize::from(stray.family == 6)],
            AffinityKey { client: client.v4, service },
            AffinityKey { client: client.v6, service },
        );
        let target = if stray.family == 6 { key6.as_bytes() } else { key4.as_bytes() };
        let failed = |source| NodeError::Map { map: name, source };
        named(maps, name)?.set(target, affinity.as_bytes()).map_err(failed)?;
        strays.remove(&key).map_err(|source| NodeError::Map { map: STRAYS, source })?;
    }
    Ok(())
}

fn named<'a>(maps: &'a BTreeMap<&'static str, RawMap>, map: &'static str) -> Result<&'a RawMap, NodeError> {
    maps.get(map).ok_or_else(|| NodeError::Map { map, source: io::ErrorKind::NotFound.into() })
}
