//! Who may talk to whom.
//!
//! | module | holds |
//! | --- | --- |
//! | [`range`] | [`RangeKey`]: a source range of a service, as the `ranges` LPM tries hold it |
//! | `prefix` (feature `build`) | `Prefix`: a range of addresses, parsed from CIDR notation |
//! | `longest` (feature `build`) | the lookup of an LPM trie as pure code: for tests and offline answers |
//!
//! # loadBalancerSourceRanges
//! A frontend whose word says so admits only clients inside one of its service's ranges. All services share one trie
//! per family: a key is the service, matched whole, followed by the address. The key exists or it does not; the value
//! says nothing. A service without ranges has no key and no flag, and admits everybody.
//!
//! As in kube-proxy (pkg/proxy/serviceport.go), a list is split by family, and a family without a range in it
//! stays open; blanks around an element do not count; a prefix length of 0 admits everybody of its family. IPv4 inside IPv6 (`::ffff:0:0/96`) is refused: such clients count as IPv4.
//!
//! No aya; the allocator only with `build`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "build")]
extern crate alloc;

pub mod range;

#[cfg(feature = "build")]
pub mod longest;
#[cfg(feature = "build")]
pub mod prefix;

#[cfg(feature = "build")]
pub use longest::longest;
#[cfg(feature = "build")]
pub use prefix::{Prefix, PrefixError, Range};
pub use range::{Address, RangeKey};
