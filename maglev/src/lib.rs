//! Consistent hashing for a load balancer: a flow picks a slot, a slot names a backend, and every node that knows
//! the same backends holds the same table.
//!
//! It follows Maglev (Eisenbud et al., NSDI 2016) in the flavour of Cilium's agent: the same backend keys, the same
//! murmur3 permutation, the same weights, the same seed format, hence the same table slot by slot. Nothing in it
//! depends on the process, the build, the order of the input or a node's own backend ids.
//!
//! # Layout
//!
//! * [`mod@hash`]: a flow's words to 32 bits, for the kernel programs and the agent alike; small, without branches or
//!   panics, as the BPF verifier likes it.
//! * [`mod@slot`]: those 32 bits to a slot, without division.
//! * `fill` (feature `build`, needs an allocator, agent only): backends and weights to a table, and its digest.
//!
//! # Major parts
//!
//! The kernel's half is two calls:
//!
//! ```
//! let words = [u32::from_be_bytes([10, 0, 0, 1]), u32::from_be_bytes([10, 96, 0, 10]), 40_000 << 16 | 80, 6];
//! let slot = maglev::slot(maglev::hash(&words, 0), 16_381);
//! assert!(slot < 16_381);
//! ```
//!
//! The agent's half is `fill::fill`, or a `fill::Filler` where one set of backends changes often.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "build")]
extern crate alloc;

#[cfg(feature = "build")]
pub mod fill;
pub mod hash;
pub mod slot;

pub use hash::hash;
pub use slot::slot;
