//! The maps and the surroundings as a decision sees them.
//!
//! Both traits are generic parameters, never trait objects: in the BPF object they become map lookups and helper
//! calls, in tests maps of the standard library.

use crate::abi::{
    address::Address,
    backend::Backend,
    drops::Counter,
    flow::{Affinity, Datagram, DatagramKey, Peer},
    frontend::{FrontendKey, Word},
    run::RunHeader,
};

/// The maps of one family.
pub trait Tables<A: Address> {
    /// Loads the word of a frontend, once.
    fn frontend(&self, key: &FrontendKey<A>) -> Option<Word>;

    /// The [flags](crate::abi::frontend::address_flags) of an address.
    fn address(&self, address: &A) -> Option<u32>;

    /// The header of the run that starts at `line`.
    fn header(&self, line: u32) -> Option<RunHeader>;

    /// The backend id at `index` of the run that starts at `line`.
    fn id(&self, line: u32, index: u32) -> Option<u32>;

    /// A backend; one with flags 0 is free.
    fn backend(&self, id: u32) -> Option<Backend<A>>;

    /// The number of connections counted on a backend.
    fn active(&self, id: u32) -> u64;

    /// Adds one to it.
    fn count(&self, id: u32);

    /// Takes one away from it.
    fn uncount(&self, id: u32);

    /// True if one of the service's source ranges holds `client`.
    fn admits(&self, service: u32, client: &A) -> bool;

    /// The backend that `client` sticks to.
    fn affinity(&self, client: &Client<A>, service: u32) -> Option<Affinity>;

    /// Writes that, in place where there is an entry.
    fn set_affinity(&self, client: &Client<A>, service: u32, affinity: Affinity);

    /// What the socket dialled.
    fn peer(&self, cookie: u64) -> Option<Peer<A>>;

    /// Writes that, in place where there is an entry, and returns what stood there. One look at the map: it is the
    /// dearest thing that a connect does.
    fn replace_peer(&self, cookie: u64, peer: &Peer<A>) -> Replaced<A>;

    /// Forgets it.
    fn remove_peer(&self, cookie: u64);

    /// One direction of a datagram flow.
    fn datagram(&self, key: &DatagramKey<A>) -> Option<Datagram<A>>;

    /// Writes it.
    fn set_datagram(&self, key: &DatagramKey<A>, datagram: &Datagram<A>);

    /// Reports a canary connect.
    fn sight(&self);
}

/// What became of a write to the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced<A> {
    /// The socket had no entry.
    New,
    /// The socket had this entry.
    Old(Peer<A>),
    /// The map is full: nothing was written.
    Full,
}

/// Who dials, as far as the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client<A> {
    /// A pod by its address, or the node by its primary one.
    Known(A),
    /// A network namespace whose address has not been found yet, by its cookie.
    Stray(u64),
}

/// What a program can ask about the socket and the machine. Each answer costs a helper call: ask late.
pub trait Surroundings<A: Address> {
    /// True if the socket is in the host's network namespace.
    fn on_host(&self) -> bool;

    /// Who dials.
    fn client(&self) -> Client<A>;

    /// Cookie of the socket.
    fn cookie(&self) -> u64;

    /// 32 random bits.
    fn random(&self) -> u32;

    /// [Ticks](crate::abi::flow::TICK_NS) since boot.
    fn ticks(&self) -> u32;

    /// True if what a socket dialled is to be kept for getpeername.
    fn remembers(&self) -> bool;

    /// Adds one to a counter.
    fn counter(&self, counter: Counter);
}
