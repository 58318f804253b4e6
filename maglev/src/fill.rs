//! Backends and weights to a table.
//!
//! Each backend walks the slots in an order of its own, given by its key and the seed. The backends take turns in the
//! order of their keys; in its turn a backend takes the first free slot of its walk. A weight changes how often a
//! backend has its turn. The result is a table of `size` numbers in which each backend has its share of slots, and
//! which changes little when the backends do.
//!
//! # Layout
//!
//! * [`Size`], [`Seed`], [`BackendKey`]: what the table depends on, valid by construction.
//! * [`fill`]: one table from one list. Only keys and weights count; the order of the list does not.
//! * [`Filler`]: the same table from a set that changes, without hashing and sorting again what stayed.
//! * [`digest`]: 64 bits that are equal on every node exactly when key after key the tables are.
//!
//! # Rules
//!
//! * Weight 0: the backend gets no slot. No backend with a weight: an empty table.
//! * A key that comes twice counts once, with the larger weight; its slots carry the first index that has a weight.
//! * Equal weights: two backends differ by one slot at most. Else the slots follow the weights to a few turns, and a
//!   backend with any weight has its first turn in the first round.
//! * More backends than slots: the last ones by key get none, as in Cilium. A size of 100 slots a backend keeps
//!   shares within 1 % of each other.
//!
//! Tables equal Cilium's (`pkg/maglev`, 2025) slot by slot, with one exception: Cilium ignores unequal weights when
//! their average is below 2, say 1 and 2; here they count.

mod batch;
mod digest;
mod error;
mod filler;
mod free;
mod key;
mod seed;
mod size;
mod tail;
mod turns;
mod walk;

use alloc::vec::Vec;

pub use digest::{Digest, digest};
pub use error::FillError;
pub use filler::Filler;
pub use key::{BackendKey, Protocol};
pub use seed::Seed;
pub use size::Size;
use walk::Walk;

/// One backend as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What every node calls it.
    pub key: BackendKey,
    /// Its share of the slots, relative to the others; 0 for none.
    pub weight: u32,
}

/// Fills `out` with `size` indices into `backends`, or empties it if none of them has a weight.
pub fn fill(size: Size, seed: Seed, backends: &[Backend], out: &mut Vec<u32>) {
    let live = live(backends);
    let walks = live.iter().map(|&(i, _)| Walk::new(&backends[i as usize].key, size, seed, i)).collect();
    let weights: Vec<u32> = live.iter().map(|&(_, weight)| weight).collect();
    walk::fill(size, walks, &weights, out);
}

/// Index and weight of each backend that has a turn, by key.
fn live(backends: &[Backend]) -> Vec<(u32, u32)> {
    let key = |i: u32| &backends[i as usize].key;
    let mut order: Vec<(u128, u32)> =
        backends.iter().zip(0..).filter(|(b, _)| b.weight > 0).map(|(b, i)| (b.key.prefix(), i)).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))).then(a.1.cmp(&b.1)));
    let mut live: Vec<(u32, u32)> = Vec::with_capacity(order.len());
    for (_, i) in order {
        let weight = backends[i as usize].weight;
        match live.last_mut() {
            Some((first, largest)) if key(*first) == key(i) => *largest = weight.max(*largest),
            _ => live.push((i, weight)),
        }
    }
    live
}
