//! The client.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_agent::ctl::main()
}
