#![no_std]
#![forbid(unsafe_code)]
//! Consistent hashing.

pub mod hash;
pub mod slot;
