//! Objects of any kind, as JSON.

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, Service},
        discovery::v1::EndpointSlice,
        networking::v1::ServiceCIDR,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Converted, Refusal, endpoints, field, node, pod, service, service_cidr};
use crate::model::{Kind, ObjectRef};

/// What an object says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// One that the model holds.
    Known(ObjectRef),
    /// Of a kind that ordinary manifests hold and that is nothing to a proxy.
    Foreign,
}

/// The kinds that are read, with their one version.
const KINDS: [(&str, Kind); 5] = [
    ("v1", Kind::Service),
    ("discovery.k8s.io/v1", Kind::EndpointSlice),
    ("v1", Kind::Node),
    ("v1", Kind::Pod),
    ("networking.k8s.io/v1", Kind::ServiceCidr),
];

/// Kinds beside them that are passed over without a word.
const FOREIGN_KINDS: [(&str, &[&str]); 2] = [
    (
        "v1",
        &[
            "ConfigMap",
            "Event",
            "LimitRange",
            "Namespace",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "ServiceAccount",
        ],
    ),
    ("networking.k8s.io/v1", &["Ingress", "IngressClass", "IPAddress"]),
];

/// API groups that are passed over whole.
const FOREIGN_GROUPS: [&str; 10] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "coordination.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Reads what `value` is. Refuses what is no object, and kinds that nobody here knows.
pub fn identify(value: &Value) -> Result<Identity, Refusal> {
    let text = |field: &str| {
        let refuse =
            |message: &str| Refusal { object: label(value), field: field.to_owned(), message: message.to_owned() };
        let given = value.get(field).ok_or_else(|| refuse("is missing"))?;
        given.as_str().ok_or_else(|| refuse("is no text"))
    };
    if !value.is_object() {
        return Err(Refusal { object: label(value), field: String::new(), message: "is no object".to_owned() });
    }
    let (version, name) = (text("apiVersion")?, text("kind")?);
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if let Some((_, kind)) = KINDS.into_iter().find(|(at, kind)| *at == version && kind.name() == name) {
        let metadata: ObjectMeta = match value.get("metadata") {
            Some(metadata) => parse(metadata, &label(value), "metadata")?,
            None => ObjectMeta::default(),
        };
        return field::reference(kind, &metadata).map(Identity::Known);
    }
    let is_foreign = |(at, kinds): &(&str, &[&str])| *at == version && kinds.contains(&name);
    if FOREIGN_GROUPS.contains(&group) || FOREIGN_KINDS.iter().any(is_foreign) {
        return Ok(Identity::Foreign);
    }
    let message = match KINDS.into_iter().find(|(_, kind)| kind.name() == name) {
        Some((known, _)) => format!("{version} {name} is not read, only {known} {name}"),
        None if name == "Endpoints" => format!("{version} {name} is not read: write an EndpointSlice"),
        None => format!("{version} {name} is a kind that this agent does not know"),
    };
    Err(Refusal { object: label(value), field: "kind".to_owned(), message })
}

/// Converts an object that [`identify`] knows.
pub fn convert(reference: &ObjectRef, value: &Value) -> Result<Converted, Refusal> {
    let label = reference.to_string();
    match reference.kind {
        Kind::Service => service::convert(&parse::<Service>(value, &label, "")?),
        Kind::EndpointSlice => endpoints::convert(&parse::<EndpointSlice>(value, &label, "")?),
        Kind::Node => node::convert(&parse::<Node>(value, &label, "")?),
        Kind::Pod => pod::convert(&parse::<Pod>(value, &label, "")?),
        Kind::ServiceCidr => service_cidr::convert(&parse::<ServiceCIDR>(value, &label, "")?),
    }
}

fn parse<T: DeserializeOwned>(value: &Value, label: &str, prefix: &str) -> Result<T, Refusal> {
    // The path of a mistake costs time to follow, so it is only followed when there is one.
    T::deserialize(value).or_else(|_| {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let field = match (prefix, path.as_str()) {
                ("", path) => path.to_owned(),
                (prefix, ".") => prefix.to_owned(),
                (prefix, path) => format!("{prefix}.{path}"),
            };
            Refusal { object: label.to_owned(), field, message: error.into_inner().to_string() }
        })
    })
}

/// Names an object for a message as far as it lets itself be named.
fn label(value: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(|text| text.escape_debug().to_string());
    let kind = text(value.get("kind")).unwrap_or_else(|| "object".to_owned());
    let metadata = value.get("metadata");
    let [namespace, name] = ["namespace", "name"].map(|field| text(metadata.and_then(|metadata| metadata.get(field))));
    match (namespace, name) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => kind,
    }
}

#[cfg(test)]
mod tests;
