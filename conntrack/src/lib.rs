//! Flows: what one packet does to a tracked connection, as pure code.
//!
//! | module | holds |
//! | --- | --- |
//! | [`mod@tuple`] | [`Tuple`]: the key of a flow, network byte order |
//! | [`entry`] | [`Entry`]: the value of a flow; [`State`]: the part of it that packets move |
//! | [`tcp`] | TCP flags of both directions -> [`Phase`] |
//! | [`timeouts`] | [`Timeouts`]: how long a flow may be silent, per protocol and phase |
//! | [`mod@step`] | [`step()`]: one packet |
//! | [`sweep`] | [`should_drop`]: what a collector asks |
//!
//! # Two halves
//! A translated flow has an entry for each direction, so that a packet finds its rewrite with one lookup. Each entry
//! tells how its packets leave ([`Entry::leaving`]); that tuple reversed is the key of the other half.
//!
//! # Two words
//! What packets change is two aligned words of 64 bits, one per direction: when the direction was last seen, and what
//! it has said. A packet writes the word of its own direction and no other, in place, without atomics. Packets of one
//! direction that run on two CPUs write the same word but for one tick, so a lost write costs nothing that the next
//! packet does not repeat. Both halves hold both words. A packet always writes to its own half; it writes to the other
//! half only when [`Change::share`] says so, which in an established flow it does not. So each half is exact about its
//! own direction and may lag about the other: before a flow is declared over, [`Entry::joined`] takes each word from
//! the half that is exact.
//!
//! # Two tiers
//! Until the client has spoken again after an answer (with direct server return: spoken again at all), a flow belongs
//! in a bounded LRU map; [`Change::promote`] then moves it to the map that evicts nothing. An answer alone proves
//! nothing: a forged SYN or query is answered too.
//!
//! # What a forger can do
//! Sequence numbers are not checked. A forged SYN leaves a live flow alone. A forged RST holds until either side sends
//! again, and a forged FIN half-closes; both shorten the silence that the flow survives, to
//! [`tcp_reset`](Timeouts::tcp_reset) and [`tcp_half_closed`](Timeouts::tcp_half_closed), and break nothing while
//! traffic goes on. Who sends a forged SYN and a forged ACK behind it gets an entry in the second tier.
//!
//! No clock, no map, no allocator: time is passed in, in [ticks](timeouts::TICK_NS).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod entry;
pub mod step;
pub mod sweep;
pub mod tcp;
pub mod timeouts;
pub mod tuple;

pub use entry::{Entry, State, Word};
pub use step::{Backend, Change, Direction, Facts, Step, step};
pub use sweep::{Reason, should_drop, unmoved};
pub use tcp::Phase;
pub use timeouts::Timeouts;
pub use tuple::{Tuple, Tuple4, Tuple6};
