//! From a dialled address to the word of its frontend.

use super::Outcome;
use crate::{
    abi::{
        address::Address,
        drops::DropReason,
        frontend::{FrontendKey, Word, address_flags, scope},
    },
    tables::{Surroundings, Tables},
};

/// What a socket dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<A> {
    /// The address.
    pub address: A,
    /// The port, network order.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
}

/// Finds the frontend of a destination: by its own address, then as a NodePort of this node.
#[inline(always)]
pub fn locate<A, T>(tables: &T, to: &Destination<A>) -> Outcome<Word>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let key = FrontendKey { address: to.address, port: to.port, protocol: to.protocol, scope: scope::INTERNAL };
    if let Some(word) = load(tables, &key)? {
        return Ok(Some(word));
    }
    // Every address of 127.0.0.0/8 is local, and one entry stands for them all.
    let address = if to.address.is_loopback() { A::LOOPBACK } else { to.address };
    let Some(flags) = tables.address(&address) else { return Ok(None) };
    if flags & address_flags::NODE_PORT != 0 && (flags & address_flags::HOST_ONLY == 0 || tables.on_host()) {
        let key = FrontendKey { address: A::ANY, ..key };
        if let Some(word) = load(tables, &key)? {
            return Ok(Some(word));
        }
    }
    if flags & address_flags::REFUSE_UNKNOWN != 0 { Err(DropReason::UnknownPort) } else { Ok(None) }
}

/// Loads a word and holds it against its key.
#[inline(always)]
fn load<A, T>(tables: &T, key: &FrontendKey<A>) -> Outcome<Word>
where
    A: Address,
    T: Tables<A>,
{
    match tables.frontend(key) {
        Some(word) if word.fingerprint() == key.fingerprint() => Ok(Some(word)),
        Some(_) => Err(DropReason::Torn),
        None => Ok(None),
    }
}
