//! Addresses of the node's devices, followed over netlink.

use std::{io, net::IpAddr};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;

/// An address that a device of a namespace holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// Name of the device.
    pub device: String,
    /// The device is the loopback device.
    pub loopback: bool,
}

impl LocalAddress {
    /// True for an address that means something on one link only (169.254.0.0/16, fe80::/10).
    pub fn link_local(&self) -> bool {
        match self.address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
    }
}

/// Reads the addresses of the calling thread's namespace, sorted.
pub fn addresses() -> io::Result<Vec<LocalAddress>> {
    let mut found = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(storage) = interface.address else { continue };
        let address = match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            (None, None) => continue,
        };
        let loopback = interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK);
        found.push(LocalAddress { address, device: interface.interface_name, loopback });
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Sends the addresses of the agent's namespace, first as they are and again after each change, until the receiver
/// is gone. Changes are told by netlink; a lost message costs at most `poll`.
pub async fn watch(changes: mpsc::Sender<Vec<LocalAddress>>, poll: std::time::Duration) -> io::Result<()> {
    use rtnetlink::{MulticastGroup, new_multicast_connection};
    let (connection, _handle, mut messages) =
        new_multicast_connection(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])?;
    let connection = tokio::spawn(connection);
    let mut last = None;
    loop {
        let current = addresses()?;
        if last.as_ref() != Some(&current) {
            if changes.send(current.clone()).await.is_err() {
                connection.abort();
                return Ok(());
            }
            last = Some(current);
        }
        // One address is often several messages: whatever came is read before the next look.
        tokio::select! {
            _ = messages.next() => {}
            () = tokio::time::sleep(poll) => {}
        }
        while messages.next().now_or_never().flatten().is_some() {}
    }
}
