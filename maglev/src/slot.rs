//! Where a hash falls in a table.

/// Maps a hash evenly to `0..size`: the upper half of the 64-bit product, so no division.
///
/// The upper bits of the hash decide; neighbouring hashes share a slot. A size of 0 gives 0.
#[inline(always)]
pub const fn slot(hash: u32, size: u32) -> u32 {
    ((hash as u64 * size as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_table() {
        for (name, hash, size, want) in [
            ("the smallest hash is the first slot", 0, 16_381, 0),
            ("the largest hash is the last slot", u32::MAX, 16_381, 16_380),
            ("half of the range is half of the table", 1 << 31, 65_537, 32_768),
            ("one slot takes all", u32::MAX, 1, 0),
            ("an empty table has only a slot that nobody reads", u32::MAX, 0, 0),
            ("the largest size stays below itself", u32::MAX, u32::MAX, u32::MAX - 1),
        ] {
            assert_eq!(slot(hash, size), want, "{name}");
        }
    }

    #[test]
    fn slots_differ_by_at_most_one_hash_in_their_share() {
        // All 2^16 values of the upper half, over a table that does not divide them.
        let mut counts = [0u32; 251];
        for upper in 0..=u32::from(u16::MAX) {
            counts[slot(upper << 16, 251) as usize] += 1;
        }
        let (min, max) = (counts.iter().min(), counts.iter().max());
        assert_eq!((min, max), (Some(&261), Some(&262)));
    }
}
