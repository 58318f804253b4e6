//! Where a service port is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_ebpf::abi::address::Address;

use super::state::Frontend;
use crate::{
    api::rows,
    model::{
        addr::{Family, Protocol},
        service::{Service, ServicePort, TrafficPolicy},
    },
};

/// What a frontend is on its Service. The order decides where one Service has the same frontend twice: the stricter
/// form (source ranges) wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `spec.ports[].nodePort`.
    NodePort,
}

impl Via {
    /// The kind as clients of the agent see it.
    pub const fn shown(self) -> rows::Via {
        match self {
            Self::ClusterIp => rows::Via::ClusterIP,
            Self::LoadBalancer => rows::Via::LoadBalancer,
            Self::ExternalIp => rows::Via::ExternalIP,
            Self::NodePort => rows::Via::NodePort,
        }
    }

    /// The field of the Service that it comes from.
    pub const fn field(self) -> &'static str {
        match self {
            Self::ClusterIp => "spec.clusterIPs",
            Self::LoadBalancer => "status.loadBalancer.ingress",
            Self::ExternalIp => "spec.externalIPs",
            Self::NodePort => "spec.ports.nodePort",
        }
    }
}

/// A frontend of one service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) frontend: Frontend,
    pub(crate) via: Via,
    /// The table that it selects from.
    pub(crate) policy: TrafficPolicy,
    /// Its clients must be inside the source ranges.
    pub(crate) ranges: bool,
}

/// Where the canary dials: no service can be there.
pub(crate) fn canaries() -> [Frontend; 2] {
    [
        Frontend::internal(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::CANARY)), 1, Protocol::Udp),
        Frontend::internal(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::CANARY)), 1, Protocol::Udp),
    ]
}

/// The address that stands for every address of this node.
pub(crate) const fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Lists the frontends of a port in one family as pods and the node itself see them.
///
/// From inside the cluster, external addresses have Cluster policy whatever externalTrafficPolicy says. `skip` tells
/// of a ClusterIP that is left alone, `node_ports` whether an address of this node takes NodePorts in this family.
pub(crate) fn list(
    service: &Service,
    port: &ServicePort,
    family: Family,
    skip: impl Fn(&IpAddr) -> bool,
    node_ports: bool,
) -> Vec<Listing> {
    let has_ranges = service.source_ranges.iter().any(|range| Family::of(&range.address()) == family);
    let mut listings: Vec<Listing> = Vec::with_capacity(2);
    let mut add = |address: IpAddr, number: u16, via: Via| {
        let frontend = Frontend::internal(address, number, port.protocol);
        if !listings.iter().any(|listing| listing.frontend == frontend) {
            let policy = match via {
                Via::ClusterIp => service.internal_traffic_policy,
                Via::LoadBalancer | Via::ExternalIp | Via::NodePort => TrafficPolicy::Cluster,
            };
            listings.push(Listing { frontend, via, policy, ranges: via == Via::LoadBalancer && has_ranges });
        }
    };
    for (ips, via) in [
        (&service.cluster_ips, Via::ClusterIp),
        (&service.load_balancer_ips, Via::LoadBalancer),
        (&service.external_ips, Via::ExternalIp),
    ] {
        let served = |ip: &&IpAddr| Family::of(ip) == family && !is_reserved(ip);
        for ip in ips.iter().filter(served).filter(|ip| via != Via::ClusterIp || !skip(ip)) {
            add(*ip, port.port, via);
        }
    }
    if port.node_port != 0 && node_ports {
        add(any(family), port.node_port, Via::NodePort);
    }
    listings
}

/// True for the addresses that mean something else in the maps: the wildcard and the canary's.
pub(crate) fn is_reserved(address: &IpAddr) -> bool {
    address.is_unspecified() || canaries().iter().any(|canary| canary.address == *address)
}
