//! `cleanup` and `probe`: what needs no running agent.

use std::io::{self, Write as _};

use super::RunError;
use crate::{
    api::status::Probe,
    args::{PathArgs, ProbeArgs},
    ctl::output,
    datapath::pin::Pins,
};

/// Detaches every program and removes every pin.
pub(super) fn cleanup(paths: PathArgs) -> Result<(), RunError> {
    let removed = Pins::hold(&paths.bpf_dir)?.remove()?;
    tracing::info!(removed, dir = %paths.bpf_dir.display(), "programs detached, pins removed");
    Ok(())
}

/// Says what this kernel can do; fails where the agent cannot start on it.
pub(super) fn probe(args: ProbeArgs) -> Result<(), RunError> {
    let probe = Probe::of_this_kernel();
    let mut text = Vec::new();
    output::write(&probe, args.output, &mut text)?;
    match io::stdout().write_all(&text) {
        // The reader has seen enough, as `head` has.
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            return Err(RunError::Io { what: "standard output", source });
        }
        Ok(()) | Err(_) => {}
    }
    let missing = probe.features.iter().filter(|feature| feature.required && !feature.available);
    let missing: Vec<_> = missing.map(|feature| feature.name.as_str()).collect();
    if missing.is_empty() { Ok(()) } else { Err(RunError::Unusable { missing: missing.join(", ") }) }
}
