//! Kubernetes objects become events of the model. A converted object is valid by itself; what is not is refused by
//! object and field.
//!
//! Both sources use this: the watchers of the API server and the manifest directory. What the API server would not
//! have let in refuses the object, so that its last valid version stays. What it lets in and a proxy skips is skipped
//! with a warning. The only Kubernetes types of the agent are below this module.

pub mod endpoints;
mod field;
pub mod node;
pub mod object;
pub mod pod;
pub mod service;
pub mod service_cidr;

use std::collections::BTreeMap;

use crate::model::Event;

/// A Service that another proxy serves carries this label, and so do its slices; the value does not matter (KEP-2447).
const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// A headless Service's slices carry this label, and what carries it has no virtual address to serve.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// An object as an event, with what was skipped in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Apply, or Delete for an object that is no business of this agent.
    pub event: Event,
    /// Values that do not hold; the rest of the object does.
    pub warnings: Vec<Refusal>,
}

/// A value that cannot be, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{object}: {field}: {message}")]
pub struct Refusal {
    /// The object, as `KIND NAMESPACE/NAME`.
    pub object: String,
    /// The field, as `spec.ports[0].port`.
    pub field: String,
    /// What is wrong with its value.
    pub message: String,
}

/// True if this agent serves what carries these labels.
fn is_ours(labels: Option<&BTreeMap<String, String>>) -> bool {
    labels.is_none_or(|labels| !labels.contains_key(SERVICE_PROXY_NAME) && !labels.contains_key(HEADLESS))
}
