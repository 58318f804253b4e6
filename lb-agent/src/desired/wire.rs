//! Entries to the bytes of keys and values, and back. Decoding takes every key and value of the right length: what
//! somebody else wrote must be seen to be removed.

use std::net::IpAddr;

use lb_ebpf::abi::{
    address::{Address, V4, V6},
    backend,
    frontend::{FrontendKey, Word},
    run::{LINE_BYTES, RunHeader},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::state::{Backend, BackendId, Frontend, Range, Run};
use crate::{
    maps::{Map, MapStore, StoreError},
    model::addr::Family,
};

/// The key of the `ranges` maps as an LPM trie has it: prefix length, then the bits that it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RangeKey<A> {
    /// 32 for the service, and the prefix of the range, host order.
    prefix: [u8; 4],
    /// The service port, host order.
    service: [u8; 4],
    /// The first address.
    address: A,
}

const SERVICE_BITS: u32 = 32;

/// Writes a frontend's word.
pub(crate) fn set_frontend(store: &mut impl MapStore, frontend: &Frontend, word: Word) -> Result<(), StoreError> {
    with_frontend(frontend, |map, key| store.set(map, key, word.as_bytes()))
}

/// Removes a frontend.
pub(crate) fn remove_frontend(store: &mut impl MapStore, frontend: &Frontend) -> Result<(), StoreError> {
    with_frontend(frontend, |map, key| store.remove(map, key))
}

/// Writes a backend.
pub(crate) fn set_backend(store: &mut impl MapStore, id: BackendId, backend: &Backend) -> Result<(), StoreError> {
    let map = Map::backends(id.family);
    match backend.address {
        IpAddr::V4(v4) => store.set(map, id.id.as_bytes(), raw_backend(backend, v4.octets()).as_bytes()),
        IpAddr::V6(v6) => store.set(map, id.id.as_bytes(), raw_backend(backend, v6.octets()).as_bytes()),
    }
}

/// Zeroes a backend.
pub(crate) fn remove_backend(store: &mut impl MapStore, id: BackendId) -> Result<(), StoreError> {
    store.remove(Map::backends(id.family), id.id.as_bytes())
}

/// Writes a run whole.
pub(crate) fn set_run(store: &mut impl MapStore, line: u32, run: &Run) -> Result<(), StoreError> {
    let mut bytes = Vec::with_capacity(run.lines() as usize * LINE_BYTES);
    let header = RunHeader {
        generation: run.generation,
        service: run.service,
        length: run.ids.len() as u32,
        affinity_ticks: run.affinity_ticks,
        pool: run.pool,
        _reserved: [0; 3],
    };
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(run.ids.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(LINE_BYTES), 0);
    store.set(Map::Arena, line.as_bytes(), &bytes)
}

/// Writes an address's flags; without flags the address is removed.
pub(crate) fn set_address(store: &mut impl MapStore, address: &IpAddr, flags: u32) -> Result<(), StoreError> {
    let map = Map::addresses(Family::of(address));
    let mut with = |key: &[u8]| if flags == 0 { store.remove(map, key) } else { store.set(map, key, flags.as_bytes()) };
    match address {
        IpAddr::V4(v4) => with(&v4.octets()),
        IpAddr::V6(v6) => with(&v6.octets()),
    }
}

/// Admits a range.
pub(crate) fn set_range(store: &mut impl MapStore, range: &Range) -> Result<(), StoreError> {
    with_range(range, |map, key| store.set(map, key, &[1]))
}

/// Removes a range.
pub(crate) fn remove_range(store: &mut impl MapStore, range: &Range) -> Result<(), StoreError> {
    with_range(range, |map, key| store.remove(map, key))
}

/// Reads an entry of a frontend map.
pub(crate) fn read_frontend(family: Family, key: &[u8], value: &[u8]) -> Option<(Frontend, Word)> {
    fn read<A: Address + Into<IpAddr>>(key: &[u8]) -> Option<Frontend> {
        let key = FrontendKey::<A>::read_from_bytes(key).ok()?;
        Some(Frontend {
            address: key.address.into(),
            port: u16::from_be_bytes(key.port),
            protocol: key.protocol,
            scope: key.scope,
        })
    }
    let frontend = match family {
        Family::V4 => read::<V4>(key),
        Family::V6 => read::<V6>(key),
    };
    Some((frontend?, Word::read_from_bytes(value).ok()?))
}

