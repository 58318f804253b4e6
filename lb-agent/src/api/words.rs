//! The model's words in JSON: as text, as they are displayed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::{
    addr::{Family, Protocol},
    service::{Algorithm, TrafficPolicy},
};

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer, [Self::Tcp, Self::Udp, Self::Sctp], |protocol| protocol.to_string())
    }
}

impl Serialize for Algorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer, [Self::Random, Self::Maglev, Self::LeastConnections], Self::name)
    }
}

impl Serialize for TrafficPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TrafficPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer, [Self::Cluster, Self::Local], Self::name)
    }
}

/// Finds the protocol of that name, in any case.
pub(super) fn protocol(text: &str) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.to_string().eq_ignore_ascii_case(text))
}

/// Finds the family of that name, in any case.
pub(super) fn family(text: &str) -> Option<Family> {
    Family::ALL.into_iter().find(|family| family.to_string().eq_ignore_ascii_case(text))
}

fn word<'de, D, T, W, const N: usize>(deserializer: D, all: [T; N], name: impl Fn(T) -> W) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Copy,
    W: AsRef<str> + fmt::Display,
{
    let text = String::deserialize(deserializer)?;
    let found = all.into_iter().find(|&value| name(value).as_ref() == text);
    found.ok_or_else(|| de::Error::custom(format_args!("unknown word {text:?}")))
}
