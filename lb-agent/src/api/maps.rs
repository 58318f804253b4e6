//! What the maps hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Every entry of every map, by the map's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MapsDump(pub BTreeMap<String, Vec<MapEntry>>);

/// One entry of a map. The inside of key and value follows the layout of the maps, and changes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapEntry {
    /// The key.
    pub key: Value,
    /// The value.
    pub value: Value,
}

/// A Maglev table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaglevShow {
    /// The number of slots.
    pub size: u32,
    /// How many of them each backend has, by `ADDR:PORT`.
    pub slots: BTreeMap<String, u32>,
    /// A digest of the whole table as hexadecimal text, equal on every node that sees the same backends.
    pub digest: String,
}
