//! Datagrams, answered from the address to which they came.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    sync::Arc,
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc::{in_pktinfo, in6_pktinfo},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
        sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo},
    },
};

use super::{Service, v6};

/// Where a datagram came to, and how the answer is made to leave from there.
enum Arrival {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

/// Answers datagrams for ever.
pub(super) fn serve(socket: &std::net::UdpSocket, service: &Arc<Service>) -> io::Result<()> {
    let port = socket.local_addr()?.port();
    if socket.local_addr()?.is_ipv4() {
        setsockopt(socket, Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
    }
    loop {
        match receive(socket) {
            Ok(Some((source, arrival))) => {
                let address = arrival.address(port);
                service.log(address, source, "protocol=UDP");
                let answer = service.answer(address, source);
                // Whoever asked may be gone or not reachable: the next one is not.
                let _ = arrival.send(socket, source, answer.as_bytes());
            }
            Ok(None) | Err(Errno::EINTR | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn receive(socket: &std::net::UdpSocket) -> nix::Result<Option<(SocketAddr, Arrival)>> {
    let mut payload = [0; 65536];
    let mut control = cmsg_space!(in6_pktinfo);
    let mut buffers = [IoSliceMut::new(&mut payload)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::empty())?;
    let Some(source) = message.address.as_ref().and_then(socket_address) else { return Ok(None) };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
            return Ok(Some((source, Arrival::V4(info))));
        }
        if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
            return Ok(Some((source, Arrival::V6(info))));
        }
    }
    Ok(None)
}

impl Arrival {
    fn address(&self, port: u16) -> SocketAddr {
        match self {
            Self::V4(info) => (Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)), port).into(),
            Self::V6(info) => v6(Ipv6Addr::from(info.ipi6_addr.s6_addr), port),
        }
    }

    fn send(&self, socket: &std::net::UdpSocket, to: SocketAddr, payload: &[u8]) -> nix::Result<usize> {
        let to = SockaddrStorage::from(to);
        let payload = [IoSlice::new(payload)];
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        match self {
            Self::V4(info) => {
                // The index says where the datagram arrived; the answer goes where the routes say.
                let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_addr, ipi_addr: info.ipi_addr };
                sendmsg(fd, &payload, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))
            }
            Self::V6(info) => {
                let link_local = Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local();
                let index = if link_local { info.ipi6_ifindex } else { 0 };
                let info = in6_pktinfo { ipi6_addr: info.ipi6_addr, ipi6_ifindex: index };
                sendmsg(fd, &payload, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))
            }
        }
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::from((address.ip(), address.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}
