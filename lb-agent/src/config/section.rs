//! One mapping of the file, key by key: an error names the key by its whole path.

use serde_json::{Map, Value};

use super::ConfigError;

/// A mapping that is being read.
pub(super) struct Section {
    path: String,
    left: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Section {
    /// Starts at the top of a document; an empty one is an empty mapping.
    pub(super) fn root(value: Option<Value>) -> Result<Self, ConfigError> {
        Self::new(String::new(), value)
    }

    /// Reads the mapping below a key; a missing one is empty.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Self, ConfigError> {
        let value = self.take(key);
        Self::new(self.name(key), value)
    }

    /// Reads a value into `into`, which keeps its default where the key is missing. `parse` says what it wants.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        into: &mut T,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Result<(), ConfigError> {
        if let Some(value) = self.take(key) {
            *into = parse(&value).map_err(|wanted| ConfigError::Value {
                key: self.name(key),
                value: value.to_string(),
                wanted,
            })?;
        }
        Ok(())
    }

    /// Ends the mapping: what nobody read is unknown.
    pub(super) fn end(self) -> Result<(), ConfigError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(key) => Err(ConfigError::UnknownKey { key: self.name(key), known: self.known.join(", ") }),
        }
    }

    fn new(path: String, value: Option<Value>) -> Result<Self, ConfigError> {
        let left = match value {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) => map,
            Some(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_))) => {
                let key = if path.is_empty() { "(top)".to_owned() } else { path };
                return Err(ConfigError::Value { key, value: value.to_string(), wanted: "a mapping".to_owned() });
            }
        };
        Ok(Self { path, left, known: Vec::new() })
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.left.remove(key).filter(|value| !value.is_null())
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
