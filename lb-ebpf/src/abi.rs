//! The layouts that kernel and agent share: every map key and value, once.
//!
//! Wire fields are byte arrays in network order; counters, ids and lengths are host-order integers, as byte arrays
//! where the type is generic over the address (a generic `repr(C)` type has no padding only if nothing in it is
//! aligned). The two families are one generic over the address bytes and have a map each.

pub mod address;
pub mod backend;
pub mod config;
pub mod drops;
pub mod flow;
pub mod frontend;
pub mod run;

/// Counts the layouts that cannot share a map; pins live under `v{VERSION}`.
pub const VERSION: u32 = 1;

/// Names of the maps as pinned, IPv4 and IPv6 where a table has a map for each.
pub mod maps {
    /// [`FrontendKey`](super::frontend::FrontendKey) to [`Word`](super::frontend::Word): hash.
    pub const FRONTENDS: [&str; 2] = ["frontends4", "frontends6"];
    /// Backend id to [`Backend`](super::backend::Backend): array.
    pub const BACKENDS: [&str; 2] = ["backends4", "backends6"];
    /// Backend id to the number of open connections (u64): array, written by programs only.
    pub const ACTIVE: [&str; 2] = ["active4", "active6"];
    /// Address to [`address flags`](super::frontend::address_flags) (u32): hash.
    pub const ADDRESSES: [&str; 2] = ["addresses4", "addresses6"];
    /// Source range of a service to u8: LPM trie.
    pub const RANGES: [&str; 2] = ["ranges4", "ranges6"];
    /// [`AffinityKey`](super::flow::AffinityKey) to [`Affinity`](super::flow::Affinity): LRU hash.
    pub const AFFINITY: [&str; 2] = ["affinity4", "affinity6"];
    /// Socket cookie to [`Peer`](super::flow::Peer): hash.
    pub const PEERS: [&str; 2] = ["peers4", "peers6"];
    /// [`DatagramKey`](super::flow::DatagramKey) to [`Datagram`](super::flow::Datagram): LRU hash.
    pub const DATAGRAMS: [&str; 2] = ["datagrams4", "datagrams6"];
    /// [`StrayKey`](super::flow::StrayKey) to [`Affinity`](super::flow::Affinity): LRU hash.
    pub const STRAYS: &str = "strays";
    /// Lines of 64 bytes that hold [selection tables](super::run): memory-mapped array.
    pub const ARENA: &str = "arena";
    /// Namespace cookie to [`Client`](super::flow::Client): hash.
    pub const CLIENTS: &str = "clients";
    /// Namespace cookie to [`Sighting`](super::flow::Sighting): LRU hash, written by the canary.
    pub const CANARY: &str = "canary";
    /// The one [`Config`](super::config::Config): array.
    pub const CONFIG: &str = "config";
    /// [`Counter`](super::drops::Counter) to u64: per-CPU array.
    pub const COUNTERS: &str = "counters";
}
