//! What the tests that need root stand on.
//!
//! - [`lab`]: nodes, pods and clients as network namespaces on one machine, with a real agent and a real server in each.
//! - [`ask`]: what tests ask of agents and of the kernel while a lab is up.
//! - [`ground`]: a cgroup, a bpffs and a namespace for one process that loads the programs itself.

pub mod ask;
pub mod ground;
pub mod lab;
