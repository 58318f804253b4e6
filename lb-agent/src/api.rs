//! What the agent tells its clients: the JSON of every answer, and the questions behind it.
//!
//! The agent serves it over a unix socket ([`crate::server`]), `lbctl` asks ([`crate::ctl`]), docs/api.md states it
//! for others. Keys are added, never renamed. Lists are sorted by namespace, name, port, protocol and address; words
//! and addresses compare as text, byte by byte, ports as numbers, so that a script can check the order.

pub mod error;
pub mod maps;
pub mod query;
pub mod rows;
pub mod status;
mod words;

use lb_ebpf::abi::drops::{COUNTERS, Counter, DropReason};

use self::{
    error::ApiError,
    maps::{MaglevShow, MapsDump},
    query::MaglevQuery,
    rows::{BackendRow, ServiceRow},
    status::{Canary, Status},
};

/// Where the agent listens unless it is told otherwise.
pub const SOCKET: &str = "/run/lb-agent/lb-agent.sock";

/// The value of the header `server` in every answer over the socket: how a client knows the agent.
pub const SERVER: &str = concat!("lb-agent/", env!("CARGO_PKG_VERSION"));

/// What the agent can be asked. Lists may come in any order: the server sorts them.
pub trait Answers: Send + Sync + 'static {
    /// How the agent is.
    fn status(&self) -> Result<Status, ApiError>;
    /// What the last canary found; never waits.
    fn canary(&self) -> Canary;
    /// A row for each frontend.
    fn services(&self) -> Result<Vec<ServiceRow>, ApiError>;
    /// A row for each backend.
    fn backends(&self) -> Result<Vec<BackendRow>, ApiError>;
    /// Every entry of every map.
    fn maps(&self) -> Result<MapsDump, ApiError>;
    /// The same as the text that golden tests compare.
    fn maps_text(&self) -> Result<String, ApiError>;
    /// The Maglev table of one service port.
    fn maglev(&self, query: &MaglevQuery) -> Result<MaglevShow, ApiError>;
    /// What the programs counted, all CPUs together.
    fn counters(&self) -> Result<Counters, ApiError>;
}

/// What the programs counted: the `counters` map, summed over the CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters(pub [u64; COUNTERS as usize]);

impl Counters {
    /// How many connections and binds were refused for `reason`.
    pub const fn drops(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// How often `counter` was counted.
    pub const fn count(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}
