//! Services through the socket, as pods and nodes use them: real connections in the lab, on the kernel at hand.
//!
//! Each test has a lab of its own ([`fixture`]) and asserts much in it. Expectations that depend on the kernel say so by
//! [`fixture::Kernel`].

mod fixture;
mod write;

mod affinity;
mod algorithms;
mod changes;
mod cluster_ip;
mod configuration;
mod node_port;
mod refusal;
