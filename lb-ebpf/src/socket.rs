//! The decision at a socket: READ FIRST.
//!
//! A connection to a service is translated once, where it is made; its packets then cost nothing. [`connect`] and
//! [`send`] choose a backend, [`receive`] and [`peer`] give the application the address that it dialled, [`bind`]
//! keeps node ports free, [`release`] forgets a socket.
//!
//! The order of the decision: frontend (or NodePort on an address of this node) -> source ranges -> affinity ->
//! algorithm -> backend. Every error is a [`DropReason`]; what no service holds is `Ok(None)` and left alone.

mod choose;
mod flows;
mod locate;

pub use choose::{Choice, choose};
pub use flows::{Endpoint, bind, connect, peer, receive, release, send};
pub use locate::{Destination, locate};

use crate::abi::drops::DropReason;

/// The outcome of a decision: `Ok(None)` leaves the socket as it is.
pub type Outcome<T> = Result<Option<T>, DropReason>;
