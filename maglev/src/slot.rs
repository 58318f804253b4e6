//! Where a hash falls in a table.

/// Maps a hash evenly to `0..size`: the upper half of the 64-bit product, so no division.
///
/// The upper bits of the hash decide; neighbouring hashes share a slot. A size of 0 gives 0.
#[inline(always)]
pub const fn slot(hash: u32, size: u32) -> u32 {
    ((hash as u64 * size as u64) >> 32) as u32
}
