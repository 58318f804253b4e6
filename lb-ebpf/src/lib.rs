//! Everything the kernel decides, as pure code.
//!
//! [`abi`] holds the layouts that kernel and agent share; [`tables`] is how a decision sees the maps; [`socket`] is
//! the decision at a socket. The same functions run in the BPF object (`src/main.rs`, `src/programs/`), in host tests
//! and in the agent's offline answers. No aya, no allocator.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod abi;
pub mod socket;
pub mod tables;
