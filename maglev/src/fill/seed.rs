//! The number that every node of a cluster shares.

use super::FillError;

/// 12 bytes that tell the tables and the flow hash of one cluster from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed([u8; Self::BYTES]);

impl Seed {
    /// How many bytes a seed has.
    pub const BYTES: usize = 12;

    /// How many characters of base64 they take; no padding is left over.
    pub const CHARACTERS: usize = Self::BYTES / 3 * 4;

    /// Cilium's default.
    pub const DEFAULT: Self = match Self::parse("JLfvgnHc2kaSUFaI") {
        Ok(seed) => seed,
        Err(_) => panic!("the default is base64 of 12 bytes"),
    };

    /// Reads base64 with the standard alphabet (RFC 4648 section 4), as Cilium's `bpf-lb-maglev-hash-seed` has it.
    pub const fn parse(text: &str) -> Result<Self, FillError> {
        let Some(text) = text.as_bytes().as_array::<{ Self::CHARACTERS }>() else {
            return Err(FillError::SeedLength { length: text.len() });
        };
        let mut bytes = [0; Self::BYTES];
        let mut position = 0;
        while position < text.len() {
            let Some(value) = sextet(text[position]) else {
                return Err(FillError::SeedNotBase64 { byte: text[position], position });
            };
            // Six bits from bit 6 * position on, counted from the left; some may belong to the next byte.
            let (byte, shift) = (position * 6 / 8, 10 - position * 6 % 8);
            let bits = (value as u16) << shift;
            bytes[byte] |= (bits >> 8) as u8;
            if bits as u8 != 0 {
                bytes[byte + 1] |= bits as u8;
            }
            position += 1;
        }
        Ok(Self(bytes))
    }

    /// The seed of the permutations: the first four bytes, as a big-endian number.
    pub const fn permutation(self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// The seed of the flow [`hash`](crate::hash()): the next four bytes, likewise.
    pub const fn flow(self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }
}

const fn sextet(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

impl Default for Seed {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_table() {
        let not_base64 = |byte, position| Err(FillError::SeedNotBase64 { byte, position });
        for (name, text, want) in [
            ("counting bytes", "AAECAwQFBgcICQoL", Ok([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])),
            ("every bit", "////////////////", Ok([0xff; 12])),
            (
                "the whole alphabet's ends",
                "+/+/AZaz09AZaz09",
                Ok([251, 255, 191, 1, 150, 179, 211, 208, 25, 107, 61, 61]),
            ),
            ("nothing", "", Err(FillError::SeedLength { length: 0 })),
            ("16 bytes, as older Cilium had", "FYJf2hrSynYxcZrkMWTGYA==", Err(FillError::SeedLength { length: 24 })),
            ("padding", "AAECAwQFBgcICQo=", not_base64(b'=', 15)),
            ("the alphabet of URLs", "AAECAwQFBgcICQ_-", not_base64(b'_', 14)),
            ("a space", " AECAwQFBgcICQoL", not_base64(b' ', 0)),
            ("16 bytes of other letters", "ääääääää", not_base64(0xc3, 0)),
        ] {
            assert_eq!(Seed::parse(text).map(|seed| seed.0), want, "{name}");
        }
    }

    #[test]
    fn default_halves() {
        assert_eq!(Seed::default().permutation(), 0x24b7_ef82);
        assert_eq!(Seed::default().flow(), 0x71dc_da46);
    }
}
