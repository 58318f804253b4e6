//! What `lb-agent` does, by command.

use crate::args::{Args, Command};

/// Says why the agent cannot do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The flags cannot be served.
    #[error(transparent)]
    Args(#[from] crate::args::ArgsError),
    /// The command is not part of this version.
    #[error("this version has no {command}")]
    Missing {
        /// The command.
        command: &'static str,
    },
}

/// Does what the command line says.
pub fn run(args: Args) -> Result<(), RunError> {
    let command = match args.command {
        Command::Run(run) => {
            run.settings()?;
            "run"
        }
        Command::Cleanup(_) => "cleanup",
        Command::Probe(_) => "probe",
    };
    Err(RunError::Missing { command })
}
