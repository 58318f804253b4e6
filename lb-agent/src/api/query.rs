//! The questions, as paths: built by the client, parsed by the server.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    error::{ApiError, Reason},
    words,
};
use crate::model::{
    Name,
    addr::{Family, Protocol},
};

/// A question that the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// `/v1/status`
    Status,
    /// `/v1/canary`
    Canary,
    /// `/v1/services`
    Services,
    /// `/v1/services/NS/NAME`
    Service(Name),
    /// `/v1/backends`
    Backends,
    /// `/v1/maps`
    Maps,
    /// `/v1/maps/text`
    MapsText,
    /// `/v1/maglev/NS/NAME:PORT[?protocol=P][&family=F]`
    Maglev(MaglevQuery),
}

/// Names a Maglev table. One port number may stand for a TCP and a UDP port, and each family has a table of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaglevQuery {
    /// The service port.
    pub port: ServicePortRef,
    /// The protocol; `None`: TCP if the service has that port in TCP, else the protocol that it has.
    pub protocol: Option<Protocol>,
    /// The family; `None`: that of the service's first ClusterIP.
    pub family: Option<Family>,
}

/// A port of a Service: `NS/NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePortRef {
    /// The service.
    pub service: Name,
    /// The port.
    pub port: u16,
}

/// Says why a text names no service or port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is not of the form NS/NAME.
    #[error("{text:?} is not NAMESPACE/NAME")]
    Service {
        /// The text.
        text: String,
    },
    /// It is not of the form NS/NAME:PORT.
    #[error("{text:?} is not NAMESPACE/NAME:PORT")]
    Port {
        /// The text.
        text: String,
    },
    /// It is no protocol.
    #[error("{text:?} is not TCP, UDP or SCTP")]
    Protocol {
        /// The text.
        text: String,
    },
    /// It is no family.
    #[error("{text:?} is not IPv4 or IPv6")]
    Family {
        /// The text.
        text: String,
    },
}

impl Query {
    /// Parses the path and query of a request.
    pub fn parse(path: &str, query: Option<&str>) -> Result<Self, ApiError> {
        let parts: Vec<_> = path.split('/').skip(1).collect();
        let found = match parts.as_slice() {
            ["v1", "status"] => Self::Status,
            ["v1", "canary"] => Self::Canary,
            ["v1", "services"] => Self::Services,
            ["v1", "services", namespace, name] => {
                Self::Service(parse_name(&format!("{namespace}/{name}")).map_err(bad)?)
            }
            ["v1", "backends"] => Self::Backends,
            ["v1", "maps"] => Self::Maps,
            ["v1", "maps", "text"] => Self::MapsText,
            ["v1", "maglev", namespace, port] => {
                let port = format!("{namespace}/{port}").parse().map_err(bad)?;
                Self::Maglev(MaglevQuery { port, protocol: None, family: None })
            }
            _ => return Err(ApiError::new(Reason::UnknownPath, format!("there is no {path} here"))),
        };
        found.with(query.unwrap_or_default())
    }

    /// Adds the parameters behind the `?`.
    fn with(mut self, query: &str) -> Result<Self, ApiError> {
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match (&mut self, parameter.split_once('=')) {
                (Self::Maglev(maglev), Some(("protocol", text))) => {
                    maglev.protocol = Some(parse_protocol(text).map_err(bad)?);
                }
                (Self::Maglev(maglev), Some(("family", text))) => {
                    maglev.family = Some(parse_family(text).map_err(bad)?);
                }
                _ => return Err(ApiError::new(Reason::BadQuery, format!("{parameter:?} means nothing here"))),
            }
        }
        Ok(self)
    }
}

fn bad(error: NameError) -> ApiError {
    ApiError::new(Reason::BadQuery, error.to_string())
}

/// Displays the path with its query.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("/v1/status"),
            Self::Canary => f.write_str("/v1/canary"),
            Self::Services => f.write_str("/v1/services"),
            Self::Service(name) => write!(f, "/v1/services/{name}"),
            Self::Backends => f.write_str("/v1/backends"),
            Self::Maps => f.write_str("/v1/maps"),
            Self::MapsText => f.write_str("/v1/maps/text"),
            Self::Maglev(MaglevQuery { port, protocol, family }) => {
                write!(f, "/v1/maglev/{port}")?;
                let protocol = protocol.map(|protocol| format!("protocol={protocol}"));
                let family = family.map(|family| format!("family={family}"));
                let parameters: Vec<_> = protocol.into_iter().chain(family).collect();
                if parameters.is_empty() { Ok(()) } else { write!(f, "?{}", parameters.join("&")) }
            }
        }
    }
}

