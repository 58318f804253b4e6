//! The command line of `lbctl`.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::output::Output;
use crate::{
    api::{
        self,
        query::{self, ServicePortRef},
    },
    model::{
        Name,
        addr::{Family, Protocol},
    },
};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, about = "Asks the lb-agent of this node")]
#[command(after_help = "Exit status: 0 fine, 1 the answer is no or something is wrong, 2 wrong usage.")]
pub(super) struct Args {
    /// The agent's socket
    #[arg(long, global = true, value_name = "PATH", default_value = api::SOCKET, env = "LB_AGENT_SOCKET")]
    pub(super) socket: PathBuf,
    /// How to print the answer
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Output,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// How the agent is; exit status 1 unless it serves this node and its canary is well
    Status,
    /// Services, as the maps hold them
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Backends
    #[command(subcommand)]
    Backend(BackendCommand),
    /// Maps, entry by entry
    #[command(subcommand)]
    Maps(MapsCommand),
    /// Maglev tables
    #[command(subcommand)]
    Maglev(MaglevCommand),
    /// A completion script: `lbctl completions bash > /etc/bash_completion.d/lbctl`
    Completions {
        /// The shell that reads it
        #[arg(value_enum)]
        shell: CompletionShell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// A row for each address and port where a service is dialled
    List,
    /// The rows of one service; exit status 1 if it has none
    Get {
        /// The service
        #[arg(value_name = "NAMESPACE/NAME", value_parser = query::parse_name)]
        service: Name,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum BackendCommand {
    /// A row for each backend
    List,
}

#[derive(Debug, Subcommand)]
pub(super) enum MapsCommand {
    /// Every entry of every map
    Dump,
}

#[derive(Debug, Subcommand)]
pub(super) enum MaglevCommand {
    /// The slots of each backend, and a digest that is equal on every node
    Show {
        /// The service port
        #[arg(value_name = "NAMESPACE/NAME:PORT")]
        port: ServicePortRef,
        /// TCP, UDP or SCTP, where one port number stands for several
        #[arg(long, value_parser = query::parse_protocol)]
        protocol: Option<Protocol>,
        /// IPv4 or IPv6, where the service has both [default: that of its first ClusterIP]
        #[arg(long, value_parser = query::parse_family)]
        family: Option<Family>,
    },
}

/// Shells that completion scripts are made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

impl CompletionShell {
    pub(super) const fn generator(self) -> Shell {
        match self {
            Self::Bash => Shell::Bash,
            Self::Zsh => Shell::Zsh,
            Self::Fish => Shell::Fish,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        Args::command().debug_assert();
    }
}
