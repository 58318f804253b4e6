//! murmur3, the 128-bit variant for 64-bit machines (Appleby, public domain): the hash behind the permutations.

use super::MIX;

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// Hashes bytes to two 64-bit halves.
pub(crate) fn murmur3_x64_128(bytes: &[u8], seed: u32) -> (u64, u64) {
    let mut state = Murmur3::new(seed);
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        let (low, high) = halves(block);
        state.block(low, high);
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let (low, high) = halves(&last);
    state.finish(low, high, bytes.len() as u64)
}

fn halves(block: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*block);
    (both as u64, (both >> 64) as u64)
}

/// The running state, for input that comes as 16-byte blocks.
pub(crate) struct Murmur3 {
    h1: u64,
    h2: u64,
}

impl Murmur3 {
    /// Starts with both halves at the seed.
    pub(crate) fn new(seed: u32) -> Self {
        Self { h1: seed.into(), h2: seed.into() }
    }

    /// Takes in one whole block, as two little-endian numbers.
    pub(crate) fn block(&mut self, k1: u64, k2: u64) {
        self.h1 ^= scramble_low(k1);
        self.h1 = self.h1.rotate_left(27).wrapping_add(self.h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        self.h2 ^= scramble_high(k2);
        self.h2 = self.h2.rotate_left(31).wrapping_add(self.h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }

    /// Takes in the bytes after the last whole block, zero-filled, and gives the two halves.
    pub(crate) fn finish(self, k1: u64, k2: u64, length: u64) -> (u64, u64) {
        // A tail of zeros scrambles to zero, so a missing half needs no case of its own.
        let mut h1 = self.h1 ^ scramble_low(k1) ^ length;
        let mut h2 = self.h2 ^ scramble_high(k2) ^ length;
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        h1 = mix(h1);
        h2 = mix(h2);
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        (h1, h2)
    }
}

fn scramble_low(k1: u64) -> u64 {
    k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn scramble_high(k2: u64) -> u64 {
    k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(MIX[0]);
    h = (h ^ (h >> 33)).wrapping_mul(MIX[1]);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers that the ports of murmur3 to other languages test against.
    #[test]
    fn known_answers() {
        for (text, seed, want) in [
            ("", 0, (0, 0)),
            ("hello", 0, (0xcbd8_a7b3_41bd_9b02, 0x5b1e_906a_48ae_1d19)),
            ("hello, world", 0, (0x342f_ac62_3a5e_bc8e, 0x4cdc_bc07_9642_414d)),
            ("19 Jan 2038 at 3:14:07 AM", 0, (0xb89e_5988_b737_affc, 0x664f_c295_0231_b2cb)),
            ("The quick brown fox jumps over the lazy dog.", 0, (0xcd99_481f_9ee9_02c9, 0x695d_a1a3_8987_b6e7)),
            ("", 1, (0x4610_abe5_6eff_5cb5, 0x5162_2daa_78f8_3583)),
            ("hello", 1, (0xa78d_dff5_adae_8d10, 0x1289_00ef_2090_0135)),
        ] {
            assert_eq!(murmur3_x64_128(text.as_bytes(), seed), want, "{text:?}, seed {seed}");
        }
    }
}
