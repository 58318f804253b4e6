//! What the agent knows of its own node besides the cluster's objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_ebpf::abi::frontend::address_flags;

use crate::{
    config::NodePortAddresses,
    model::{Model, addr::Family},
};

/// This node, as names, labels and devices have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The node's name.
    pub node: String,
    /// Its label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Its primary address of each family: the first InternalIP of the family.
    pub primary: Vec<IpAddr>,
    /// The addresses that devices of the agent's namespace hold, as netlink reports them.
    pub local: BTreeSet<LocalAddress>,
}

/// An address on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// The device's name.
    pub device: String,
}

impl Facts {
    /// Takes zone and primary addresses from the Node object of that name, if there is one.
    pub fn new(model: &Model, node: &str, local: BTreeSet<LocalAddress>) -> Self {
        let object = model.nodes.get(node);
        let ips = object.map_or(&[][..], |node| &node.internal_ips);
        let first = |family| ips.iter().copied().find(|ip| Family::of(ip) == family);
        Self {
            node: node.to_owned(),
            zone: object.and_then(|node| node.zone.clone()),
            primary: Family::ALL.into_iter().filter_map(first).collect(),
            local,
        }
    }

    /// The device that holds an address.
    pub fn device(&self, address: &IpAddr) -> Option<&str> {
        let from = LocalAddress { address: *address, device: String::new() };
        self.local.range(from..).next().filter(|held| held.address == *address).map(|held| held.device.as_str())
    }

    /// The flags of every address that takes NodePorts.
    pub(super) fn node_ports(&self, admitted: &NodePortAddresses) -> BTreeMap<IpAddr, u32> {
        let local = self.local.iter().map(|held| held.address).filter(|address| !is_link_local(address));
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        local
            .chain(loopback)
            .chain(self.primary.iter().copied())
            .filter(|address| admitted.admits(address, &self.primary))
            .map(|address| {
                let scope = if address.is_loopback() { address_flags::HOST_ONLY } else { 0 };
                (address, address_flags::NODE_PORT | scope)
            })
            .collect()
    }
}

/// True for fe80::/10: the same address means another host on another link.
const fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn facts() -> Facts {
        let held = [
            ("192.0.2.1", "eth0"),
            ("10.0.0.1", "cni0"),
            ("127.0.0.1", "lo"),
            ("fd00::1", "eth0"),
            ("fe80::1", "eth0"),
        ];
        Facts {
            node: "n1".to_owned(),
            zone: None,
            primary: vec!["192.0.2.1".parse().unwrap()],
            local: held
                .map(|(address, device)| LocalAddress { address: address.parse().unwrap(), device: device.to_owned() })
                .into(),
        }
    }

    #[test]
    fn node_port_table() {
        for (name, config, want) in [
            ("all", "[]", vec!["10.0.0.1", "127.0.0.1 host", "192.0.2.1", "::1 host", "fd00::1"]),
            ("primary", "[primary]", vec!["192.0.2.1"]),
            ("ranges", "[10.0.0.0/8, fd00::/8]", vec!["10.0.0.1", "fd00::1"]),
            ("ranges of loopback", "[127.0.0.0/8, '::1/128']", vec!["127.0.0.1 host", "::1 host"]),
            ("ranges that nothing is in", "[203.0.113.0/24, '2001:db8::/32']", vec![]),
        ] {
            let config = Config::parse(&format!("nodePortAddresses: {config}")).unwrap();
            let got: Vec<String> = facts()
                .node_ports(&config.node_port_addresses)
                .into_iter()
                .map(|(address, flags)| {
                    assert_ne!(flags & address_flags::NODE_PORT, 0, "{name}");
                    if flags & address_flags::HOST_ONLY == 0 { address.to_string() } else { format!("{address} host") }
                })
                .collect();
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn device_of_an_address() {
        let device = |address: &str| facts().device(&address.parse().unwrap()).map(str::to_owned);
        assert_eq!(device("10.0.0.1").as_deref(), Some("cni0"));
        assert_eq!(device("10.0.0.2"), None);
    }
}
