//! The node agent: what the maps should hold, and the shell around it.
//!
//! One direction of data: a source reports typed events ([`model`]), the rest follows from the current objects.

pub mod datapath;
pub mod k8s;
pub mod manifests;
pub mod maps;
pub mod model;
pub mod problem;
pub mod select;
pub mod source;
