//! Reads a store as the programs do: frontend, word, run, backend. It shares the layouts with them and no code with
//! the agent, and it accepts nothing torn.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_agent::maps::{Map, MapStore};
use lb_ebpf::abi::{
    address::{Address, V4, V6},
    backend::Backend,
    frontend::{FrontendKey, Kind, Word, address_flags, word_flags},
    run::{HEADER_WORDS, RunHeader, place},
};
use zerocopy::FromBytes;

/// What a client of a frontend gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Refuse,
    Drop,
    Canary,
    Table(Table),
}

/// A selection table, with everything that a choice depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) service: u32,
    pub(crate) kind: Kind,
    pub(crate) affinity_ticks: u32,
    pub(crate) endpoints: Vec<(IpAddr, u16)>,
    /// The keys behind the service's number, if clients are held against them.
    pub(crate) ranges: Option<BTreeSet<(u32, IpAddr)>>,
}

/// Address, port, protocol and scope of a frontend.
pub(crate) type Key = (IpAddr, u16, u8, u8);

/// Everything that a store shows to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) frontends: BTreeMap<Key, Answer>,
    pub(crate) addresses: BTreeMap<IpAddr, u32>,
}

impl Seen {
    /// The frontends at an address.
    pub(crate) fn at(&self, address: IpAddr) -> impl Iterator<Item = (&Key, &Answer)> {
        self.frontends.iter().filter(move |(key, _)| key.0 == address)
    }

    /// True if unknown ports of an address are refused.
    pub(crate) fn refuses(&self, address: IpAddr) -> bool {
        self.addresses.get(&address).is_some_and(|flags| flags & address_flags::REFUSE_UNKNOWN != 0)
    }
}

/// Reads everything; an error names what a reader would trip over.
pub(crate) fn read(store: &impl MapStore) -> Result<Seen, String> {
    let mut seen = Seen::default();
    family::<V4>(store, [Map::Frontends4, Map::Backends4, Map::Addresses4, Map::Ranges4], &mut seen)?;
    family::<V6>(store, [Map::Frontends6, Map::Backends6, Map::Addresses6, Map::Ranges6], &mut seen)?;
    Ok(seen)
}

fn family<A: Address + Into<IpAddr>>(store: &impl MapStore, maps: [Map; 4], seen: &mut Seen) -> Result<(), String> {
    let [frontends, backends, addresses, ranges] = maps.map(|map| store.dump(map).unwrap());
    let arena = store.dump(Map::Arena).unwrap();
    for (key, value) in &addresses {
        let address = A::read_from_bytes(key).unwrap().into();
        seen.addresses.insert(address, u32::read_from_bytes(value).unwrap());
    }
    for (key, value) in &frontends {
        let key = FrontendKey::<A>::read_from_bytes(key).unwrap();
        let word = Word::read_from_bytes(value).unwrap();
        let name = format!("{}:{}", key.address.into(), u16::from_be_bytes(key.port));
        if word.fingerprint() != key.fingerprint() {
            return Err(format!("{name}: the word belongs to another key"));
        }
        let kind = word.kind().ok_or_else(|| format!("{name}: unknown kind"))?;
        let answer = match kind {
            Kind::Refuse => Answer::Refuse,
            Kind::Drop => Answer::Drop,
            Kind::Canary => Answer::Canary,
            Kind::Random | Kind::Maglev | Kind::LeastConnections => {
                let run = arena.get(word.line().to_ne_bytes().as_slice()).ok_or_else(|| format!("{name}: no run"))?;
                let (header, _) = RunHeader::read_from_prefix(run).unwrap();
                if header.generation & 0xfff != word.generation() {
                    return Err(format!("{name}: run {} is not {}", header.generation, word.generation()));
                }
                if header.length == 0 {
                    return Err(format!("{name}: an empty run"));
                }
                let endpoints = (0..header.length).map(|index| {
                    let id = id(run, index).ok_or_else(|| format!("{name}: the run is cut at {index}"))?;
                    let backend =
                        backends.get(id.to_ne_bytes().as_slice()).ok_or_else(|| format!("{name}: no backend {id}"))?;
                    let backend = Backend::<A>::read_from_bytes(backend).unwrap();
                    if !backend.serves(header.service, header.pool) {
                        return Err(format!(
                            "{name}: backend {id} serves service {}, pools {:#x}",
                            backend.owner(),
                            backend.flags
                        ));
                    }
                    if backend.protocol != key.protocol {
                        return Err(format!("{name}: backend {id} has protocol {}", backend.protocol));
                    }
                    Ok((backend.address.into(), u16::from_be_bytes(backend.port)))
                });
                let flagged = word.flags() & word_flags::SOURCE_RANGES != 0;
                Answer::Table(Table {
                    service: header.service,
                    kind,
                    affinity_ticks: header.affinity_ticks,
                    endpoints: endpoints.collect::<Result<_, String>>()?,
                    ranges: flagged.then(|| admitted::<A>(&ranges, header.service)),
                })
            }
        };
        seen.frontends.insert((key.address.into(), u16::from_be_bytes(key.port), key.protocol, key.scope), answer);
    }
    Ok(())
}

fn id(run: &[u8], index: u32) -> Option<u32> {
    let (line, word) = place(index);
    let at = (line as usize * 16 + word as usize) * 4;
    assert!(at >= HEADER_WORDS as usize * 4);
    u32::read_from_bytes(run.get(at..at + 4)?).ok()
}

fn admitted<A: Address + Into<IpAddr>>(ranges: &BTreeMap<Vec<u8>, Vec<u8>>, service: u32) -> BTreeSet<(u32, IpAddr)> {
    ranges
        .keys()
        .filter(|key| key[4..8] == service.to_ne_bytes())
        .map(|key| {
            let prefix = u32::read_from_bytes(&key[..4]).unwrap() - 32;
            (prefix, A::read_from_bytes(&key[8..]).unwrap().into())
        })
        .collect()
}
