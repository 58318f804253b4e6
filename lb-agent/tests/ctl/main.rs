//! `lbctl` and the servers behind it, as processes and over real sockets; the answers come from a node of the test's.
#![expect(clippy::unwrap_used, reason = "a test says what broke by its trace")]

mod http;
mod node;

mod agent;
mod away;
mod commands;
mod ports;
mod socket;
