//! How many slots a table has.

use super::FillError;

/// A number of slots that is prime, so that every walk visits all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u32);

impl Size {
    /// The sizes that Cilium takes (`bpf-lb-maglev-table-size`), and 65537, the paper's.
    pub const ALL: [u32; 11] = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 65_537, 131_071];

    /// Cilium's default, good for about 160 backends.
    pub const DEFAULT: Self = Self(16_381);

    /// Takes one of [`Size::ALL`].
    pub fn new(size: u32) -> Result<Self, FillError> {
        if Self::ALL.contains(&size) { Ok(Self(size)) } else { Err(FillError::UnknownSize { size }) }
    }

    /// The number of slots.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Size {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn size_table() {
        for (name, size, want) in [
            ("the smallest", 251, true),
            ("the default", 16_381, true),
            ("the paper's", 65_537, true),
            ("the largest", 131_071, true),
            ("nothing", 0, false),
            ("a prime outside the list", 257, false),
            ("one off", 16_382, false),
            ("the paper's large one", 655_373, false),
        ] {
            assert_eq!(Size::new(size).is_ok(), want, "{name}");
            assert_eq!(Size::new(size).ok().map(Size::get), want.then_some(size), "{name}");
        }
        assert_eq!(Size::new(Size::DEFAULT.get()), Ok(Size::default()));
    }

    #[test]
    fn a_refused_size_is_named_with_the_choice() {
        assert_eq!(
            Size::new(1000).map_err(|e| e.to_string()),
            Err("maglev table size 1000 is not one of \
                 [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 65537, 131071]"
                .to_string())
        );
    }

    #[test]
    fn every_size_is_prime() {
        for size in Size::ALL {
            assert!((2..).take_while(|d| d * d <= size).all(|d| size % d != 0), "{size}");
        }
    }
}
