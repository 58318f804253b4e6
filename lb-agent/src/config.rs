//! What `--config` can say, validated: docs/configuration.md states every key for users.

mod maps;
mod node_ports;
mod section;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lb_ebpf::abi::config::MAX_EXCLUDED;
use maglev::fill::Size;
use serde_json::Value;

use self::section::Section;
pub use self::{maps::MapSizes, node_ports::NodePortAddresses};
use crate::model::service::Algorithm;

/// The options of the agent; the default is what it does without a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The node's addresses that serve NodePorts: `nodePortAddresses`.
    pub node_port_addresses: NodePortAddresses,
    /// How backends are chosen where the Service has no annotation: `defaultAlgorithm`.
    pub default_algorithm: Algorithm,
    /// Slots of a Maglev table: `maglevTableSize`.
    pub maglev_table_size: Size,
    /// `socket`.
    pub socket: SocketConfig,
    /// `maps`.
    pub maps: MapSizes,
}

/// Translation at sockets: `socket`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    /// Translates sockets of the host's own network namespace alone (meshes, VM sandboxes): `hostNamespaceOnly`.
    pub host_namespace_only: bool,
    /// Cgroups whose sockets are left alone, with all below them: `excludeCgroups`.
    pub exclude_cgroups: Vec<PathBuf>,
    /// Closes TCP sockets on a backend that is gone, too; UDP ones always are: `closeTcp`.
    pub close_tcp: bool,
    /// Keeps what getpeername answers: `rememberPeer`.
    pub remember_peer: bool,
    /// Translates service addresses that a device of this node holds, too (NodeLocal DNSCache holds such a one):
    /// `translateLocalAddresses`.
    pub translate_local_addresses: bool,
}

/// Says why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("--config {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that it must not.
    #[error("--config {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ConfigError>,
    },
    /// The text is no YAML.
    #[error("no YAML: {message}")]
    Yaml {
        /// What the parser says, with line and column.
        message: String,
    },
    /// There is no such key.
    #[error("unknown key {key}; known here: {known}")]
    UnknownKey {
        /// The key with its path.
        key: String,
        /// The keys that this place has.
        known: String,
    },
    /// A value that the key does not take.
    #[error("{key}: {value} is not {wanted}")]
    Value {
        /// The key with its path.
        key: String,
        /// The value as JSON.
        value: String,
        /// What the key takes.
        wanted: String,
    },
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|source| ConfigError::File { path: path.to_owned(), source: Box::new(source) })
    }

    /// Parses the text of a file; what is not said keeps its default.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let value: Option<Value> = serde_saphyr::from_str(text).map_err(|error| ConfigError::Yaml {
            message: error.without_snippet().to_string().lines().collect::<Vec<_>>().join(" "),
        })?;
        let mut config = Self::default();
        let mut root = Section::root(value)?;
        root.read("nodePortAddresses", &mut config.node_port_addresses, NodePortAddresses::parse)?;
        root.read("defaultAlgorithm", &mut config.default_algorithm, algorithm)?;
        root.read("maglevTableSize", &mut config.maglev_table_size, maglev_size)?;
        config.socket.read(root.section("socket")?)?;
        config.maps.read(root.section("maps")?)?;
        root.end()?;
        Ok(config)
    }
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            host_namespace_only: false,
            exclude_cgroups: Vec::new(),
            close_tcp: false,
            remember_peer: true,
            translate_local_addresses: false,
        }
    }
}

impl SocketConfig {
    fn read(&mut self, mut section: Section) -> Result<(), ConfigError> {
        section.read("hostNamespaceOnly", &mut self.host_namespace_only, boolean)?;
        section.read("excludeCgroups", &mut self.exclude_cgroups, cgroups)?;
        section.read("closeTcp", &mut self.close_tcp, boolean)?;
        section.read("rememberPeer", &mut self.remember_peer, boolean)?;
        section.read("translateLocalAddresses", &mut self.translate_local_addresses, boolean)?;
        section.end()
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "true or false".to_owned())
}

fn algorithm(value: &Value) -> Result<Algorithm, String> {
    value.as_str().and_then(Algorithm::from_name).ok_or_else(|| "random, maglev or least-connections".to_owned())
}

fn maglev_size(value: &Value) -> Result<Size, String> {
    let size = value.as_u64().and_then(|size| u32::try_from(size).ok());
    size.and_then(|size| Size::new(size).ok()).ok_or_else(|| format!("one of {:?}", Size::ALL))
}

