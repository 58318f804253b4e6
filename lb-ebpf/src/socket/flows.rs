//! What each hook does with the decision.

use super::{Destination, Outcome, choose, choose::header, locate};
use crate::{
    abi::{
        address::Address,
        backend::flags,
        drops::{Counter, DropReason},
        flow::{Datagram, DatagramKey, Peer, peer_flags},
        frontend::{FrontendKey, address_flags, scope},
    },
    socket::Choice,
    tables::{Replaced, Surroundings, Tables},
};

/// Repeats a decision once if a table changed under it; the second time the new state is there.
///
/// A macro, since a closure cannot be told to be inlined: called from two programs it would become a function of its
/// own, and the two frames together are more than the 512 bytes that a kernel allows.
macro_rules! again {
    ($tables:expr, $decision:expr) => {{
        let mut repeated = false;
        loop {
            match $decision {
                Err(DropReason::Torn) if !repeated => {
                    repeated = true;
                    $tables.counter(Counter::Retried);
                }
                outcome => break outcome,
            }
        }
    }};
}

/// An address and a port in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<A> {
    /// The address.
    pub address: A,
    /// The port, network order.
    pub port: [u8; 2],
}

/// Decides a connect(): TCP, or UDP that names its peer once.
#[inline(always)]
pub fn connect<A, T>(tables: &T, to: &Destination<A>) -> Outcome<Endpoint<A>>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let Some(choice) = again!(tables, resolve(tables, to))? else { return Ok(None) };
    if choice.counted || tables.remembers() {
        remember(tables, to, &choice);
    }
    tables.counter(Counter::Connected);
    Ok(Some(Endpoint { address: choice.backend.address, port: choice.backend.port }))
}

/// Decides a datagram that names its destination: the socket stays on the backend of its first one.
#[inline(always)]
pub fn send<A, T>(tables: &T, to: &Destination<A>) -> Outcome<Endpoint<A>>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let Some((choice, new)) = again!(tables, resolve_datagram(tables, to))? else { return Ok(None) };
    let backend = Endpoint { address: choice.backend.address, port: choice.backend.port };
    if new {
        let (cookie, backend_id, service) = (tables.cookie(), choice.id.to_ne_bytes(), choice.backend.service);
        // The way back first: an answer may arrive before the next line has run.
        let key = DatagramKey::new(cookie, backend.address, backend.port, DatagramKey::<A>::FROM_BACKEND);
        let value = Datagram { address: to.address, port: to.port, _reserved: [0; 2], backend_id, service };
        tables.set_datagram(&key, &value);
        let key = DatagramKey::new(cookie, to.address, to.port, DatagramKey::<A>::TO_FRONTEND);
        tables.set_datagram(&key, &Datagram { address: backend.address, port: backend.port, ..value });
    }
    tables.counter(Counter::Datagrams);
    Ok(Some(backend))
}

/// Returns the frontend that a received datagram's source stands for.
#[inline(always)]
pub fn receive<A, T>(tables: &T, from: &Endpoint<A>) -> Option<Endpoint<A>>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let key = DatagramKey::new(tables.cookie(), from.address, from.port, DatagramKey::<A>::FROM_BACKEND);
    match tables.datagram(&key) {
        Some(found) => Some(Endpoint { address: found.address, port: found.port }),
        None => peer(tables, from),
    }
}

/// Returns what the socket dialled, if it is connected to the backend chosen for that.
#[inline(always)]
pub fn peer<A, T>(tables: &T, connected: &Endpoint<A>) -> Option<Endpoint<A>>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let peer = tables.peer(tables.cookie())?;
    // A socket may be connected again, to something that is no service: then the entry is an old one.
    (peer.backend == connected.address && peer.backend_port == connected.port)
        .then_some(Endpoint { address: peer.frontend, port: peer.frontend_port })
}

/// Refuses a bind to a port that is a NodePort on the bound address: the listener would never see a connection made
/// on this node, and which of the two outside traffic reaches must not depend on the order of start.
#[inline(always)]
pub fn bind<A, T>(tables: &T, at: &Destination<A>) -> Result<(), DropReason>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let key = FrontendKey { address: A::ANY, port: at.port, protocol: at.protocol, scope: scope::INTERNAL };
    if tables.frontend(&key).is_none() || !tables.on_host() {
        return Ok(());
    }
    if at.address == A::ANY {
        return Err(DropReason::NodePort);
    }
    let address = if at.address.is_loopback() { A::LOOPBACK } else { at.address };
    match tables.address(&address) {
        Some(flags) if flags & address_flags::NODE_PORT != 0 => Err(DropReason::NodePort),
        Some(_) | None => Ok(()),
    }
}

/// Forgets a socket that closes.
#[inline(always)]
pub fn release<A, T>(tables: &T)
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let cookie = tables.cookie();
    if let Some(peer) = tables.peer(cookie) {
        uncount(tables, &peer);
        tables.remove_peer(cookie);
    }
}

#[inline(always)]
fn resolve<A, T>(tables: &T, to: &Destination<A>) -> Outcome<Choice<A>>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    match locate(tables, to)? {
        Some(word) => choose(tables, to, word).map(Some),
        None => Ok(None),
    }
}

/// As [`resolve`], but a live flow of the socket comes first; the flag tells whether the choice is new.
#[inline(always)]
fn resolve_datagram<A, T>(tables: &T, to: &Destination<A>) -> Outcome<(Choice<A>, bool)>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let Some(word) = locate(tables, to)? else { return Ok(None) };
    if word.kind().is_some_and(|kind| kind.has_run()) {
        let run = header(tables, word)?;
        let key = DatagramKey::new(tables.cookie(), to.address, to.port, DatagramKey::<A>::TO_FRONTEND);
        if let Some(found) = tables.datagram(&key) {
            let id = u32::from_ne_bytes(found.backend_id);
            // A terminating backend keeps the flows that it has for as long as it serves.
            if let Some(backend) = tables.backend(id)
                && backend.serves(run.service, u32::from(flags::LIVE))
            {
                return Ok(Some((Choice { backend, id, counted: false }, false)));
            }
        }
    }
    choose(tables, to, word).map(|choice| Some((choice, true)))
}

/// Keeps what the socket dialled. A full map costs the answer to getpeername, never the connection.
#[inline(always)]
fn remember<A, T>(tables: &T, to: &Destination<A>, choice: &Choice<A>)
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let peer = Peer {
        frontend: to.address,
        frontend_port: to.port,
        protocol: to.protocol,
        flags: if choice.counted { peer_flags::COUNTED } else { 0 },
        backend: choice.backend.address,
        backend_port: choice.backend.port,
        _reserved: [0; 2],
        backend_id: choice.id.to_ne_bytes(),
        service: choice.backend.service,
    };
    match tables.replace_peer(tables.cookie(), &peer) {
        Replaced::New => {}
        Replaced::Old(old) => uncount(tables, &old),
        Replaced::Full => return tables.counter(Counter::PeersFull),
    }
    if choice.counted {
        tables.count(choice.id);
    }
}

#[inline(always)]
fn uncount<A, T>(tables: &T, peer: &Peer<A>)
where
    A: Address,
    T: Tables<A>,
{
    if peer.flags & peer_flags::COUNTED != 0 {
        tables.uncount(u32::from_ne_bytes(peer.backend_id));
    }
}
