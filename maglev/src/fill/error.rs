//! What is wrong with a size or a seed.

use super::{Seed, Size};

/// A parameter that no table can be made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The number of slots is not one of [`Size::ALL`].
    #[error("maglev table size {size} is not one of {all:?}", all = Size::ALL)]
    UnknownSize {
        /// The number given.
        size: u32,
    },
    /// The seed is not as long as the base64 of 12 bytes.
    #[error("maglev seed has {length} characters, base64 of {bytes} bytes has {want}", bytes = Seed::BYTES, want = Seed::CHARACTERS)]
    SeedLength {
        /// Its number of bytes.
        length: usize,
    },
    /// The seed holds a byte outside the base64 alphabet (RFC 4648 section 4).
    #[error("maglev seed is not base64: byte {byte:#04x} at position {position}")]
    SeedNotBase64 {
        /// The first such byte.
        byte: u8,
        /// Where it is, from 0.
        position: usize,
    },
}
