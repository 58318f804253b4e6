//! Addresses, ports and ranges.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A transport protocol that a Service can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, IP protocol 6: the default of the API.
    #[default]
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132 (KEP-614).
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of an IP protocol number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A range of addresses in prefix notation, host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Says why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// There is no `/`.
    #[error("{text:?} has no prefix length")]
    NoPrefix {
        /// The text.
        text: String,
    },
    /// What stands before the `/` is no address.
    #[error("{text:?} does not start with an IP address")]
    Address {
        /// The text.
        text: String,
    },
    /// The prefix length does not fit the address.
    #[error("{text:?} has a prefix length outside 0 to {max}")]
    Prefix {
        /// The text.
        text: String,
        /// 32 or 128.
        max: u8,
    },
}

impl Cidr {
    /// Builds a range; the host bits of `address` are cleared. `None` if the prefix is too long.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { address, prefix })
    }

    /// The first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// True if `address` lies inside.
    pub fn contains(&self, address: &IpAddr) -> bool {
        Family::of(address) == Family::of(&self.address)
            && Self::new(*address, self.prefix).is_some_and(|cut| cut.address == self.address)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let owned = || text.to_owned();
        let (address, prefix) = text.split_once('/').ok_or_else(|| CidrError::NoPrefix { text: owned() })?;
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address { text: owned() })?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        prefix
            .parse()
            .ok()
            .filter(|_| !prefix.starts_with('+'))
            .and_then(|prefix| Self::new(address, prefix))
            .ok_or_else(|| CidrError::Prefix { text: owned(), max })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_table() {
        for (name, text, want) in [
            ("plain", "10.0.0.0/8", Ok("10.0.0.0/8")),
            ("host bits are cleared", "10.1.2.3/8", Ok("10.0.0.0/8")),
            ("everything", "0.0.0.0/0", Ok("0.0.0.0/0")),
            ("one host", "2001:db8::1/128", Ok("2001:db8::1/128")),
            ("v6 is cut", "2001:db8::1/64", Ok("2001:db8::/64")),
            ("no prefix", "10.0.0.1", Err("\"10.0.0.1\" has no prefix length")),
            ("too long", "10.0.0.0/33", Err("\"10.0.0.0/33\" has a prefix length outside 0 to 32")),
            ("sign", "10.0.0.0/+8", Err("\"10.0.0.0/+8\" has a prefix length outside 0 to 32")),
            ("no address", "ten/8", Err("\"ten/8\" does not start with an IP address")),
        ] {
            let got = text.parse::<Cidr>().map(|cidr| cidr.to_string()).map_err(|error| error.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{name}");
        }
    }

    #[test]
    fn contains_keeps_families_apart() {
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(&"203.0.113.9".parse().unwrap()));
        assert!(!all.contains(&"::1".parse().unwrap()));
    }
}
