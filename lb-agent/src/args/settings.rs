//! What the flags of `run` come to, validated.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    PathArgs, RunArgs,
    paths::{self, PathError},
};
use crate::config::{Config, ConfigError};

/// What `lb-agent run` works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Where objects come from.
    pub source: Source,
    /// The cgroup v2 directory that programs attach to.
    pub cgroup: PathBuf,
    /// The directory for pins.
    pub bpf_dir: PathBuf,
    /// The directory for what outlives the agent.
    pub state_dir: PathBuf,
    /// The unix socket of the client.
    pub socket: PathBuf,
    /// Where health is served.
    pub healthz: Option<SocketAddr>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// What `--config` says.
    pub config: Config,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of manifests.
    Manifests(PathBuf),
}

/// Says why the flags cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// No flag names a source of objects.
    #[error("nothing to serve: --manifests DIR names the directory of Services, EndpointSlices, Nodes and Pods")]
    NoSource,
    /// A flag of a part that this version does not have.
    #[error("{flag} comes with {part}; this version {instead}")]
    NotYet {
        /// The flag.
        flag: &'static str,
        /// The part that brings it.
        part: &'static str,
        /// What this version does.
        instead: &'static str,
    },
    /// The node name cannot be a Node's.
    #[error(
        "--node-name: {name:?} is not a Node's name: 1 to 253 of a-z, 0-9, `-` and `.`, a letter or digit at both ends"
    )]
    NodeName {
        /// The name.
        name: String,
    },
    /// The host has no name, and no flag gives one.
    #[error("--node-name is needed: the host's own name cannot be read")]
    NoHostName {
        /// Why.
        source: io::Error,
    },
    /// A path that does not do.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The file behind `--config`.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl RunArgs {
    /// Validates the flags and reads `--config`.
    pub fn settings(self) -> Result<Settings, ArgsError> {
        if !self.devices.is_empty() {
            return Err(ArgsError::NotYet {
                flag: "--devices",
                part: "the packet path (traffic from outside the nodes)",
                instead: "translates at sockets and attaches to no device",
            });
        }
        if self.kubeconfig.is_some() {
            return Err(ArgsError::NotYet {
                flag: "--kubeconfig",
                part: "the Kubernetes source",
                instead: "reads the same objects from --manifests DIR",
            });
        }
        let source = Source::Manifests(self.manifests.ok_or(ArgsError::NoSource)?);
        let config = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        let cgroup = self.paths.cgroup()?;
        Ok(Settings {
            node: node_name(self.node_name)?,
            source,
            cgroup,
            bpf_dir: self.paths.bpf_dir,
            state_dir: self.paths.state_dir,
            socket: self.paths.socket,
            healthz: self.healthz_bind_address.0,
            metrics: self.metrics_bind_address.0,
            config,
        })
    }
}

impl PathArgs {
    /// Returns the cgroup of the flag, or the first cgroup v2 mount of this namespace.
    pub fn cgroup(&self) -> Result<PathBuf, PathError> {
        if let Some(cgroup) = &self.cgroup {
            return Ok(cgroup.clone());
        }
        let mounts = Path::new("/proc/mounts");
        let text = fs::read_to_string(mounts).map_err(|source| PathError::Read { path: mounts.to_owned(), source })?;
        paths::find_cgroup2(&text).ok_or(PathError::NoCgroup2)
    }
}

fn node_name(flag: Option<String>) -> Result<String, ArgsError> {
    let name = match flag {
        Some(name) => name,
        // As kube-proxy and the kubelet derive it.
        None => nix::unistd::gethostname()
            .map_err(|errno| ArgsError::NoHostName { source: errno.into() })?
            .to_string_lossy()
            .trim()
            .to_lowercase(),
    };
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let valid = bytes.len() <= 253
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|&byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
    if valid { Ok(name) } else { Err(ArgsError::NodeName { name }) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{
        super::{Args, Command},
        *,
    };

    fn settings(line: &str) -> Result<Settings, String> {
        let args = Args::try_parse_from(std::iter::once("lb-agent").chain(line.split_whitespace())).unwrap();
        match args.command {
            Command::Run(run) => run.settings().map_err(|error| error.to_string()),
            Command::Cleanup(_) | Command::Probe(_) => panic!("{line} is no run"),
        }
    }

    #[test]
    fn flags_that_cannot_be_served() {
        for (name, line, want) in [
            ("no source", "run --cgroup /c", "nothing to serve: --manifests DIR names"),
            ("devices", "run --manifests /m --devices eth0", "--devices comes with the packet path"),
            ("kubeconfig", "run --kubeconfig /k", "--kubeconfig comes with the Kubernetes source"),
            (
                "upper case",
                "run --manifests /m --cgroup /c --node-name Node",
                "--node-name: \"Node\" is not a Node's name",
            ),
            ("dash at the end", "run --manifests /m --cgroup /c --node-name n-", "--node-name: \"n-\" is not"),
            ("no config", "run --manifests /m --cgroup /c --config /no/such/file", "--config /no/such/file: "),
        ] {
            let error = settings(line).unwrap_err();
            assert!(error.starts_with(want), "{name}: {error}");
            assert!(!error.contains('\n'), "{name}: {error}");
        }
    }

    #[test]
    fn defaults_are_a_real_nodes() {
        let settings = settings("run --manifests /m --cgroup /c --node-name worker-1.example").unwrap();
        assert_eq!(
            settings,
            Settings {
                node: "worker-1.example".into(),
                source: Source::Manifests("/m".into()),
                cgroup: "/c".into(),
                bpf_dir: "/sys/fs/bpf/lb".into(),
                state_dir: "/var/lib/lb-agent".into(),
                socket: "/run/lb-agent/lb-agent.sock".into(),
                healthz: Some("0.0.0.0:10256".parse().unwrap()),
                metrics: Some("127.0.0.1:10249".parse().unwrap()),
                config: Config::default(),
            }
        );
    }
}
