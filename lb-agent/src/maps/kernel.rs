//! The store that is the kernel.

use std::{collections::BTreeMap, io, mem::offset_of};

use lb_ebpf::abi::{
    address::{V4, V6},
    backend::Backend,
    frontend::Word,
    run::{self, LINE_BYTES, RunHeader},
};
use zerocopy::FromBytes as _;

use super::{
    Map, MapStore, StoreError,
    raw::{Mapping, RawMap},
};

const LINE_U64: usize = LINE_BYTES / 8;

/// The maps as the programs see them. Arrays are written through memory, hashes and tries by system call.
#[derive(Debug)]
pub struct KernelStore {
    maps: BTreeMap<Map, RawMap>,
    arrays: BTreeMap<Map, Mapping>,
}

impl KernelStore {
    /// Opens its own descriptors of the maps pinned in `dir`.
    pub fn open(dir: &std::path::Path) -> io::Result<Self> {
        let (mut maps, mut arrays) = (BTreeMap::new(), BTreeMap::new());
        for map in Map::ALL {
            let raw = RawMap::open(&dir.join(map.name()))?;
            if matches!(map, Map::Arena | Map::Backends4 | Map::Backends6) {
                arrays.insert(map, Mapping::new(&raw)?);
            }
            maps.insert(map, raw);
        }
        Ok(Self { maps, arrays })
    }

    fn raw(&self, map: Map) -> &RawMap {
        self.maps.get(&map).expect("open() holds every map")
    }

    /// Bytes of a value as the kernel has it; for arrays a multiple of 8.
    fn value_size(&self, map: Map) -> usize {
        self.raw(map).shape().value_size as usize
    }

    /// The place of an array's element in its mapping, in u64 words; checked against the array's end.
    fn place(&self, map: Map, key: &[u8], words: usize) -> Result<(&Mapping, usize), StoreError> {
        let (raw, mapping) = (self.raw(map), self.arrays.get(&map).expect("arrays are mapped"));
        let index = key.try_into().map(u32::from_ne_bytes);
        let index = index.map_err(|_| StoreError::Shape { map, key: key.len(), value: words * 8 })?;
        let at = index as usize * self.value_size(map) / 8;
        if at + words > mapping.words() {
            return Err(StoreError::Outside { map, index, capacity: raw.shape().max_entries });
        }
        Ok((mapping, at))
    }

    /// Reads the runs that frontends name: nothing else in the arena means anything.
    fn runs(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let mut runs = BTreeMap::new();
        for map in [Map::Frontends4, Map::Frontends6] {
            for word in self.dump(map)?.values() {
                let Ok(word) = Word::read_from_bytes(word) else { continue };
                if !word.kind().is_some_and(|kind| kind.has_run()) {
                    continue;
                }
                if let Some(bytes) = self.run(word.line()) {
                    runs.insert(word.line().to_ne_bytes().to_vec(), bytes);
                }
            }
        }
        Ok(runs)
    }

    /// Reads one run; `None` if its header claims more than the arena holds.
    fn run(&self, line: u32) -> Option<Vec<u8>> {
        let mut header = [0; size_of::<RunHeader>()];
        let (arena, at) = self.place(Map::Arena, &line.to_ne_bytes(), LINE_U64).ok()?;
        arena.read(at, &mut header);
        let header = RunHeader::read_from_bytes(&header).ok()?;
        let lines = (u64::from(header.length) + u64::from(run::HEADER_WORDS)).div_ceil(u64::from(run::LINE_WORDS));
        let bytes = usize::try_from(lines).ok()? * LINE_BYTES;
        self.place(Map::Arena, &line.to_ne_bytes(), bytes / 8).ok()?;
        let mut run = vec![0; bytes];
        arena.read(at, &mut run);
        Some(run)
    }
}

impl MapStore for KernelStore {
    fn set(&mut self, map: Map, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if self.arrays.contains_key(&map) {
            let fits = match map.value_bytes() {
                Some(bytes) => value.len() == bytes && self.value_size(map) == bytes.next_multiple_of(8),
                None => !value.is_empty() && value.len().is_multiple_of(LINE_BYTES),
            };
            if !fits {
                return Err(StoreError::Shape { map, key: key.len(), value: value.len() });
            }
            // The programs see values rounded up to 8 bytes.
            let mut padded = value.to_vec();
            padded.resize(value.len().next_multiple_of(8), 0);
            let (mapping, at) = self.place(map, key, padded.len() / 8)?;
            mapping.write(at, &padded);
            return Ok(());
        }
        self.raw(map).set(key, value).map_err(|error| refused(map, "update", &error, self.capacity(map)))
    }

    fn remove(&mut self, map: Map, key: &[u8]) -> Result<(), StoreError> {
        match map {
            Map::Arena => Ok(()),
            Map::Backends4 | Map::Backends6 => {
                let zeros = vec![0; map.value_bytes().unwrap_or_default()];
                self.set(map, key, &zeros)
            }
            Map::Frontends4 | Map::Frontends6 | Map::Addresses4 | Map::Addresses6 | Map::Ranges4 | Map::Ranges6 => {
                self.raw(map).remove(key).map_err(|error| refused(map, "delete", &error, self.capacity(map)))
            }
        }
    }

    fn dump(&self, map: Map) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        match map {
            Map::Arena => self.runs(),
            Map::Backends4 | Map::Backends6 => {
                let (mapping, size) = (&self.arrays[&map], self.value_size(map));
                let flags =
                    if map == Map::Backends4 { offset_of!(Backend<V4>, flags) } else { offset_of!(Backend<V6>, flags) };
                let mut found = BTreeMap::new();
                let mut value = vec![0; size];
                for index in 0..self.capacity(map) {
                    mapping.read(index as usize * size / 8, &mut value);
                    if value[flags] != 0 {
                        let bytes = map.value_bytes().unwrap_or(size);
                        found.insert(index.to_ne_bytes().to_vec(), value[..bytes].to_vec());
                    }
                }
                Ok(found)
            }
            Map::Frontends4 | Map::Frontends6 | Map::Addresses4 | Map::Addresses6 | Map::Ranges4 | Map::Ranges6 => {
                match self.raw(map).entries() {
                    Ok(entries) => Ok(entries.into_iter().collect()),
                    Err(error) => Err(refused(map, "read", &error, self.capacity(map))),
                }
            }
        }
    }

    fn capacity(&self, map: Map) -> u32 {
        self.raw(map).shape().max_entries
    }
}

fn refused(map: Map, operation: &'static str, error: &io::Error, capacity: u32) -> StoreError {
    match error.raw_os_error() {
        // A hash says E2BIG, an LPM trie ENOSPC.
        Some(libc::E2BIG | libc::ENOSPC) => StoreError::Full { map, capacity },
        Some(errno) => StoreError::Kernel { map, operation, errno },
        None => StoreError::Kernel { map, operation, errno: libc::EINVAL },
    }
}
