//! The daemon.

use std::process::ExitCode;

use clap::Parser;
use lb_agent::{args::Args, logging, run};

fn main() -> ExitCode {
    let args = Args::parse();
    logging::start(&args.log);
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
