//! Measures connections on this machine, in a namespace and a cgroup of their own; prints one JSON figure a line.
//!
//! `lb-bench node [--quick]`; root. Variants take turns in every round, and figures are medians of rounds.

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let quick = words.iter().any(|word| word == "--quick");
    match words.first().map(String::as_str) {
        Some("node") => lb_bench::node::measure(quick),
        Some(_) | None => bail!("usage: lb-bench node [--quick]"),
    }
}
