//! What the tests that need root stand on.
//!
//! - [`lab`]: nodes, pods and clients as network namespaces on one machine, with a real agent and a real server in each.

pub mod lab;
