//! Ranges of addresses in CIDR notation.

use alloc::{borrow::ToOwned, string::String};
use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::range::{Address, RangeKey};

/// A range of addresses of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// A range of IPv4 addresses.
    V4(Range<[u8; 4]>),
    /// A range of IPv6 addresses.
    V6(Range<[u8; 16]>),
}

/// A range of addresses of one family, host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range<A> {
    address: A,
    length: u32,
}

/// Says why a text is no range of client addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// There is no `/`.
    NoLength {
        /// The text.
        text: String,
    },
    /// What stands before the `/` is no address.
    Address {
        /// The text.
        text: String,
    },
    /// The prefix length is no number, or does not fit the address.
    Length {
        /// The text.
        text: String,
        /// 32 or 128.
        max: u32,
    },
    /// The range is IPv4 inside IPv6, which no client's address matches.
    Mapped {
        /// The text.
        text: String,
    },
}

impl<A: Address> Range<A> {
    /// Builds a range; host bits are cleared. `None` if the length does not fit the address.
    pub fn new(address: A, length: u32) -> Option<Self> {
        (length <= A::BITS).then(|| Self { address: address.masked(length), length })
    }

    /// The first address, network order.
    pub const fn address(&self) -> A {
        self.address
    }

    /// The prefix length in bits.
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// True if `address` lies inside.
    pub fn contains(&self, address: A) -> bool {
        address.common_bits(self.address) >= self.length
    }

    /// The key of this range as a source range of `service`.
    pub fn key(&self, service: u32) -> RangeKey<A> {
        RangeKey::new(service, self.address, self.length)
    }
}

impl Prefix {
    /// Builds a range; host bits are cleared. `None` if the length does not fit the address.
    pub fn new(address: IpAddr, length: u32) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Range::new(v4.octets(), length).map(Self::V4),
            IpAddr::V6(v6) => Range::new(v6.octets(), length).map(Self::V6),
        }
    }

    /// True if `address` is of the same family and lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(range), IpAddr::V4(v4)) => range.contains(v4.octets()),
            (Self::V6(range), IpAddr::V6(v6)) => range.contains(v6.octets()),
            (Self::V4(_), IpAddr::V6(_)) | (Self::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Parses `ADDRESS/LENGTH`. Blanks around it do not count, as the Kubernetes API lets them pass.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let text = text.trim();
        let owned = || text.to_owned();
        let (address, length) = text.split_once('/').ok_or_else(|| PrefixError::NoLength { text: owned() })?;
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Address { text: owned() })?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let length = parse_length(length).ok_or_else(|| PrefixError::Length { text: owned(), max })?;
        let prefix = Self::new(address, length).ok_or_else(|| PrefixError::Length { text: owned(), max })?;
        match prefix {
            Self::V6(range) if MAPPED.contains(range.address) && range.length >= MAPPED.length => {
                Err(PrefixError::Mapped { text: owned() })
            }
            Self::V4(_) | Self::V6(_) => Ok(prefix),
        }
    }
}

/// `::ffff:0:0/96` (RFC 4291, 2.5.5.2).
const MAPPED: Range<[u8; 16]> = Range { address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0], length: 96 };

/// Parses decimal digits: [`u32::from_str`] alone takes a sign.
fn parse_length(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(range) => write!(f, "{}/{}", Ipv4Addr::from(range.address), range.length),
            Self::V6(range) => write!(f, "{}/{}", Ipv6Addr::from(range.address), range.length),
        }
    }
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLength { text } => write!(f, "{text:?} has no prefix length"),
            Self::Address { text } => write!(f, "{text:?} does not start with an IP address"),
            Self::Length { text, max } => write!(f, "{text:?} has a prefix length outside 0 to {max}"),
            Self::Mapped { text } => write!(f, "{text:?} is IPv4 inside IPv6: write it as IPv4"),
        }
    }
}

