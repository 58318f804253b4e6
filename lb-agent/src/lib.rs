//! The node agent: what the maps should hold, and the shell around it.
//!
//! One direction of data: a source reports typed events ([`model`]), the rest follows from the current objects.

pub mod k8s;
pub mod datapath;
pub mod maps;
pub mod model;
pub mod problem;
pub mod select;
