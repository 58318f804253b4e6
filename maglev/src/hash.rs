//! The flow hash of kernel and agent.

#[cfg(feature = "build")]
pub(crate) mod murmur3;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot;

    extern crate std;
    use std::vec;

    /// A fixed sequence of numbers (SplitMix64), so that a failure repeats.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z >> 32) as u32
        }
    }

    const CLIENT: u32 = u32::from_be_bytes([10, 244, 1, 7]);
    const SERVICE: u32 = u32::from_be_bytes([10, 96, 0, 10]);

    #[test]
    fn hash_is_the_same_in_every_build() {
        for (name, words, seed, want) in [
            ("zeros", [0, 0, 0, 0], 0, 0x4850_23ef),
            ("a connection", [CLIENT, SERVICE, 40_000 << 16 | 80, 6], 0, 0x8b5a_4d61),
            ("a connection, another seed", [CLIENT, SERVICE, 40_000 << 16 | 80, 6], 1, 0xebcb_40b1),
        ] {
            assert_eq!(hash(&words, seed), want, "{name}");
        }
        assert_eq!(hash(&[CLIENT, SERVICE, 40_000 << 16 | 80], 0), 0x35a4_1b6a, "an odd number of words");
        let ipv6 = [0xfd00_0000, 0, 0, 1, 0xfd00_0000, 0, 0, 1, 40_000 << 16 | 80, 6];
        assert_eq!(hash(&ipv6, 0), 0x9204_a031, "IPv6");
    }

    #[test]
    fn every_input_bit_reaches_every_output_bit() {
        avalanche::<1>();
        avalanche::<3>();
        avalanche::<4>();
        avalanche::<10>();
    }

    fn avalanche<const N: usize>() {
        const SAMPLES: u32 = 4096;
        let mut numbers = Numbers(N as u64);
        for bit in 0..N * 32 {
            let mut flips = [0u32; 32];
            for _ in 0..SAMPLES {
                let words: [u32; N] = core::array::from_fn(|_| numbers.next());
                let mut other = words;
                other[bit / 32] ^= 1 << (bit % 32);
                let changed = hash(&words, 0) ^ hash(&other, 0);
                for (out, flips) in flips.iter_mut().enumerate() {
                    *flips += changed >> out & 1;
                }
            }
            for (out, flips) in flips.into_iter().enumerate() {
                // Six standard deviations of a fair coin.
                assert!(flips.abs_diff(SAMPLES / 2) < 192, "{N} words, bit {bit} flips output {out}: {flips}");
            }
        }
    }

    #[test]
    fn flows_that_differ_little_spread_evenly() {
        type Flow = fn(u32) -> [u32; 4];
        let flows: [(&str, Flow); 5] = [
            ("source ports of one client", |i| [CLIENT, SERVICE, (1024 + i % 64_000) << 16 | 80, 6 + i / 64_000]),
            ("clients of one network", |i| [CLIENT + i, SERVICE, 40_000 << 16 | 80, 6]),
            ("a client in each /16", |i| [CLIENT.wrapping_add(i << 16), SERVICE + (i >> 16), 40_000 << 16 | 80, 6]),
            ("services in a row", |i| [CLIENT, SERVICE + i, 40_000 << 16 | 80, 6]),
            ("addresses and ports that move together", |i| [CLIENT + i, SERVICE + i, i << 16 | i & 0xffff, 6]),
        ];
        for (name, flow) in flows {
            for size in [251u32, 1021, 4093, 16_381] {
                for seed in [0, 1, 0x24b7_ef82] {
                    let mut counts = vec![0u32; size as usize];
                    let total = size * 20;
                    for i in 0..total {
                        counts[slot(hash(&flow(i), seed), size) as usize] += 1;
                    }
                    let chi = chi_square(&counts, total);
                    let limit = chi_limit(size - 1);
                    assert!(chi < limit, "{name}, size {size}, seed {seed:#x}: {chi} over {limit}");
                }
            }
        }
    }

    fn chi_square(counts: &[u32], total: u32) -> f64 {
        let want = f64::from(total) / counts.len() as f64;
        counts.iter().map(|&n| (f64::from(n) - want).powi(2) / want).sum()
    }

    /// The value that a chi-square variable exceeds once in 100,000 (Wilson and Hilferty's approximation).
    fn chi_limit(freedom: u32) -> f64 {
        let k = f64::from(freedom);
        k * (1.0 - 2.0 / (9.0 * k) + 4.265 * (2.0 / (9.0 * k)).sqrt()).powi(3)
    }

    #[test]
    fn neither_seed_nor_length_nor_order_is_lost() {
        assert_ne!(hash(&[1, 2], 0), hash(&[1, 2], 1), "seed");
        assert_ne!(hash(&[1], 0), hash(&[1, 0], 0), "length");
        assert_ne!(hash(&[1, 2], 0), hash(&[2, 1], 0), "order in a pair");
        assert_ne!(hash(&[1, 2, 3, 4], 0), hash(&[3, 4, 1, 2], 0), "order of pairs");
    }

    #[test]
    fn a_million_flows_collide_as_often_as_chance_has_it() {
        let mut hashes = vec![];
        for client in 0..1000 {
            for port in 0..1000 {
                hashes.push(hash(&[CLIENT + client, SERVICE, (32_768 + port) << 16 | 443, 6], 0));
            }
        }
        hashes.sort_unstable();
        let same = hashes.windows(2).filter(|pair| pair[0] == pair[1]).count();
        // A million draws from 2^32 meet 116 times on average, with a deviation of 11.
        assert!((60..180).contains(&same), "{same} collisions");
    }
}
