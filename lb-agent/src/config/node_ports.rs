//! Which of the node's addresses serve NodePorts.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde_json::Value;

use crate::model::addr::{Cidr, Family};

/// `nodePortAddresses`: words and ranges, as kube-proxy takes them (the words: KEP-6032). A family that no entry
/// names is served on all of its addresses, as kube-proxy has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePortAddresses(Vec<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    All,
    Primary,
    Localhost,
    Range(Cidr),
}

impl NodePortAddresses {
    /// Tells whether NodePorts are served on `address`, which a device of this node holds. `primary` holds the
    /// node's primary address of each family that it has.
    pub fn admits(&self, address: &IpAddr, primary: &[IpAddr]) -> bool {
        let family = Family::of(address);
        let mut of_family = self.0.iter().filter(|entry| entry.names(family)).peekable();
        of_family.peek().is_none() || of_family.any(|entry| entry.admits(address, primary))
    }

    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let entry = |value: &Value| match value.as_str()? {
            "all" => Some(Entry::All),
            "primary" => Some(Entry::Primary),
            "localhost" => Some(Entry::Localhost),
            text => text.parse().ok().map(Entry::Range),
        };
        let entries: Option<Vec<_>> = value.as_array().and_then(|list| list.iter().map(entry).collect());
        entries.map(Self).ok_or_else(|| "a list of all, primary, localhost and ranges (ADDRESS/PREFIX)".to_owned())
    }
}

impl Entry {
    fn names(&self, family: Family) -> bool {
        match self {
            Self::All | Self::Primary | Self::Localhost => true,
            Self::Range(range) => Family::of(&range.address()) == family,
        }
    }

    fn admits(&self, address: &IpAddr, primary: &[IpAddr]) -> bool {
        match self {
            Self::All => true,
            Self::Primary => primary.contains(address),
            Self::Localhost => match address {
                // 127.0.0.0/8 (RFC 1122, 3.2.1.3) and ::1 (RFC 4291, 2.5.3).
                IpAddr::V4(v4) => v4.octets()[0] == Ipv4Addr::LOCALHOST.octets()[0],
                IpAddr::V6(v6) => *v6 == Ipv6Addr::LOCALHOST,
            },
            Self::Range(range) => range.contains(address),
        }
    }
}

impl fmt::Display for NodePortAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, entry) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match entry {
                Entry::All => f.write_str("all")?,
                Entry::Primary => f.write_str("primary")?,
                Entry::Localhost => f.write_str("localhost")?,
                Entry::Range(range) => write!(f, "{range}")?,
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn admits_table() {
        let primary = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let all = ["192.0.2.1", "10.0.0.7", "127.0.0.1", "2001:db8::1", "2001:db8::7", "::1"];
        for (name, list, want) in [
            ("empty is everything", json!([]), all.as_slice()),
            ("all", json!(["all"]), &all),
            ("all beside a word", json!(["all", "primary"]), &all),
            ("primary of both families", json!(["primary"]), &["192.0.2.1", "2001:db8::1"]),
            ("localhost of both families", json!(["localhost"]), &["127.0.0.1", "::1"]),
            (
                "a range leaves the other family whole",
                json!(["10.0.0.0/8"]),
                &["10.0.0.7", "2001:db8::1", "2001:db8::7", "::1"],
            ),
            (
                "a word and a range are a union",
                json!(["primary", "10.0.0.0/8"]),
                &["192.0.2.1", "10.0.0.7", "2001:db8::1"],
            ),
            ("ranges of both", json!(["10.0.0.0/8", "::1/128"]), &["10.0.0.7", "::1"]),
            ("everything by range", json!(["0.0.0.0/0", "::/0"]), &all),
        ] {
            let addresses = NodePortAddresses::parse(&list).unwrap();
            let got: Vec<_> =
                all.into_iter().filter(|text| addresses.admits(&text.parse().unwrap(), &primary)).collect();
            assert_eq!(got, want, "{name}");
        }
    }
}
