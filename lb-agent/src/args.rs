//! Flags and environment, and what they come to.

pub mod paths;
mod settings;

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args as ClapArgs, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

pub use self::settings::{ArgsError, Settings, Source};
use crate::{ctl::output::Output, logging::LogFormat};

/// The command line of `lb-agent`.
#[derive(Debug, Parser)]
#[command(
    name = "lb-agent",
    version,
    about = "Serves Kubernetes Services on this node with eBPF, in kube-proxy's place"
)]
pub struct Args {
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve this node until SIGTERM; the datapath stays in place when the agent ends
    Run(Box<RunArgs>),
    /// Detach every program and remove every pin
    Cleanup(PathArgs),
    /// Say what this kernel can do, and what each missing thing costs
    Probe(ProbeArgs),
}

/// How the agent logs: one line each, to standard error.
#[derive(Clone, Debug, ClapArgs)]
pub struct LogArgs {
    /// key=value lines or JSON
    #[arg(
        long,
        global = true,
        help_heading = "Logging",
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        env = "LB_AGENT_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
    /// error, warn, info, debug or trace; or directives as `info,lb_agent::server=debug`
    #[arg(long, global = true, help_heading = "Logging", value_name = "LEVEL", default_value = "info",
          env = "RUST_LOG", value_parser = level)]
    pub log_level: String,
}

/// Where the agent keeps things.
#[derive(Clone, Debug, ClapArgs)]
pub struct PathArgs {
    /// The cgroup v2 directory whose processes are served [default: the cgroup v2 mount in /proc/mounts]
    #[arg(long, value_name = "PATH", env = "LB_AGENT_CGROUP")]
    pub cgroup: Option<PathBuf>,
    /// Directory for pins, on a bpffs that is mounted already
    #[arg(long, value_name = "PATH", default_value = "/sys/fs/bpf/lb", env = "LB_AGENT_BPF_DIR")]
    pub bpf_dir: PathBuf,
    /// Directory for what must outlive the agent
    #[arg(long, value_name = "PATH", default_value = "/var/lib/lb-agent", env = "LB_AGENT_STATE_DIR")]
    pub state_dir: PathBuf,
    /// The unix socket that lbctl talks to
    #[arg(long, value_name = "PATH", default_value = crate::api::SOCKET, env = "LB_AGENT_SOCKET")]
    pub socket: PathBuf,
}

/// Flags of `run`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RunArgs {
    /// Read Services, EndpointSlices, Nodes and Pods from the manifests in this directory, and follow it
    #[arg(long, value_name = "DIR", env = "LB_AGENT_MANIFESTS", conflicts_with = "kubeconfig")]
    pub manifests: Option<PathBuf>,
    /// Read them from the Kubernetes API; comes with the Kubernetes source, this version refuses it
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// This node's name in its Node object [default: the host name in lower case]
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Where the agent keeps things.
    #[command(flatten)]
    pub paths: PathArgs,
    /// Devices that carry traffic from outside; comes with the packet path, this version refuses it
    #[arg(long, value_name = "LIST", value_delimiter = ',', env = "LB_AGENT_DEVICES")]
    pub devices: Vec<String>,
    /// Options in YAML
    #[arg(long, value_name = "FILE", env = "LB_AGENT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where /healthz, /livez and /canary are served, "" for nowhere
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:10256", env = "LB_AGENT_HEALTHZ_BIND_ADDRESS",
          value_parser = bind::<10256>)]
    pub healthz_bind_address: Bind,
    /// Where /metrics is served, "" for nowhere
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249", env = "LB_AGENT_METRICS_BIND_ADDRESS",
          value_parser = bind::<10249>)]
    pub metrics_bind_address: Bind,
}

/// Flags of `probe`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ProbeArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// An address to serve on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind(pub Option<SocketAddr>);

/// Reads `IP:PORT`, `IP` with the default port as kube-proxy does, or nothing.
fn bind<const PORT: u16>(text: &str) -> Result<Bind, String> {
    if text.is_empty() {
        return Ok(Bind(None));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    SocketAddr::from_str(text)
        .or_else(|_| bare.parse().map(|ip| SocketAddr::new(ip, PORT)))
        .map(|address| Bind(Some(address)))
        .map_err(|_| "neither IP:PORT, nor an IP, nor empty".to_owned())
}

fn level(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<RunArgs, clap::Error> {
        let words = std::iter::once("lb-agent").chain(line.split_whitespace());
        Args::try_parse_from(words).map(|args| match args.command {
            Command::Run(run) => *run,
            Command::Cleanup(_) | Command::Probe(_) => panic!("{line} is no run"),
        })
    }

    #[test]
    fn the_command_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_contract_is_taken() {
        let line = "run --manifests /m --node-name n1 --cgroup /c --bpf-dir /b --state-dir /s --socket /k \
                    --config /f --log-format json --log-level debug --healthz-bind-address 127.0.0.1:1 \
                    --metrics-bind-address [::1]:2";
        let run = parse(line).unwrap();
        assert_eq!(run.manifests, Some("/m".into()));
        assert_eq!(run.node_name.as_deref(), Some("n1"));
        assert_eq!(run.paths.cgroup, Some("/c".into()));
        assert_eq!((run.paths.bpf_dir, run.paths.state_dir, run.paths.socket), ("/b".into(), "/s".into(), "/k".into()));
        assert_eq!(run.config, Some("/f".into()));
        assert_eq!(run.healthz_bind_address, Bind(Some("127.0.0.1:1".parse().unwrap())));
        assert_eq!(run.metrics_bind_address, Bind(Some("[::1]:2".parse().unwrap())));
        let run = parse("run --kubeconfig /f --devices eth0,eth1").unwrap();
        assert_eq!((run.kubeconfig, run.devices), (Some("/f".into()), vec!["eth0".to_owned(), "eth1".to_owned()]));
        assert!(parse("run --manifests /m --kubeconfig /f").is_err(), "two sources at once");
        assert!(parse("run --no-such-flag").is_err());
        assert!(parse("run --log-level loud=very").is_err());
    }

    #[test]
    fn bind_table() {
        for (name, text, want) in [
            ("nowhere", "", Ok(None)),
            ("address and port", "0.0.0.0:80", Ok(Some("0.0.0.0:80"))),
            ("address alone takes the default port", "10.0.0.1", Ok(Some("10.0.0.1:10256"))),
            ("IPv6 alone", "::", Ok(Some("[::]:10256"))),
            ("IPv6 alone in brackets", "[::1]", Ok(Some("[::1]:10256"))),
            ("IPv6 with port", "[::1]:1", Ok(Some("[::1]:1"))),
            ("port outside", "0.0.0.0:70000", Err(())),
            ("a name", "localhost:80", Err(())),
        ] {
            let want = want.map(|text| Bind(text.map(|text: &str| text.parse().unwrap())));
            assert_eq!(bind::<10256>(text).map_err(|_| ()), want, "{name}");
        }
    }
}