/// Reads an entry of a backend map.
pub(crate) fn read_backend(family: Family, key: &[u8], value: &[u8]) -> Option<(BackendId, Backend)> {
    fn read<A: Address + Into<IpAddr>>(value: &[u8]) -> Option<Backend> {
        let backend = backend::Backend::<A>::read_from_bytes(value).ok()?;
        Some(Backend {
            address: backend.address.into(),
            port: u16::from_be_bytes(backend.port),
            protocol: backend.protocol,
            flags: backend.flags,
            service: backend.owner(),
        })
    }
    let backend = match family {
        Family::V4 => read::<V4>(value),
        Family::V6 => read::<V6>(value),
    };
    Some((BackendId { family, id: u32::read_from_bytes(key).ok()? }, backend?))
}

/// Reads a run; `None` if the bytes hold no whole one.
pub(crate) fn read_run(family: Family, value: &[u8]) -> Option<Run> {
    let (header, rest) = RunHeader::read_from_prefix(value).ok()?;
    let ids = rest.get(..header.length.checked_mul(4)? as usize)?;
    Some(Run {
        family,
        generation: header.generation,
        service: header.service,
        affinity_ticks: header.affinity_ticks,
        pool: header.pool,
        ids: ids.chunks_exact(4).map(|id| u32::from_ne_bytes(id.try_into().expect("a chunk has four bytes"))).collect(),
    })
}

/// Reads an entry of an address map.
pub(crate) fn read_address(family: Family, key: &[u8], value: &[u8]) -> Option<(IpAddr, u32)> {
    let address = match family {
        Family::V4 => V4::read_from_bytes(key).ok()?.into(),
        Family::V6 => V6::read_from_bytes(key).ok()?.into(),
    };
    Some((address, u32::read_from_bytes(value).ok()?))
}

/// Reads a key of a range map.
pub(crate) fn read_range(family: Family, key: &[u8]) -> Option<Range> {
    fn read<A: Address + Into<IpAddr>>(key: &[u8]) -> Option<Range> {
        let key = RangeKey::<A>::read_from_bytes(key).ok()?;
        Some(Range {
            service: u32::from_ne_bytes(key.service),
            address: key.address.into(),
            // Wraps, and so survives both ways, for a key that spans services, which no agent writes.
            prefix: u32::from_ne_bytes(key.prefix).wrapping_sub(SERVICE_BITS),
        })
    }
    match family {
        Family::V4 => read::<V4>(key),
        Family::V6 => read::<V6>(key),
    }
}

fn with_frontend<R>(frontend: &Frontend, act: impl FnOnce(Map, &[u8]) -> R) -> R {
    match frontend.address {
        IpAddr::V4(v4) => act(Map::Frontends4, frontend.key(v4.octets()).as_bytes()),
        IpAddr::V6(v6) => act(Map::Frontends6, frontend.key(v6.octets()).as_bytes()),
    }
}

fn with_range<R>(range: &Range, act: impl FnOnce(Map, &[u8]) -> R) -> R {
    let prefix = range.prefix.wrapping_add(SERVICE_BITS).to_ne_bytes();
    let service = range.service.to_ne_bytes();
    match range.address {
        IpAddr::V4(v4) => act(Map::Ranges4, RangeKey { prefix, service, address: v4.octets() }.as_bytes()),
        IpAddr::V6(v6) => act(Map::Ranges6, RangeKey { prefix, service, address: v6.octets() }.as_bytes()),
    }
}

fn raw_backend<A>(backend: &Backend, address: A) -> backend::Backend<A> {
    backend::Backend {
        address,
        port: backend.port.to_be_bytes(),
        protocol: backend.protocol,
        flags: backend.flags,
        service: backend.service.to_ne_bytes(),
    }
}
