//! How much the maps hold.

use std::collections::BTreeMap;

use lb_ebpf::abi::{frontend::MAX_LINES, maps};
use serde_json::Value;

use super::{ConfigError, section::Section};

/// Entries of each map, of each family where a map has two. [`lb_ebpf::abi::maps`] says what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Frontends: address, port and protocol of every service, each NodePort once.
    pub frontends: u32,
    /// Backends: endpoints of every service port.
    pub backends: u32,
    /// Service addresses, and the node's own that admit NodePorts.
    pub addresses: u32,
    /// Entries of loadBalancerSourceRanges, all services together.
    pub source_ranges: u32,
    /// Clients with session affinity; the least recently used goes first.
    pub affinity: u32,
    /// Connected sockets whose getpeername is answered with the service.
    pub peers: u32,
    /// Unconnected datagram sockets times services, twice; the least recently used goes first.
    pub datagrams: u32,
    /// Clients with affinity whose address is not known yet.
    pub strays: u32,
    /// Network namespaces whose address is known.
    pub clients: u32,
    /// Lines of 64 bytes for selection tables: the first size of the arena.
    pub arena_lines: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            frontends: 262_144,
            backends: 262_144,
            addresses: 131_072,
            source_ranges: 16_384,
            affinity: 65_536,
            peers: 131_072,
            datagrams: 131_072,
            strays: 4_096,
            clients: 8_192,
            arena_lines: 262_144,
        }
    }
}

impl MapSizes {
    /// Capacities by the names of the maps.
    pub fn by_name(&self) -> BTreeMap<String, u32> {
        let pairs = [
            (maps::FRONTENDS, self.frontends),
            (maps::BACKENDS, self.backends),
            (maps::ACTIVE, self.backends),
            (maps::ADDRESSES, self.addresses),
            (maps::RANGES, self.source_ranges),
            (maps::AFFINITY, self.affinity),
            (maps::PEERS, self.peers),
            (maps::DATAGRAMS, self.datagrams),
        ];
        let singles = [
            (maps::STRAYS, self.strays),
            (maps::CLIENTS, self.clients),
            (maps::CANARY, self.clients),
            (maps::ARENA, self.arena_lines),
        ];
        let pairs = pairs.into_iter().flat_map(|(names, size)| names.map(|name| (name, size)));
        pairs.chain(singles).map(|(name, size)| (name.to_owned(), size)).collect()
    }

    pub(super) fn read(&mut self, mut section: Section) -> Result<(), ConfigError> {
        section.read("frontends", &mut self.frontends, entries)?;
        section.read("backends", &mut self.backends, entries)?;
        section.read("addresses", &mut self.addresses, entries)?;
        section.read("sourceRanges", &mut self.source_ranges, entries)?;
        section.read("affinity", &mut self.affinity, entries)?;
        section.read("peers", &mut self.peers, entries)?;
        section.read("datagrams", &mut self.datagrams, entries)?;
        section.read("strays", &mut self.strays, entries)?;
        section.read("clients", &mut self.clients, entries)?;
        section.read("arenaLines", &mut self.arena_lines, |value| number(value, 64, MAX_LINES))?;
        section.end()
    }
}

/// 16 is the least that a kernel's LRU map takes on a machine of many CPUs without surprises; 16 million the most
/// that a node could fill.
fn entries(value: &Value) -> Result<u32, String> {
    number(value, 16, 1 << 24)
}

fn number(value: &Value, least: u32, most: u32) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.filter(|number| (least..=most).contains(number)).ok_or_else(|| format!("a number from {least} to {most}"))
}
