//! The daemon.

use std::process::ExitCode;

use clap::Parser;
use lb_agent::{args::Args, run};

fn main() -> ExitCode {
    let args = Args::parse();
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
