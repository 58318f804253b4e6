//! From objects to maps and back, on stores in memory: what readers see at every moment, what failing and full maps
//! do, and what a restart keeps.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cluster;
mod faults;
mod full;
mod history;
mod plans;
mod reader;
mod speed;
mod status;
mod world;
