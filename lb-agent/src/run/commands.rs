//! `cleanup` and `probe`: what needs no running agent.

use super::RunError;
use crate::{
    api::status::{Feature, Probe},
    args::{PathArgs, ProbeArgs},
    datapath::{pin::Pins, probe},
};

/// Detaches every program and removes every pin.
pub(super) fn cleanup(paths: PathArgs) -> Result<(), RunError> {
    let removed = Pins::hold(&paths.bpf_dir)?.remove()?;
    tracing::info!(removed, dir = %paths.bpf_dir.display(), "programs detached, pins removed");
    Ok(())
}

/// Says what this kernel can do.
pub(super) fn probe(args: ProbeArgs) -> Result<(), RunError> {
    let features = probe::features()
        .into_iter()
        .map(|feature| Feature {
            name: feature.name.to_owned(),
            available: feature.available,
            needed_for: feature.needed_for.to_owned(),
            without_it: feature.without_it.to_owned(),
        })
        .collect();
    let probe = Probe { kernel: probe::kernel_release(), features };
    crate::ctl::print_probe(&probe, args.output).map_err(|source| RunError::Io { what: "standard output", source })
}
