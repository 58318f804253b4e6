//! The flow hash of kernel and agent.

/// Steps between the keys of neighbouring words: 2^32 over the golden ratio, odd.
const KEY_STEP: u32 = 0x9e37_79b9;

/// Spreads the seed over the 64-bit sum: 2^64 over the golden ratio, odd.
const SEED_SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The multipliers of murmur3's 64-bit finalizer (Appleby, public domain).
pub(crate) const MIX: [u64; 2] = [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53];

/// Hashes `N` words to 32 bits.
///
/// A sum of products of word pairs (the NH hash of UMAC, RFC 4418: two inputs collide with a chance of about 2^-32),
/// then a finalizer that lets every input bit reach every output bit. An odd last word is paired with zero.
///
/// The words are numbers: both sides, and every node, must read an address from its bytes in the same way. There is
/// no secret in it: who knows the seed can choose flows that share a slot.
#[inline(always)]
pub const fn hash<const N: usize>(words: &[u32; N], seed: u32) -> u32 {
    let mut sum = (seed as u64).wrapping_mul(SEED_SPREAD).wrapping_add(N as u64);
    let mut key = seed;
    let mut i = 0;
    while i < N {
        let left_key = key.wrapping_add(KEY_STEP);
        let right_key = left_key.wrapping_add(KEY_STEP);
        let left = words[i].wrapping_add(left_key);
        let right = if i + 1 < N { words[i + 1].wrapping_add(right_key) } else { right_key };
        sum = sum.wrapping_add((left as u64).wrapping_mul(right as u64));
        key = right_key;
        i += 2;
    }
    sum = (sum ^ (sum >> 33)).wrapping_mul(MIX[0]);
    sum = (sum ^ (sum >> 33)).wrapping_mul(MIX[1]);
    (sum >> 32) as u32
}
