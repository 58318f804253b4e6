//! A store in memory, which behaves as the kernel's maps do: fixed sizes, and a capacity each.

use std::collections::BTreeMap;

use lb_ebpf::abi::run::LINE_BYTES;

use super::{Map, MapStore, StoreError};

/// Maps as ordered tables of bytes.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    maps: BTreeMap<Map, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Runs by their first line; no two overlap.
    runs: BTreeMap<u32, Vec<u8>>,
    capacities: BTreeMap<Map, u32>,
    writes: u64,
}

/// The capacity of every map that is not given one.
const CAPACITY: u32 = 1 << 16;

impl MemoryStore {
    /// Builds an empty store with room for 65536 entries in each map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a map another capacity; what it holds already stays.
    pub fn with_capacity(mut self, map: Map, capacity: u32) -> Self {
        self.set_capacity(map, capacity);
        self
    }

    /// Gives a map another capacity; what it holds already stays.
    pub fn set_capacity(&mut self, map: Map, capacity: u32) {
        self.capacities.insert(map, capacity);
    }

    /// Forgets everything that a map holds.
    pub fn flush(&mut self, map: Map) {
        self.maps.remove(&map);
        if map == Map::Arena {
            self.runs.clear();
        }
    }

    /// How many writes and removals were done.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Puts a run at a line; runs that it overwrites, wholly or not, are gone.
    fn overwrite(&mut self, line: u32, run: &[u8]) {
        let end = line + lines(run);
        while let Some((&start, _)) =
            self.runs.range(..end).next_back().filter(|(start, old)| **start + lines(old) > line)
        {
            self.runs.remove(&start);
        }
        self.runs.insert(line, run.to_vec());
    }

    fn check(&self, map: Map, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let fits = match map.value_bytes() {
            Some(bytes) => value.len() == bytes,
            None => !value.is_empty() && value.len().is_multiple_of(LINE_BYTES),
        };
        if key.len() != map.key_bytes() || !fits {
            return Err(StoreError::Shape { map, key: key.len(), value: value.len() });
        }
        let capacity = self.capacity(map);
        let held = self.maps.get(&map);
        match map {
            Map::Backends4 | Map::Backends6 => within(map, index(key), 1, capacity),
            Map::Arena => within(map, index(key), lines(value), capacity),
            Map::Frontends4 | Map::Frontends6 | Map::Addresses4 | Map::Addresses6 | Map::Ranges4 | Map::Ranges6 => {
                let known = held.is_some_and(|held| held.contains_key(key));
                if !known && held.map_or(0, BTreeMap::len) >= capacity as usize {
                    return Err(StoreError::Full { map, capacity });
                }
                Ok(())
            }
        }
    }
}

impl MapStore for MemoryStore {
    fn set(&mut self, map: Map, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.check(map, key, value)?;
        self.writes += 1;
        if map == Map::Arena {
            self.overwrite(index(key), value);
        } else {
            self.maps.entry(map).or_default().insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    fn remove(&mut self, map: Map, key: &[u8]) -> Result<(), StoreError> {
        if key.len() != map.key_bytes() {
            return Err(StoreError::Shape { map, key: key.len(), value: 0 });
        }
        if matches!(map, Map::Backends4 | Map::Backends6) {
            within(map, index(key), 1, self.capacity(map))?;
        }
        self.writes += 1;
        if let Some(held) = self.maps.get_mut(&map) {
            held.remove(key);
        }
        Ok(())
    }

    fn dump(&self, map: Map) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        if map == Map::Arena {
            return Ok(self.runs.iter().map(|(line, run)| (line.to_ne_bytes().to_vec(), run.clone())).collect());
        }
        Ok(self.maps.get(&map).cloned().unwrap_or_default())
    }

    fn capacity(&self, map: Map) -> u32 {
        self.capacities.get(&map).copied().unwrap_or(CAPACITY)
    }
}

fn index(key: &[u8]) -> u32 {
    u32::from_ne_bytes(key.try_into().expect("keys are checked before they are stored"))
}

fn lines(run: &[u8]) -> u32 {
    (run.len() / LINE_BYTES) as u32
}

fn within(map: Map, index: u32, length: u32, capacity: u32) -> Result<(), StoreError> {
    if index.checked_add(length).is_some_and(|end| end <= capacity) {
        Ok(())
    } else {
        Err(StoreError::Outside { map, index, capacity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: u32) -> [u8; 4] {
        n.to_ne_bytes()
    }

    #[test]
    fn writes_outside_are_refused() {
        let mut store = MemoryStore::new()
            .with_capacity(Map::Frontends4, 1)
            .with_capacity(Map::Backends4, 4)
            .with_capacity(Map::Arena, 4);
        for (name, map, key, value, want) in [
            ("a frontend", Map::Frontends4, vec![0; 8], vec![0; 8], Ok(())),
            ("the same again", Map::Frontends4, vec![0; 8], vec![1; 8], Ok(())),
            (
                "one too many",
                Map::Frontends4,
                vec![1; 8],
                vec![0; 8],
                Err(StoreError::Full { map: Map::Frontends4, capacity: 1 }),
            ),
            (
                "a short key",
                Map::Frontends6,
                vec![0; 8],
                vec![0; 8],
                Err(StoreError::Shape { map: Map::Frontends6, key: 8, value: 8 }),
            ),
            ("the last backend", Map::Backends4, line(3).to_vec(), vec![1; 12], Ok(())),
            (
                "behind it",
                Map::Backends4,
                line(4).to_vec(),
                vec![1; 12],
                Err(StoreError::Outside { map: Map::Backends4, index: 4, capacity: 4 }),
            ),
            ("a run that fits", Map::Arena, line(2).to_vec(), vec![0; 128], Ok(())),
            (
                "a run that does not",
                Map::Arena,
                line(3).to_vec(),
                vec![0; 128],
                Err(StoreError::Outside { map: Map::Arena, index: 3, capacity: 4 }),
            ),
            (
                "half a line",
                Map::Arena,
                line(0).to_vec(),
                vec![0; 32],
                Err(StoreError::Shape { map: Map::Arena, key: 4, value: 32 }),
            ),
        ] {
            assert_eq!(store.set(map, &key, &value), want, "{name}");
        }
    }

    #[test]
    fn a_run_overwrites_what_lies_there() {
        let mut store = MemoryStore::new();
        for (first, length) in [(0, 2), (2, 1), (3, 2), (1, 3)] {
            store.set(Map::Arena, &line(first), &vec![0; length * LINE_BYTES]).unwrap();
        }
        let starts: Vec<u32> = store.dump(Map::Arena).unwrap().keys().map(|key| index(key)).collect();
        assert_eq!(starts, [1], "the runs at 0, 2 and 3 each lost a line");
    }
}
