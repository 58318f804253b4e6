//! `lbctl`: asks the agent of this node, and prints what it says.
//!
//! Exit status: 0 fine, 1 the answer is no or something is wrong, 2 wrong usage.

mod args;
mod client;
pub mod output;
mod table;
mod tables;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

use self::{
    args::{Args, BackendCommand, Command, MaglevCommand, MapsCommand, ServiceCommand},
    client::{Client, ClientError},
    output::{Output, OutputError},
};
use crate::api::{
    maps::{MaglevShow, MapsDump},
    query::{MaglevQuery, Query},
    rows::{BackendRow, ServiceRow},
    status::Status,
};

/// Says why a command has no answer.
#[derive(Debug, thiserror::Error)]
enum CtlError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    No,
}

/// Runs `lbctl` on the process's arguments.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let mut answer = Vec::new();
    let verdict = run(&args, &mut answer);
    let written = io::stdout().write_all(&answer).and_then(|()| io::stdout().flush());
    let problem = match (verdict, written) {
        (Ok(verdict), Ok(())) => return verdict.code(),
        // The reader has seen enough, as `head` has.
        (Ok(verdict), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return verdict.code(),
        (Ok(_), Err(error)) => format!("the answer cannot be written: {error}"),
        (Err(error), _) => error.to_string(),
    };
    // Where standard error is gone too, the exit status is all that is left to say.
    let _ = writeln!(io::stderr(), "lbctl: {problem}");
    ExitCode::FAILURE
}

fn run(args: &Args, out: &mut Vec<u8>) -> Result<Verdict, CtlError> {
    let client = Client::new(&args.socket);
    match &args.command {
        Command::Status => {
            let status: Status = client.get(&Query::Status)?;
            output::write(&status, args.output, out)?;
            Ok(if status.well() { Verdict::Fine } else { Verdict::No })
        }
        Command::Service(ServiceCommand::List) => {
            let rows: Vec<ServiceRow> = client.get(&Query::Services)?;
            output::write(&rows, args.output, out)?;
            Ok(Verdict::Fine)
        }
        Command::Service(ServiceCommand::Get { service }) => {
            let rows: Vec<ServiceRow> = client.get(&Query::Service(service.clone()))?;
            output::write(&tables::OneService { name: service, rows: &rows }, args.output, out)?;
            Ok(if rows.is_empty() { Verdict::No } else { Verdict::Fine })
        }
        Command::Backend(BackendCommand::List) => {
            let rows: Vec<BackendRow> = client.get(&Query::Backends)?;
            output::write(&rows, args.output, out)?;
            Ok(Verdict::Fine)
        }
        Command::Maps(MapsCommand::Dump) => {
            match args.output {
                Output::Table => out.extend_from_slice(client.text(&Query::MapsText)?.as_bytes()),
                Output::Json | Output::Yaml => {
                    let dump: MapsDump = client.get(&Query::Maps)?;
                    output::write_data(&dump, args.output, out)?;
                }
            }
            Ok(Verdict::Fine)
        }
        Command::Maglev(MaglevCommand::Show { port, protocol, family }) => {
            let query = MaglevQuery { port: port.clone(), protocol: *protocol, family: *family };
            let shown: MaglevShow = client.get(&Query::Maglev(query))?;
            output::write(&shown, args.output, out)?;
            Ok(Verdict::Fine)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell.generator(), &mut Args::command(), "lbctl", out);
            Ok(Verdict::Fine)
        }
    }
}

impl Verdict {
    fn code(self) -> ExitCode {
        match self {
            Self::Fine => ExitCode::SUCCESS,
            Self::No => ExitCode::FAILURE,
        }
    }
}
