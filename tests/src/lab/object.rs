//! Kubernetes objects as the lab carries them: whole, as they were given, with views of the few fields it reads itself.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cidr::Cidr;

/// Kinds without a namespace; every other kind that the lab knows by name lives in `default` when it names none.
const CLUSTER_SCOPED: &[&str] = &[
    "CiliumClusterwideNetworkPolicy",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IPAddress",
    "Namespace",
    "Node",
    "ServiceCIDR",
];
const NAMESPACED: &[&str] =
    &["CiliumNetworkPolicy", "ConfigMap", "EndpointSlice", "Endpoints", "NetworkPolicy", "Pod", "Service"];

/// One object, with its identity read out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// The kind, for example `Service`.
    pub kind: String,
    /// The namespace; none for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The whole object as it was given.
    pub value: Value,
}

impl Object {
    /// Reads every object of a YAML stream; a `List` is unfolded, empty documents are skipped.
    pub fn parse_all(yaml: &str) -> Result<Vec<Self>> {
        let options = serde_saphyr::options! { budget: None };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(yaml, options)
            .map_err(|error| anyhow::anyhow!("{}", one_line(&error)))?;
        let mut objects = Vec::new();
        for (index, document) in documents.into_iter().enumerate() {
            Self::unfold(document, &mut objects).with_context(|| format!("document {}", index + 1))?;
        }
        Ok(objects)
    }

    fn unfold(document: Value, objects: &mut Vec<Self>) -> Result<()> {
        match document {
            Value::Null => {}
            Value::Object(mut map) if map.get("kind").and_then(Value::as_str) == Some("List") => {
                let Some(Value::Array(items)) = map.remove("items") else { bail!("List: items: must be a list") };
                for item in items {
                    Self::unfold(item, objects)?;
                }
            }
            Value::Object(map) => objects.push(Self::read(map)?),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                bail!("is not an object with a kind")
            }
        }
        Ok(())
    }

    fn read(map: Map<String, Value>) -> Result<Self> {
        let mut value = Value::Object(map);
        let kind = Field::new("object", &value).get("kind").name()?.context("kind: is missing")?.to_owned();
        let metadata = Field::new(&kind, &value).get("metadata");
        if kind == "Lab" && metadata.value.is_none() {
            return Ok(Self { kind, namespace: None, name: String::new(), value });
        }
        let version = Field::new(&kind, &value).get("apiVersion");
        let name = metadata.get("name").name()?.with_context(|| format!("{kind}: metadata.name: is missing"))?;
        let title = format!("{kind} {name}");
        // The agents refuse such an object, as the API server does: better said before anything starts.
        version.text()?.with_context(|| format!("{title}: apiVersion: is missing"))?;
        let mut namespace = Field::new(&title, &value).get("metadata").get("namespace").name()?.map(str::to_owned);
        let name = name.to_owned();
        if CLUSTER_SCOPED.contains(&kind.as_str()) {
            ensure!(namespace.is_none(), "{title}: metadata.namespace: this kind has no namespace");
        } else if namespace.is_none() && NAMESPACED.contains(&kind.as_str()) {
            namespace = Some("default".to_owned());
            value["metadata"]["namespace"] = Value::from("default");
        }
        Ok(Self { kind, namespace, name, value })
    }

    /// Returns the object as a place to read fields from.
    pub fn field(&self) -> Field<'_> {
        Field { object: self.to_string(), path: String::new(), value: Some(&self.value) }
    }

    /// Returns `NAMESPACE/NAME`, or the name alone.
    pub fn full_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns whether both are the same object, maybe with other content.
    pub fn same(&self, other: &Self) -> bool {
        (&self.kind, &self.namespace, &self.name) == (&other.kind, &other.namespace, &other.name)
    }

    /// Returns the file that holds this object in a directory of manifests.
    pub fn file_name(&self) -> String {
        let kind = self.kind.to_lowercase();
        match &self.namespace {
            Some(namespace) => format!("{kind}_{namespace}_{}.yaml", self.name),
            None => format!("{kind}_{}.yaml", self.name),
        }
    }

    /// Returns the object as a YAML document.
    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(&self.value).with_context(|| format!("{self}: cannot be written as YAML"))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => f.write_str(&self.kind),
            _ => write!(f, "{} {}", self.kind, self.full_name()),
        }
    }
}

/// A value inside an object together with its path, so that every complaint names object and field.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    object: String,
    path: String,
    value: Option<&'a Value>,
}

impl<'a> Field<'a> {
    fn new(object: &str, value: &'a Value) -> Self {
        Self { object: object.to_owned(), path: String::new(), value: Some(value) }
    }

    /// Returns the field of that name; a field of something missing is missing too.
    pub fn get(&self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        let value = self.value.and_then(|value| value.get(name)).filter(|value| !value.is_null());
        Self { object: self.object.clone(), path, value }
    }

    /// Makes a complaint about this field.
    pub fn complain(&self, what: impl fmt::Display) -> anyhow::Error {
        anyhow::anyhow!("{}: {}: {what}", self.object, self.path)
    }

    /// Returns whether the object holds this field.
    pub fn is_given(&self) -> bool {
        self.value.is_some()
    }

