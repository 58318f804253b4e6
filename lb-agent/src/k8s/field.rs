//! Fields that several kinds share.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Converted, Refusal};
use crate::model::{
    Event, Kind, Name, ObjectRef,
    addr::{Cidr, CidrError, Family, Protocol},
};

/// The namespace of a namespaced object that names none, as `kubectl` has it.
const DEFAULT_NAMESPACE: &str = "default";
/// The longest DNS subdomain name (RFC 1123), and with it the longest name of an object.
const MAX_NAME: usize = 253;

/// What is said about one object while it is converted.
pub(super) struct Report {
    object: String,
    warnings: Vec<Refusal>,
}

impl Report {
    pub(super) fn about(reference: &ObjectRef) -> Self {
        Self { object: reference.to_string(), warnings: Vec::new() }
    }

    pub(super) fn refuse(&self, field: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { object: self.object.clone(), field: field.into(), message: message.into() }
    }

    pub(super) fn warn(&mut self, field: impl Into<String>, message: impl Into<String>) {
        let refusal = self.refuse(field, message);
        self.warnings.push(refusal);
    }

    pub(super) fn done(self, event: Event) -> Converted {
        Converted { event, warnings: self.warnings }
    }

    /// A port number: 1 to 65535.
    pub(super) fn port(&self, field: impl Into<String>, number: i32) -> Result<u16, Refusal> {
        match u16::try_from(number) {
            Ok(port) if port != 0 => Ok(port),
            Ok(_) | Err(_) => Err(self.refuse(field, format!("{number} is outside 1 to 65535"))),
        }
    }

    /// A port number that may be absent, which is 0.
    pub(super) fn optional_port(&self, field: impl Into<String>, number: Option<i32>) -> Result<u16, Refusal> {
        match number {
            None | Some(0) => Ok(0),
            Some(number) => self.port(field, number),
        }
    }

    /// A protocol; TCP unless given.
    pub(super) fn protocol(&self, field: impl Into<String>, text: Option<&str>) -> Result<Protocol, Refusal> {
        match text {
            None | Some("" | "TCP") => Ok(Protocol::Tcp),
            Some("UDP") => Ok(Protocol::Udp),
            Some("SCTP") => Ok(Protocol::Sctp),
            Some(other) => Err(self.refuse(field, format!("{other:?} is none of TCP, UDP, SCTP"))),
        }
    }

    pub(super) fn ip(&self, field: impl Into<String>, text: &str) -> Result<IpAddr, Refusal> {
        parse_ip(text).ok_or_else(|| self.refuse(field, format!("{text:?} is no IP address")))
    }

    pub(super) fn cidr(&self, field: impl Into<String>, text: &str) -> Result<Cidr, Refusal> {
        parse_cidr(text).map_err(|error| self.refuse(field, error.to_string()))
    }

    /// Refuses the second value of a family.
    pub(super) fn one_of_each_family(
        &self,
        field: &str,
        families: impl IntoIterator<Item = Family>,
    ) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for (index, family) in families.into_iter().enumerate() {
            if !seen.insert(family) {
                return Err(self.refuse(format!("{field}[{index}]"), format!("is a second one of {family}")));
            }
        }
        Ok(())
    }
}

/// What names the object of this metadata.
pub(super) fn reference(kind: Kind, metadata: &ObjectMeta) -> Result<ObjectRef, Refusal> {
    let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let namespace = if kind.is_namespaced() { namespace.unwrap_or(DEFAULT_NAMESPACE) } else { "" };
    let name = metadata.name.as_deref().unwrap_or_default();
    let named = ObjectRef { kind, name: Name::new(namespace, name) };
    let report = Report::about(&named);
    if name.is_empty() {
        let object = format!("{} without a name", kind.name());
        return Err(Refusal { object, field: "metadata.name".to_owned(), message: "is missing".to_owned() });
    }
    for (field, text) in [("metadata.name", name), ("metadata.namespace", namespace)] {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if text.len() > MAX_NAME || !text.chars().all(fits) {
            return Err(report.refuse(field, format!("{text:?} is no DNS name in lower case")));
        }
    }
    Ok(named)
}

/// Parses an address as the API server does: octets may have leading zeros, and an IPv4 address in IPv6 form is IPv4.
pub(super) fn parse_ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = without_leading_zeros(text).parse().ok()?;
    Some(address.to_canonical())
}

/// Parses a range as the API server does: octets may have leading zeros, and host bits are dropped.
pub(super) fn parse_cidr(text: &str) -> Result<Cidr, CidrError> {
    match text.split_once('/') {
        Some((address, prefix)) => format!("{}/{prefix}", without_leading_zeros(address)).parse(),
        None => text.parse(),
    }
}

fn without_leading_zeros(text: &str) -> String {
    if text.contains(':') {
        return text.to_owned();
    }
    let octets = text.split('.').map(|octet| match octet.trim_start_matches('0') {
        "" if !octet.is_empty() => "0",
        rest => rest,
    });
    octets.collect::<Vec<_>>().join(".")
}

/// Says why no Service and no endpoint can have this address; link-local ones are left to the caller.
pub(super) fn unservable(address: &IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("is the unspecified address")
    } else if address.is_loopback() {
        Some("is a loopback address")
    } else if address.is_multicast() {
        Some("is a multicast address")
    } else if *address == IpAddr::from([255; 4]) {
        Some("is the broadcast address")
    } else {
        None
    }
}

/// True for 169.254.0.0/16 and fe80::/10.
pub(super) fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_as_the_api_server_parses_them() {
        for (text, want) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("010.000.00.001", Some("10.0.0.1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("fd00::1", Some("fd00::1")),
            ("10.0.0", None),
            ("10.0.0.", None),
            ("10.0.0.256", None),
            ("10.0.0.1 ", None),
            ("fe80::1%eth0", None),
            ("", None),
        ] {
            assert_eq!(parse_ip(text).map(|ip| ip.to_string()).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn ranges_parse_as_the_api_server_parses_them() {
        for (text, want) in [
            ("010.1.2.3/08", Some("10.0.0.0/8")),
            ("fd00::/64", Some("fd00::/64")),
            ("10.0.0.0/33", None),
            ("10.0.0.0", None),
        ] {
            assert_eq!(parse_cidr(text).ok().map(|range| range.to_string()).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn names_are_checked_before_they_are_shown() {
        for (name, namespace, kind, want) in [
            (Some("web"), Some("shop"), Kind::Service, Ok("Service shop/web")),
            (Some("web"), None, Kind::Service, Ok("Service default/web")),
            (Some("n1"), Some("ignored"), Kind::Node, Ok("Node n1")),
            (None, None, Kind::Pod, Err("Pod without a name: metadata.name: is missing")),
            (Some(""), None, Kind::Node, Err("Node without a name: metadata.name: is missing")),
            (Some("a\nb"), None, Kind::Node, Err("Node a\nb: metadata.name: \"a\\nb\" is no DNS name in lower case")),
        ] {
            let metadata = ObjectMeta {
                name: name.map(str::to_owned),
                namespace: namespace.map(str::to_owned),
                ..ObjectMeta::default()
            };
            let got = reference(kind, &metadata).map(|named| named.to_string()).map_err(|refusal| refusal.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want);
        }
    }
}
