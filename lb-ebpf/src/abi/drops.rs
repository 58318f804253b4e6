//! Why a connection does not go through, and what else the programs count.

/// Why a connection or a bind was refused. The number is the index of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum DropReason {
    /// The service has no endpoint.
    NoBackend = 0,
    /// Local traffic policy, and no endpoint on this node.
    NoLocalBackend = 1,
    /// The address is a service's, the port is not.
    UnknownPort = 2,
    /// The client is outside loadBalancerSourceRanges.
    SourceRange = 3,
    /// loadBalancerSourceRanges, and the client's address is not known yet.
    UnknownSource = 4,
    /// A table changed twice under a reader.
    Torn = 5,
    /// The port of a bind is a NodePort.
    NodePort = 6,
    /// The reserved address of the canary.
    Canary = 7,
}

/// Index into the `counters` map: first the drop reasons, then these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Counter {
    /// Sockets sent to a backend by connect().
    Connected = 16,
    /// Datagrams sent to a backend.
    Datagrams = 17,
    /// Lookups that were repeated because a table had changed.
    Retried = 18,
    /// Peers not remembered because the map is full: getpeername answers with the backend.
    PeersFull = 19,
}

/// Entries of the `counters` map.
pub const COUNTERS: u32 = 32;

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::NoBackend,
        Self::NoLocalBackend,
        Self::UnknownPort,
        Self::SourceRange,
        Self::UnknownSource,
        Self::Torn,
        Self::NodePort,
        Self::Canary,
    ];

    /// The name in metrics, `explain` and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBackend => "NoBackend",
            Self::NoLocalBackend => "NoLocalBackend",
            Self::UnknownPort => "UnknownPort",
            Self::SourceRange => "SourceRange",
            Self::UnknownSource => "UnknownSource",
            Self::Torn => "Torn",
            Self::NodePort => "NodePort",
            Self::Canary => "Canary",
        }
    }
}

impl Counter {
    /// All counters beside the drop reasons.
    pub const ALL: [Self; 4] = [Self::Connected, Self::Datagrams, Self::Retried, Self::PeersFull];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Datagrams => "datagrams",
            Self::Retried => "retried",
            Self::PeersFull => "peers_full",
        }
    }
}