    /// Returns the items of a list; a missing list is empty.
    pub fn items(&self) -> Result<Vec<Self>> {
        let Some(value) = self.value else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| self.complain("must be a list"))?;
        let item = |(index, value)| Self {
            object: self.object.clone(),
            path: format!("{}[{index}]", self.path),
            value: Some(value),
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// Returns the entries of a mapping in their order; a missing mapping is empty.
    pub fn entries(&self) -> Result<Vec<(&'a str, Self)>> {
        let Some(value) = self.value else { return Ok(Vec::new()) };
        let map = value.as_object().ok_or_else(|| self.complain("must be a mapping"))?;
        Ok(map.keys().map(|key| (key.as_str(), self.get(key))).collect())
    }

    /// Returns the text, or none when the field is missing.
    pub fn text(&self) -> Result<Option<&'a str>> {
        let Some(value) = self.value else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.complain(format!("{value} is not a text")))
    }

    /// Returns the text as a name that Kubernetes admits (RFC 1123 subdomain, colons and capitals of kinds included).
    pub fn name(&self) -> Result<Option<&'a str>> {
        let Some(text) = self.text()? else { return Ok(None) };
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
        let admitted = !text.is_empty() && text.len() <= 253 && text.chars().all(fine) && !text.starts_with(['.', '-']);
        ensure!(admitted, self.complain(format!("`{text}` is not a name")));
        Ok(Some(text))
    }

    /// Returns the truth value, false when the field is missing.
    pub fn flag(&self) -> Result<bool> {
        let Some(value) = self.value else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.complain(format!("{value} is neither true nor false")))
    }

    /// Returns the number, which lies in `range`.
    pub fn number(&self, range: RangeInclusive<u16>) -> Result<Option<u16>> {
        let Some(value) = self.value else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        let complaint = || format!("{value} is not a number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| self.complain(complaint()))
    }

    /// Returns the address, or none when the field is missing.
    pub fn address(&self) -> Result<Option<IpAddr>> {
        let Some(text) = self.text()? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.complain(format!("`{text}` is not an IP address")))
    }

    /// Returns the range of addresses, or none when the field is missing.
    pub fn cidr(&self) -> Result<Option<Cidr>> {
        let Some(text) = self.text()? else { return Ok(None) };
        text.parse().map(Some).map_err(|error| self.complain(error))
    }
}

/// Reduces a parser's complaint, which draws the lines around it, to its first line with the place in the input.
fn one_line(error: &serde_saphyr::Error) -> String {
    let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column())).unwrap_or_default();
    let text = error.without_snippet().to_string();
    format!("{place}{}", text.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_streams_and_lists() {
        let yaml = "---\nkind: Node\napiVersion: v1\nmetadata: {name: a}\n---\n---\nkind: List\nitems:\n- kind: Pod\n  apiVersion: v1\n  metadata: {name: p}\n";
        let objects = Object::parse_all(yaml).expect("is fine");
        let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["Node a", "Pod default/p"]);
        assert_eq!(objects[1].value["metadata"]["namespace"], "default");
        assert_eq!(objects[1].file_name(), "pod_default_p.yaml");
    }

    #[test]
    fn yaml_survives_a_round_trip() {
        let text = "kind: Pod\napiVersion: v1\nmetadata:\n  name: p\n  namespace: x\n  annotations: {a: '80', b: 'null', c: 'yes: no', \
                    d: \"two\\nlines\\n\", e: '', f: '- x', g: 1.30, h: '{\"POST /x\":\"y\"}', i: ' #', \
                    j: 'y', k: 'off', l: '~', m: '0x1f', n: '1e3', o: '.5', p: '2026-01-01', q: '0o7', r: '1:30'}\n";
        let objects = Object::parse_all(text).expect("is fine");
        let again = Object::parse_all(&objects[0].to_yaml().expect("is writable")).expect("is readable");
        assert_eq!(objects, again);
    }

    #[test]
    fn complaints_name_object_and_field() {
        for (name, yaml, want) in [
            ("no kind", "metadata: {name: a}", "document 1: kind: is missing"),
            ("no name", "kind: Pod", "document 1: Pod: metadata.name: is missing"),
            ("no version", "kind: Pod\nmetadata: {name: a}", "document 1: Pod a: apiVersion: is missing"),
            ("a path", "kind: Pod\nmetadata: {name: ../x}", "document 1: Pod: metadata.name: `../x` is not a name"),
            (
                "a scalar",
                "kind: Pod\napiVersion: v1\nmetadata: {name: a}\n---\nhello",
                "document 2: is not an object with a kind",
            ),
            (
                "a namespaced node",
                "kind: Node\napiVersion: v1\nmetadata: {name: a, namespace: b}",
                "document 1: Node a: metadata.namespace: this kind has no namespace",
            ),
        ] {
            let error = Object::parse_all(yaml).expect_err(name);
            assert_eq!(format!("{error:#}"), want, "{name}");
        }
        let error = Object::parse_all("kind: [\n").expect_err("is malformed").to_string();
        assert!(error.starts_with("line ") && !error.contains('\n'), "{error}");
    }
}
