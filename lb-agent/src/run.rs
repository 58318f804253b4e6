//! What `lb-agent` does, by command. `run` is the only place where everything meets: sources, core, kernel, servers.
//!
//! ```text
//! manifests, netlink -> Core (one thread: model, reconciler, maps) -> grace periods, removed backends
//! pods (one thread: namespaces, canary, closing of sockets)        -> clients map, status
//! servers (tokio)                                                  -> ask Core through a lock
//! ```

mod answers;
mod commands;
mod core;
mod pods;
mod serve;
mod shared;

use crate::{
    args::{Args, ArgsError, Command, paths::PathError},
    ctl::output::OutputError,
    datapath::{install::InstallError, node::NodeError, pin::PinError},
    logging,
    maps::StoreError,
    metrics::MetricsError,
    server::SocketError,
};

/// Says why the agent cannot do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The flags cannot be served.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// A path that does not do.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The agent lacks a privilege.
    #[error("lb-agent needs root, or the capabilities BPF, NET_ADMIN, PERFMON and SYS_ADMIN: {what}")]
    Privileges {
        /// What was refused.
        what: String,
    },
    /// The datapath cannot be put in place.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The pins cannot be removed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The node's own entries cannot be written.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The maps cannot be read back.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client's socket cannot be served.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The answer cannot be written as asked.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A feature without which the agent cannot start is missing.
    #[error("the agent cannot start on this kernel: {missing} missing")]
    Unusable {
        /// The features.
        missing: String,
    },
    /// The system refuses something else.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Does what the command line says.
pub fn run(args: Args) -> Result<(), RunError> {
    logging::start(&args.log);
    match args.command {
        Command::Run(run) => serve::serve(run.settings()?),
        Command::Cleanup(paths) => commands::cleanup(paths),
        Command::Probe(probe) => commands::probe(probe),
    }
}
