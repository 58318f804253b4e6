//! Weights to a plain list of ids, from which one pick at random is a fair one.

/// The longest list of ids: 256 KiB of the arena.
pub(crate) const MAX_LENGTH: u32 = 65_535;

/// Repeats each id by its weight, in lowest terms. Weights that would need a longer list than [`MAX_LENGTH`] are
/// scaled down, each to at least one; of more ids than that, the first are taken.
pub(crate) fn expand(weighted: &[(u32, u32)]) -> Vec<u32> {
    let weighted = &weighted[..weighted.len().min(MAX_LENGTH as usize)];
    let divisor = weighted.iter().fold(0, |divisor, (_, weight)| gcd(divisor, *weight)).max(1);
    let total: u64 = weighted.iter().map(|(_, weight)| u64::from(weight / divisor)).sum();
    // One entry of each id is not scaled, so that the sum of the rounded parts cannot pass the limit.
    let room = u64::from(MAX_LENGTH) - weighted.len() as u64;
    let times = |weight: u32| match u64::from(weight / divisor) {
        0 => 0,
        share if total <= u64::from(MAX_LENGTH) => share,
        share => 1 + (share - 1) * room / total,
    };
    weighted.iter().flat_map(|(id, weight)| std::iter::repeat_n(*id, times(*weight) as usize)).collect()
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn expand_table() {
        for (name, weighted, want) in [
            ("nothing", vec![], vec![]),
            ("equal weights count once", vec![(7, 10), (8, 10)], vec![7, 8]),
            ("lowest terms", vec![(7, 20), (8, 30)], vec![7, 7, 8, 8, 8]),
            ("no weight, no place", vec![(7, 0), (8, 5)], vec![8]),
            ("nobody has weight", vec![(7, 0)], vec![]),
        ] {
            assert_eq!(expand(&weighted), want, "{name}");
        }
    }

    #[test]
    fn long_lists_are_scaled() {
        let weighted: Vec<(u32, u32)> = (0..1000).map(|id| (id, if id % 2 == 0 { 99 } else { 100 })).collect();
        let list = expand(&weighted);
        assert!(list.len() <= MAX_LENGTH as usize, "{} entries", list.len());
        let mut counts = BTreeMap::<u32, u32>::new();
        list.iter().for_each(|id| *counts.entry(*id).or_default() += 1);
        assert_eq!(counts.len(), 1000);
        assert!(counts.values().all(|count| (60..=66).contains(count)), "{:?}", counts.values().max());
    }

    #[test]
    fn the_longest_list_holds_everyone_once() {
        let weighted: Vec<(u32, u32)> = (0..MAX_LENGTH + 5).map(|id| (id, 1 + id % 2)).collect();
        assert_eq!(expand(&weighted), (0..MAX_LENGTH).collect::<Vec<_>>());
    }
}
