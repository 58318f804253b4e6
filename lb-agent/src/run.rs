//! What `lb-agent` does, by command.

use std::io::{self, Write};

use crate::{
    api::status::Probe,
    args::{Args, ArgsError, Command, ProbeArgs},
    ctl::output::{self, OutputError},
};

/// Says why the agent cannot do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The flags cannot be served.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// The answer cannot be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The answer cannot be written.
    #[error("the answer cannot be written: {source}")]
    Write {
        /// Why.
        #[from]
        source: io::Error,
    },
    /// A feature without which the agent cannot start is missing.
    #[error("the agent cannot start on this kernel: {missing} missing")]
    Unusable {
        /// The features.
        missing: String,
    },
    /// The command is not part of this version.
    #[error("this version has no {command}")]
    Missing {
        /// The command.
        command: &'static str,
    },
}

/// Does what the command line says.
pub fn run(args: Args) -> Result<(), RunError> {
    match args.command {
        Command::Run(run) => {
            run.settings()?;
            Err(RunError::Missing { command: "run" })
        }
        Command::Cleanup(_) => Err(RunError::Missing { command: "cleanup" }),
        Command::Probe(args) => probe(&args),
    }
}

fn probe(args: &ProbeArgs) -> Result<(), RunError> {
    let probe = Probe::of_this_kernel();
    let mut answer = Vec::new();
    output::write(&probe, args.output, &mut answer)?;
    match io::stdout().write_all(&answer) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let missing: Vec<_> =
        probe.features.iter().filter(|f| f.required && !f.available).map(|f| f.name.as_str()).collect();
    if missing.is_empty() { Ok(()) } else { Err(RunError::Unusable { missing: missing.join(", ") }) }
}
