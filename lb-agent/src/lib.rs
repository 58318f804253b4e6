//! The node agent: what the maps should hold, and the shell around it.
//!
//! One direction of data: a source reports typed events ([`model`]), the rest follows from the current objects.

pub mod api;
pub mod apply;
pub mod arena;
pub mod args;
pub mod config;
pub mod ctl;
pub mod datapath;
pub mod desired;
pub mod dump;
pub mod grace;
pub mod health;
pub mod ids;
pub mod k8s;
pub mod logging;
pub mod manifests;
pub mod maps;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod problem;
pub mod reconcile;
pub mod run;
pub mod select;
pub mod server;
pub mod source;