/// Parses `NAMESPACE/NAME`, both as Kubernetes allows them: 1 to 253 of a-z, 0-9, `-` and `.`.
pub fn parse_name(text: &str) -> Result<Name, NameError> {
    let valid = |part: &str| {
        (1..=253).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    text.split_once('/')
        .filter(|(namespace, name)| valid(namespace) && valid(name))
        .map(|(namespace, name)| Name::new(namespace, name))
        .ok_or_else(|| NameError::Service { text: text.to_owned() })
}

/// Parses the name of a protocol, in any case.
pub fn parse_protocol(text: &str) -> Result<Protocol, NameError> {
    words::protocol(text).ok_or_else(|| NameError::Protocol { text: text.to_owned() })
}

/// Parses the name of a family, in any case.
pub fn parse_family(text: &str) -> Result<Family, NameError> {
    words::family(text).ok_or_else(|| NameError::Family { text: text.to_owned() })
}

impl FromStr for ServicePortRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Port { text: text.to_owned() };
        let (service, port) = text.split_once(':').ok_or_else(wrong)?;
        let service = parse_name(service).map_err(|_| wrong())?;
        let number = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = number.filter(|&number| number != 0).ok_or_else(wrong)?;
        Ok(Self { service, port })
    }
}

impl fmt::Display for ServicePortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

impl Serialize for ServicePortRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServicePortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<Query, ApiError> {
        match uri.split_once('?') {
            Some((path, query)) => Query::parse(path, Some(query)),
            None => Query::parse(uri, None),
        }
    }

    #[test]
    fn every_query_is_parsed_back() {
        let port: ServicePortRef = "kube-system/kube-dns:53".parse().unwrap();
        let maglev = |protocol, family| Query::Maglev(MaglevQuery { port: port.clone(), protocol, family });
        for (query, path) in [
            (Query::Status, "/v1/status"),
            (Query::Canary, "/v1/canary"),
            (Query::Services, "/v1/services"),
            (Query::Service(Name::new("default", "web")), "/v1/services/default/web"),
            (Query::Backends, "/v1/backends"),
            (Query::Maps, "/v1/maps"),
            (Query::MapsText, "/v1/maps/text"),
            (maglev(None, None), "/v1/maglev/kube-system/kube-dns:53"),
            (maglev(Some(Protocol::Udp), None), "/v1/maglev/kube-system/kube-dns:53?protocol=UDP"),
            (
                maglev(Some(Protocol::Tcp), Some(Family::V6)),
                "/v1/maglev/kube-system/kube-dns:53?protocol=TCP&family=IPv6",
            ),
        ] {
            assert_eq!(query.to_string(), path);
            assert_eq!(parse(path).unwrap(), query);
        }
    }

    #[test]
    fn bad_paths() {
        for (name, uri, reason) in [
            ("root", "/", Reason::UnknownPath),
            ("no version", "/status", Reason::UnknownPath),
            ("slash at the end", "/v1/status/", Reason::UnknownPath),
            ("namespace alone", "/v1/services/default", Reason::UnknownPath),
            ("upper case", "/v1/services/Default/web", Reason::BadQuery),
            ("empty name", "/v1/services/default/", Reason::BadQuery),
            ("no port", "/v1/maglev/default/web", Reason::BadQuery),
            ("port zero", "/v1/maglev/default/web:0", Reason::BadQuery),
            ("port too big", "/v1/maglev/default/web:70000", Reason::BadQuery),
            ("port with a sign", "/v1/maglev/default/web:+80", Reason::BadQuery),
            ("unknown protocol", "/v1/maglev/default/web:80?protocol=icmp", Reason::BadQuery),
            ("parameter of another path", "/v1/services?protocol=tcp", Reason::BadQuery),
        ] {
            assert_eq!(parse(uri).unwrap_err().reason, reason, "{name}");
        }
    }
}
