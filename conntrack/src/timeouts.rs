//! How long a flow may be silent: one named lifetime per protocol and phase.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{tcp::Phase, tuple::protocol};

/// Time counts in ticks of 100 ms since boot (CLOCK_MONOTONIC), which fit 32 bits for 13 years.
pub const TICK_NS: u64 = 100_000_000;

const TICKS_PER_SECOND: u32 = 10;

/// The lifetimes, in [ticks](TICK_NS) of silence; one entry of a configuration map. 48 bytes.
///
/// Seconds by default, beside those of others. kube-proxy leaves flows to the kernel's connection tracking and sets
/// two of its lifetimes (marked *); the rest are the kernel's (Documentation/networking/nf_conntrack-sysctl.rst).
/// Cilium's are `--bpf-ct-timeout-*` (1.18), Calico's `bpfConntrackTimeouts` (felix/bpf/conntrack).
///
/// | lifetime | here | kube-proxy | Cilium | Calico |
/// | --- | --- | --- | --- | --- |
/// | `tcp_opening` | 60 | 120 SYN_SENT, 60 SYN_RECV | 60 | 20 |
/// | `tcp_established` | 86400 | 86400* | 8000 | 3600 |
/// | `tcp_half_closed` | 3600 | 3600* CLOSE_WAIT, 120 FIN_WAIT | 8000 | 3600 |
/// | `tcp_closed` | 10 | 120 TIME_WAIT | 10 | 30 |
/// | `tcp_reset` | 40 | 10 CLOSE | 10 | 40 |
/// | `udp_opening` | 30 | 30 | 60 | 60 |
/// | `udp_established` | 120 | 120 | 60 | 60 |
/// | `sctp_opening` | 60 | 3 | 60 | 600 |
/// | `sctp_established` | 210 | 210 | 60 | 600 |
/// | `icmp` | 30 | 30 | 60 | 5 |
/// | `other` | 600 | 600 | 60 | 600 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeouts {
    /// Not confirmed: Linux repeats a SYN for longer, but each repetition is seen.
    pub tcp_opening: u32,
    /// Established: as long as behind kube-proxy, for a connection may be silent for hours without keepalives.
    pub tcp_established: u32,
    /// One FIN: the other side may have much to send.
    pub tcp_half_closed: u32,
    /// Two FINs: the last ACK, and repetitions, pass.
    pub tcp_closed: u32,
    /// A RST and silence since. Longer than `tcp_closed`, for a RST can be forged: the flow lives if it speaks within.
    pub tcp_reset: u32,
    /// A datagram, or a query with one answer.
    pub udp_opening: u32,
    /// Datagrams to and fro.
    pub udp_established: u32,
    /// INIT until COOKIE ECHO; chunks are not parsed.
    pub sctp_opening: u32,
    /// Outlasts a path's heartbeats: interval x retransmissions + RTO (RFC 9260).
    pub sctp_established: u32,
    /// Echo and its reply.
    pub icmp: u32,
    /// Any other protocol.
    pub other: u32,
    /// Zero.
    pub _reserved: u32,
}

impl Timeouts {
    /// The defaults of the table.
    pub const DEFAULT: Self = Self {
        tcp_opening: seconds(60),
        tcp_established: seconds(86_400),
        tcp_half_closed: seconds(3_600),
        tcp_closed: seconds(10),
        tcp_reset: seconds(40),
        udp_opening: seconds(30),
        udp_established: seconds(120),
        sctp_opening: seconds(60),
        sctp_established: seconds(210),
        icmp: seconds(30),
        other: seconds(600),
        _reserved: 0,
    };

    /// Returns the silence after which a flow is over.
    #[inline(always)]
    pub const fn lifetime(&self, protocol: u8, phase: Phase) -> u32 {
        match protocol {
            protocol::TCP => match phase {
                Phase::Opening => self.tcp_opening,
                Phase::Established => self.tcp_established,
                Phase::HalfClosed => self.tcp_half_closed,
                Phase::Closed => self.tcp_closed,
                Phase::Reset => self.tcp_reset,
            },
            protocol::UDP if is_opening(phase) => self.udp_opening,
            protocol::UDP => self.udp_established,
            protocol::SCTP if is_opening(phase) => self.sctp_opening,
            protocol::SCTP => self.sctp_established,
            protocol::ICMP | protocol::ICMPV6 => self.icmp,
            _ => self.other,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Returns the ticks of a time in nanoseconds since boot.
#[inline(always)]
pub const fn ticks(now_ns: u64) -> u32 {
    (now_ns / TICK_NS) as u32
}

/// Returns the ticks of a duration in seconds; what does not fit is cut to the longest, 6.8 years.
pub const fn seconds(seconds: u32) -> u32 {
    let ticks = seconds.saturating_mul(TICKS_PER_SECOND);
    // Half the range of the clock: beyond it a stamp counts as one of the future.
    if ticks > u32::MAX / 2 { u32::MAX / 2 } else { ticks }
}

#[inline(always)]
const fn is_opening(phase: Phase) -> bool {
    matches!(phase, Phase::Opening)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_holds_no_padding() {
        assert_eq!(size_of::<Timeouts>(), 48);
        assert_eq!(u64::from(TICKS_PER_SECOND) * TICK_NS, 1_000_000_000);
    }

    #[test]
    fn lifetime_table() {
        use Phase::{Closed, Established, HalfClosed, Opening, Reset};
        for (name, protocol, phase, want) in [
            ("half-open", protocol::TCP, Opening, 60),
            ("a day, as behind kube-proxy", protocol::TCP, Established, 86_400),
            ("one FIN", protocol::TCP, HalfClosed, 3_600),
            ("two FINs", protocol::TCP, Closed, 10),
            ("a RST", protocol::TCP, Reset, 40),
            ("query", protocol::UDP, Opening, 30),
            ("stream", protocol::UDP, Established, 120),
            ("association opens", protocol::SCTP, Opening, 60),
            ("association", protocol::SCTP, Established, 210),
            ("ping", protocol::ICMP, Opening, 30),
            ("ping answered", protocol::ICMPV6, Established, 30),
            ("GRE", 47, Established, 600),
        ] {
            assert_eq!(Timeouts::DEFAULT.lifetime(protocol, phase), seconds(want), "{name}");
        }
    }

    #[test]
    fn durations_are_cut_to_what_the_clock_can_tell() {
        for (name, given, want) in [
            ("one", 1, 10),
            ("a day", 86_400, 864_000),
            ("too long", u32::MAX, u32::MAX / 2),
            ("just too long", 214_748_365, u32::MAX / 2),
        ] {
            assert_eq!(seconds(given), want, "{name}");
        }
        assert_eq!(ticks(TICK_NS * 7 + TICK_NS - 1), 7, "ticks are whole");
    }
}
