//! The node agent: what the maps should hold, and the shell around it.
//!
//! One direction of data: a source reports typed events ([`model`]), the rest follows from the current objects.

pub mod apply;
pub mod arena;
pub mod datapath;
pub mod desired;
pub mod dump;
pub mod grace;
pub mod ids;
pub mod maps;
pub mod model;
pub mod plan;
pub mod problem;
pub mod reconcile;
pub mod select;
