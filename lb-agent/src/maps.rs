//! The maps as stores of bytes.

pub mod raw;
