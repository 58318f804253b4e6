//! Address ranges: what a node's `podCIDRs` are made of.

use std::{fmt, net::IpAddr, str::FromStr};

use anyhow::{Context, ensure};

/// A range of addresses, `NETWORK/LENGTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    length: u8,
}

impl Cidr {
    /// Returns whether the range is of the same family as `address`.
    pub fn same_family(&self, address: &IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4()
    }

    /// Returns whether the range holds `address`.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.same_family(address) && self.masked(address) == self.masked(&self.network)
    }

    /// Returns whether this is a range of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    /// Returns the first address that `taken` does not hold.
    ///
    /// The network's own address, a router's customary first one and IPv4's broadcast address are never given.
    pub fn next_free(&self, taken: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let bits: u32 = if self.is_ipv4() { 32 } else { 128 };
        let host_bits = bits - u32::from(self.length);
        let count = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        let last = if self.is_ipv4() { count.saturating_sub(1) } else { count };
        (2..last).map(|host| self.at(host)).find(|address| !taken(address))
    }

    fn at(&self, host: u128) -> IpAddr {
        let address = number(&self.network) | host;
        if self.is_ipv4() {
            IpAddr::V4(u32::try_from(address).expect("an IPv4 network plus a host of it fits in 32 bits").into())
        } else {
            IpAddr::V6(address.into())
        }
    }

    fn masked(&self, address: &IpAddr) -> u128 {
        let bits: u32 = if self.is_ipv4() { 32 } else { 128 };
        number(address).checked_shr(bits - u32::from(self.length)).unwrap_or(0)
    }
}

fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(*v4).into(),
        IpAddr::V6(v6) => (*v6).into(),
    }
}

impl FromStr for Cidr {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (network, length) = text.split_once('/').with_context(|| format!("`{text}` is not ADDRESS/LENGTH"))?;
        let network: IpAddr = network.parse().with_context(|| format!("`{text}` is not ADDRESS/LENGTH"))?;
        let length: u8 = length.parse().with_context(|| format!("`{text}` is not ADDRESS/LENGTH"))?;
        ensure!(length <= if network.is_ipv4() { 32 } else { 128 }, "`{text}`: the length is too large");
        let cidr = Self { network, length };
        let host_part = number(&network) != cidr.masked(&network).checked_shl(host_bits(&cidr)).unwrap_or(0);
        ensure!(!host_part, "`{text}`: the address has bits beyond the length");
        Ok(cidr)
    }
}

fn host_bits(cidr: &Cidr) -> u32 {
    (if cidr.is_ipv4() { 32 } else { 128 }) - u32::from(cidr.length)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_table() {
        for (name, cidr, address, want) in [
            ("inside", "10.0.1.0/24", "10.0.1.9", true),
            ("beside", "10.0.1.0/24", "10.0.2.9", false),
            ("other family", "::/0", "10.0.1.9", false),
            ("everything", "0.0.0.0/0", "10.0.1.9", true),
            ("one address", "fd00::1/128", "fd00::1", true),
            ("v6 beside", "fd00:1::/64", "fd00:2::1", false),
        ] {
            let cidr: Cidr = cidr.parse().expect(name);
            assert_eq!(cidr.contains(&address.parse().expect(name)), want, "{name}");
        }
    }

    #[test]
    fn next_free_table() {
        for (name, cidr, taken, want) in [
            ("the third address is the first given", "10.0.1.0/24", vec![], Some("10.0.1.2")),
            ("holes are filled", "10.0.1.0/24", vec!["10.0.1.2", "10.0.1.4"], Some("10.0.1.3")),
            ("the broadcast address is not given", "10.0.1.0/30", vec!["10.0.1.2"], None),
            ("v6", "fd00::/64", vec!["fd00::2"], Some("fd00::3")),
            ("a single address has none to give", "10.0.1.1/32", vec![], None),
        ] {
            let cidr: Cidr = cidr.parse().expect(name);
            let got = cidr.next_free(|address| taken.contains(&address.to_string().as_str()));
            assert_eq!(got.map(|address| address.to_string()).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn refuses_malformed() {
        for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.1/24", "x/8", "fd00::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
