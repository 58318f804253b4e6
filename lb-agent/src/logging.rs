//! Log lines: one line each, key=value or JSON, on standard error.

mod logfmt;

use std::io;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::args::LogArgs;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `time=… level=info msg="…" key=value`
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

/// Starts logging; a second call in one process changes nothing.
pub fn start(args: &LogArgs) {
    let filter = EnvFilter::new(&args.log_level);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Both fail only where a subscriber is set already, as in a test.
    let _ = match args.log_format {
        LogFormat::Text => subscriber.event_format(logfmt::Logfmt).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
}
