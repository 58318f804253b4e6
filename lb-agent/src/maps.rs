//! The seam between what the maps should hold and the kernel: one store of bytes by map.

pub mod faulty;
pub mod kernel;
pub mod memory;
pub mod raw;

use std::{collections::BTreeMap, fmt};

use lb_ebpf::abi::{
    address::{V4, V6},
    backend::Backend,
    frontend::{FrontendKey, Word},
    maps,
};

use crate::model::addr::Family;

/// A map that the agent writes. `config`, `clients` and what the programs write are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Map {
    /// `frontends4`: [`FrontendKey`] to [`Word`].
    Frontends4,
    /// `frontends6`.
    Frontends6,
    /// `backends4`: id (u32, host order) to [`Backend`]; an array.
    Backends4,
    /// `backends6`.
    Backends6,
    /// `arena`: the first line of a run (u32, host order) to the run's bytes, a multiple of 64.
    Arena,
    /// `addresses4`: address to flags (u32, host order).
    Addresses4,
    /// `addresses6`.
    Addresses6,
    /// `ranges4`: prefix length (u32, host order), service (u32, host order) and address to one byte; an LPM trie.
    Ranges4,
    /// `ranges6`.
    Ranges6,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Frontends4,
        Self::Frontends6,
        Self::Backends4,
        Self::Backends6,
        Self::Arena,
        Self::Addresses4,
        Self::Addresses6,
        Self::Ranges4,
        Self::Ranges6,
    ];

    /// The name, as pinned.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frontends4 => maps::FRONTENDS[0],
            Self::Frontends6 => maps::FRONTENDS[1],
            Self::Backends4 => maps::BACKENDS[0],
            Self::Backends6 => maps::BACKENDS[1],
            Self::Arena => maps::ARENA,
            Self::Addresses4 => maps::ADDRESSES[0],
            Self::Addresses6 => maps::ADDRESSES[1],
            Self::Ranges4 => maps::RANGES[0],
            Self::Ranges6 => maps::RANGES[1],
        }
    }

    /// The length of a key in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Frontends4 => size_of::<FrontendKey<V4>>(),
            Self::Frontends6 => size_of::<FrontendKey<V6>>(),
            Self::Backends4 | Self::Backends6 | Self::Arena => size_of::<u32>(),
            Self::Addresses4 => size_of::<V4>(),
            Self::Addresses6 => size_of::<V6>(),
            Self::Ranges4 => 8 + size_of::<V4>(),
            Self::Ranges6 => 8 + size_of::<V6>(),
        }
    }

    /// The length of a value in bytes; `None` for runs, which differ.
    pub const fn value_bytes(self) -> Option<usize> {
        match self {
            Self::Frontends4 | Self::Frontends6 => Some(size_of::<Word>()),
            Self::Backends4 => Some(size_of::<Backend<V4>>()),
            Self::Backends6 => Some(size_of::<Backend<V6>>()),
            Self::Arena => None,
            Self::Addresses4 | Self::Addresses6 => Some(size_of::<u32>()),
            Self::Ranges4 | Self::Ranges6 => Some(size_of::<u8>()),
        }
    }

    /// The frontends of a family.
    pub const fn frontends(family: Family) -> Self {
        match family {
            Family::V4 => Self::Frontends4,
            Family::V6 => Self::Frontends6,
        }
    }

    /// The backends of a family.
    pub const fn backends(family: Family) -> Self {
        match family {
            Family::V4 => Self::Backends4,
            Family::V6 => Self::Backends6,
        }
    }

    /// The addresses of a family.
    pub const fn addresses(family: Family) -> Self {
        match family {
            Family::V4 => Self::Addresses4,
            Family::V6 => Self::Addresses6,
        }
    }

    /// The source ranges of a family.
    pub const fn ranges(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ranges4,
            Family::V6 => Self::Ranges6,
        }
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Says why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The map takes no new key.
    #[error("map {map} is full ({capacity} entries)")]
    Full {
        /// The map.
        map: Map,
        /// Its capacity.
        capacity: u32,
    },
    /// The key, or the run behind it, lies outside the array.
    #[error("index {index} lies outside map {map} ({capacity} entries)")]
    Outside {
        /// The map.
        map: Map,
        /// The index.
        index: u32,
        /// The map's capacity.
        capacity: u32,
    },
    /// Key or value have the wrong length.
    #[error("map {map} takes no key of {key} and value of {value} bytes")]
    Shape {
        /// The map.
        map: Map,
        /// The key's length.
        key: usize,
        /// The value's length.
        value: usize,
    },
    /// The kernel refused.
    #[error("map {map}: {operation}: {}", std::io::Error::from_raw_os_error(*errno))]
    Kernel {
        /// The map.
        map: Map,
        /// The system call or its command.
        operation: &'static str,
        /// The error number.
        errno: i32,
    },
}

/// Holds the maps, as bytes laid out by [`lb_ebpf::abi`]. Every operation is idempotent. Where the kernel pads values
/// (array elements are multiples of 8 bytes), the store adds the padding and takes it off.
pub trait MapStore {
    /// Writes a value. A run is written whole, before any word names it.
    fn set(&mut self, map: Map, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes a key; a key that is not there is no error. Backends, which live in an array, are zeroed. Runs are
    /// never removed: nothing names them.
    fn remove(&mut self, map: Map, key: &[u8]) -> Result<(), StoreError>;

    /// Returns all entries. Free backends (`flags` zero) are left out. Of the arena, it holds at least every run that
    /// a word in the frontend maps names; what else it holds does not matter.
    fn dump(&self, map: Map) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError>;

    /// The number of entries, or of lines, that the map has room for.
    fn capacity(&self, map: Map) -> u32;
}
