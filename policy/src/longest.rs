//! The lookup of an LPM trie as pure code.

use crate::range::{Address, RangeKey, SERVICE_BITS};

/// Returns the key that the kernel would find in a trie that holds `keys`: of those that agree with `asked` in all
/// their bits, the one with most bits (trie_lookup_elem, kernel/bpf/lpm_trie.c). Takes a time linear in the keys.
///
/// A key with more bits than `asked` is never found, as in the kernel.
pub fn longest<'a, A: Address + 'a>(
    keys: impl IntoIterator<Item = &'a RangeKey<A>>,
    asked: &RangeKey<A>,
) -> Option<&'a RangeKey<A>> {
    keys.into_iter().filter(|key| key.bits() <= common_bits(key, asked)).max_by_key(|key| key.bits())
}

/// Counts the leading bits in which two keys agree, at most those that `asked` has.
fn common_bits<A: Address>(key: &RangeKey<A>, asked: &RangeKey<A>) -> u32 {
    let service = key.service.common_bits(asked.service);
    let agreed = if service < SERVICE_BITS { service } else { service + key.address.common_bits(asked.address) };
    agreed.min(asked.bits())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn longest_table() {
        let keys = [
            RangeKey::new(1, [10, 0, 0, 0], 8),
            RangeKey::new(1, [10, 1, 0, 0], 16),
            RangeKey::new(1, [10, 1, 2, 3], 32),
            RangeKey::new(2, [0, 0, 0, 0], 0),
        ];
        for (name, service, client, want) in [
            ("the network", 1, [10, 9, 9, 9], Some(8)),
            ("the longer network", 1, [10, 1, 9, 9], Some(16)),
            ("the host", 1, [10, 1, 2, 3], Some(32)),
            ("outside", 1, [11, 0, 0, 1], None),
            ("everybody", 2, [203, 0, 113, 9], Some(0)),
            ("a service without ranges", 3, [10, 1, 2, 3], None),
        ] {
            let found = longest(&keys, &RangeKey::lookup(service, client));
            assert_eq!(found.map(RangeKey::length), want, "{name}");
            assert!(found.is_none_or(|key| key.owner() == service), "{name}: a range of another service");
        }
        let short = RangeKey::new(1, [10, 1, 0, 0], 12);
        assert_eq!(longest(&keys, &short).map(RangeKey::length), Some(8), "longer keys are not found by a short one");
    }

    fn clustered() -> impl Strategy<Value = [u8; 4]> {
        (9u8..12, 0u8..3, 0u8..3, any::<u8>()).prop_map(|(a, b, c, d)| [a, b, c, d])
    }

    proptest! {
        /// Against plain arithmetic: an address is in a range if it lies between the first and the last one.
        #[test]
        fn agrees_with_arithmetic(
            ranges in prop::collection::btree_set((0u32..3, clustered(), 0u32..33), 0..24),
            service in 0u32..3,
            client in clustered(),
        ) {
            let keys: BTreeSet<_> = ranges.iter().map(|(service, first, length)| RangeKey::new(*service, *first, *length)).collect();
            let want = ranges
                .iter()
                .filter(|(owner, first, length)| {
                    let size = 1u64 << (32 - length);
                    let first = u64::from(u32::from_be_bytes(*first)) / size * size;
                    let client = u64::from(u32::from_be_bytes(client));
                    *owner == service && (first..first + size).contains(&client)
                })
                .map(|(_, _, length)| *length)
                .max();
            prop_assert_eq!(longest(&keys, &RangeKey::lookup(service, client)).map(RangeKey::length), want);
        }
    }
}
