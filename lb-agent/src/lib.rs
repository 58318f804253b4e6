//! The node agent: what the maps should hold, and the shell around it.
//!
//! One direction of data: a source reports typed events ([`model`]), the rest follows from the current objects.

pub mod api;
pub mod args;
pub mod config;
pub mod ctl;
pub mod datapath;
pub mod health;
pub mod k8s;
pub mod logging;
pub mod maps;
pub mod metrics;
pub mod model;
pub mod problem;
pub mod run;
pub mod select;
pub mod server;
