//! What the tests that need root stand on.
//!
//! - [`lab`]: nodes, pods and clients as network namespaces on one machine, with a real agent and a real server in each.
//! - [`ground`]: a cgroup, a bpffs and a namespace for one process that loads the programs itself.

pub mod ground;
pub mod lab;