fn cgroups(value: &Value) -> Result<Vec<PathBuf>, String> {
    let path = |entry: &Value| entry.as_str().map(PathBuf::from).filter(|path| path.is_absolute());
    let paths: Option<Vec<_>> = value.as_array().and_then(|entries| entries.iter().map(path).collect());
    paths
        .filter(|paths| paths.len() <= MAX_EXCLUDED)
        .ok_or_else(|| format!("a list of at most {MAX_EXCLUDED} absolute paths"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_the_default() {
        for text in ["", "---\n", "# a comment\n", "{}", "socket:\nmaps: {}\nnodePortAddresses:\n"] {
            assert_eq!(Config::parse(text).unwrap(), Config::default(), "{text:?}");
        }
    }

    #[test]
    fn every_key_is_taken() {
        let text = "
nodePortAddresses: [primary, 10.0.0.0/8]
defaultAlgorithm: maglev
maglevTableSize: 65537
socket:
  hostNamespaceOnly: true
  excludeCgroups: [/sys/fs/cgroup/mesh, /sys/fs/cgroup/vm]
  closeTcp: true
  rememberPeer: false
  translateLocalAddresses: true
maps:
  frontends: 1024
  backends: 2048
  addresses: 512
  sourceRanges: 256
  affinity: 128
  peers: 4096
  datagrams: 8192
  strays: 64
  clients: 96
  arenaLines: 100000
";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.node_port_addresses.to_string(), "[primary, 10.0.0.0/8]");
        assert_eq!(
            (config.default_algorithm, config.maglev_table_size),
            (Algorithm::Maglev, Size::new(65537).unwrap())
        );
        assert_eq!(
            config.socket,
            SocketConfig {
                host_namespace_only: true,
                exclude_cgroups: vec!["/sys/fs/cgroup/mesh".into(), "/sys/fs/cgroup/vm".into()],
                close_tcp: true,
                remember_peer: false,
                translate_local_addresses: true,
            }
        );
        assert_eq!(
            config.maps,
            MapSizes {
                frontends: 1024,
                backends: 2048,
                addresses: 512,
                source_ranges: 256,
                affinity: 128,
                peers: 4096,
                datagrams: 8192,
                strays: 64,
                clients: 96,
                arena_lines: 100_000,
            }
        );
    }

    #[test]
    fn the_documentation_states_every_key_and_default() {
        let text = include_str!("../../docs/configuration.md");
        let (_, rest) = text.split_once("```yaml\n").unwrap();
        let (block, _) = rest.split_once("```").unwrap();
        assert_eq!(Config::parse(block).unwrap(), Config::default());
        for top in ["no.such", "socket.no", "maps.no"] {
            let (section, key) = top.split_once('.').unwrap();
            let wrong = if section == "no" { "no: 1".to_owned() } else { format!("{section}: {{{key}: 1}}") };
            let error = Config::parse(&wrong).unwrap_err();
            let ConfigError::UnknownKey { known, .. } = error else { panic!("{error}") };
            for key in known.split(", ") {
                assert!(block.lines().any(|line| line.trim_start().starts_with(&format!("{key}:"))), "{key}");
                let is_section = key == "socket" || key == "maps";
                assert!(is_section || text.contains(&format!("{key}` |")), "{key} has no line in a table");
            }
        }
    }

    #[test]
    fn errors_name_the_key() {
        for (name, text, want) in [
            ("unknown key", "nodePortAdresses: []", "unknown key nodePortAdresses; known here: nodePortAddresses, "),
            (
                "unknown key below",
                "socket: {closeTCP: true}",
                "unknown key socket.closeTCP; known here: hostNamespaceOnly, ",
            ),
            ("unknown map", "maps: {flows: 1}", "unknown key maps.flows; known here: frontends, "),
            ("no mapping", "[1, 2]", "(top): [1,2] is not a mapping"),
            ("no mapping below", "socket: 1", "socket: 1 is not a mapping"),
            ("word for bool", "socket: {closeTcp: maybe}", "socket.closeTcp: \"maybe\" is not true or false"),
            (
                "algorithm",
                "defaultAlgorithm: rr",
                "defaultAlgorithm: \"rr\" is not random, maglev or least-connections",
            ),
            ("table size", "maglevTableSize: 1000", "maglevTableSize: 1000 is not one of [251, 509, "),
            ("no list", "nodePortAddresses: primary", "nodePortAddresses: \"primary\" is not a list of"),
            ("no range", "nodePortAddresses: [10.0.0.0]", "nodePortAddresses: [\"10.0.0.0\"] is not a list of"),
            (
                "relative cgroup",
                "socket: {excludeCgroups: [a]}",
                "socket.excludeCgroups: [\"a\"] is not a list of at most 8",
            ),
            ("too many cgroups", "socket: {excludeCgroups: [/1,/2,/3,/4,/5,/6,/7,/8,/9]}", "socket.excludeCgroups: "),
            ("map of nothing", "maps: {peers: 0}", "maps.peers: 0 is not a number from 16 to "),
            (
                "map too big",
                "maps: {arenaLines: 99999999}",
                "maps.arenaLines: 99999999 is not a number from 64 to 16777216",
            ),
            ("negative", "maps: {peers: -1}", "maps.peers: -1 is not a number"),
            ("no YAML", "socket: [", "no YAML: "),
            ("twice", "socket: {}\nsocket: {}", "no YAML: "),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{name}: {error}");
            assert!(!error.contains('\n'), "{name}: {error}");
        }
    }
}
