//! Backends to fill tables with.

use maglev::fill::{Backend, BackendKey, Protocol, Seed, Size, fill};

/// The key of one of up to 65,536 backends in one of 256 sets.
pub(crate) fn key(set: u32, i: u32) -> BackendKey {
    let [_, _, high, low] = i.to_be_bytes();
    BackendKey::new([10, set as u8, high, low].into(), 8080, Protocol::Tcp)
}

pub(crate) fn backends(set: u32, count: u32) -> Vec<Backend> {
    (0..count).map(|i| Backend { key: key(set, i), weight: 1 }).collect()
}

pub(crate) fn weighted(weights: &[u32]) -> Vec<Backend> {
    weights.iter().zip(0..).map(|(&weight, i)| Backend { key: key(0, i), weight }).collect()
}

pub(crate) fn table(size: u32, backends: &[Backend]) -> Vec<u32> {
    let mut table = Vec::new();
    fill(Size::new(size).expect("a known size"), Seed::DEFAULT, backends, &mut table);
    table
}

/// Slots of each backend.
pub(crate) fn counts(table: &[u32], backends: &[Backend]) -> Vec<u32> {
    let mut counts = vec![0; backends.len()];
    table.iter().for_each(|&i| counts[i as usize] += 1);
    counts
}
