//! Weights to a Maglev table: endpoints are named by address, port and protocol, so that every node fills it alike.

use std::net::IpAddr;

use maglev::fill::{Backend, BackendKey, Protocol as KeyProtocol, Seed, Size, fill};

use crate::model::addr::Protocol;

/// An endpoint that takes part, with the number that its slots hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) weight: u32,
    pub(crate) id: u32,
}

/// Fills a table with the ids of its members.
pub(crate) fn table(size: Size, protocol: Protocol, members: &[Member]) -> Vec<u32> {
    let backends: Vec<Backend> =
        members.iter().map(|m| Backend { key: key(m.address, m.port, protocol), weight: m.weight }).collect();
    let mut slots = Vec::new();
    fill(size, Seed::DEFAULT, &backends, &mut slots);
    for slot in &mut slots {
        *slot = members[*slot as usize].id;
    }
    slots
}

/// What every node calls an endpoint.
pub(crate) fn key(address: IpAddr, port: u16, protocol: Protocol) -> BackendKey {
    let protocol = match protocol {
        Protocol::Tcp => KeyProtocol::Tcp,
        Protocol::Udp => KeyProtocol::Udp,
        Protocol::Sctp => KeyProtocol::Sctp,
    };
    BackendKey::new(address, port, protocol)
}