impl core::error::Error for PrefixError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parse_table() {
        for (name, text, want) in [
            ("plain", "10.0.0.0/8", Ok("10.0.0.0/8")),
            ("host bits are cleared", "10.1.2.3/8", Ok("10.0.0.0/8")),
            ("everything", "0.0.0.0/0", Ok("0.0.0.0/0")),
            ("one host", "2001:db8::1/128", Ok("2001:db8::1/128")),
            ("IPv6 is cut", "2001:db8::1/64", Ok("2001:db8::/64")),
            ("everything of IPv6", "::/0", Ok("::/0")),
            ("blanks", " 192.0.2.0/24\t", Ok("192.0.2.0/24")),
            ("length with a zero", "10.0.0.0/08", Ok("10.0.0.0/8")),
            ("around the mapped addresses", "::fffe:0:0/95", Ok("::fffe:0:0/95")),
            ("nothing", "", Err("\"\" has no prefix length")),
            ("no length", "10.0.0.1", Err("\"10.0.0.1\" has no prefix length")),
            ("empty length", "10.0.0.0/", Err("\"10.0.0.0/\" has a prefix length outside 0 to 32")),
            ("too long", "10.0.0.0/33", Err("\"10.0.0.0/33\" has a prefix length outside 0 to 32")),
            ("too long for IPv6", "::/129", Err("\"::/129\" has a prefix length outside 0 to 128")),
            ("longer than a number", "::/4294967304", Err("\"::/4294967304\" has a prefix length outside 0 to 128")),
            ("plus", "10.0.0.0/+8", Err("\"10.0.0.0/+8\" has a prefix length outside 0 to 32")),
            ("minus", "10.0.0.0/-1", Err("\"10.0.0.0/-1\" has a prefix length outside 0 to 32")),
            ("netmask", "10.0.0.0/255.0.0.0", Err("\"10.0.0.0/255.0.0.0\" has a prefix length outside 0 to 32")),
            ("two lengths", "10.0.0.0/8/8", Err("\"10.0.0.0/8/8\" has a prefix length outside 0 to 32")),
            ("blank within", "10.0.0.0 /8", Err("\"10.0.0.0 /8\" does not start with an IP address")),
            ("no address", "ten/8", Err("\"ten/8\" does not start with an IP address")),
            ("zone", "fe80::1%eth0/64", Err("\"fe80::1%eth0/64\" does not start with an IP address")),
            (
                "IPv4 in IPv6",
                "::ffff:10.0.0.0/104",
                Err("\"::ffff:10.0.0.0/104\" is IPv4 inside IPv6: write it as IPv4"),
            ),
        ] {
            let got = text.parse::<Prefix>().map(|prefix| prefix.to_string()).map_err(|error| error.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{name}");
        }
    }

    #[test]
    fn families_are_kept_apart() {
        let all = Prefix::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).expect("0 fits");
        assert!(all.contains(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9))));
        assert!(!all.contains(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }

    proptest! {
        #[test]
        fn text_and_back(address in any::<IpAddr>(), length in 0u32..129) {
            let Some(prefix) = Prefix::new(address, length) else {
                prop_assert!(address.is_ipv4() && length > 32);
                return Ok(());
            };
            match prefix.to_string().parse::<Prefix>() {
                Ok(parsed) => prop_assert_eq!(parsed, prefix),
                Err(PrefixError::Mapped { .. }) => prop_assert!(length >= 96),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<Prefix>();
        }

        /// A range, its key and the trie's lookup agree on who is inside.
        #[test]
        fn a_range_admits_what_its_key_admits(first in any::<[u8; 16]>(), length in 0u32..129, client in any::<[u8; 16]>(), near in 0u32..129) {
            let range = Range::new(first, length).expect("fits");
            // A client that shares `near` bits with the range, so that both answers occur.
            let mixed = u128::from_be_bytes(first.masked(near)) | (u128::from_be_bytes(client) & !u128::from_be_bytes([255; 16].masked(near)));
            let client = mixed.to_be_bytes();
            let keys = [range.key(7)];
            let found = crate::longest(&keys, &RangeKey::lookup(7, client)).is_some();
            prop_assert_eq!(found, range.contains(client));
            prop_assert_eq!(found, client.masked(length) == range.address());
        }
    }
}
