//! Where the programs are that a lab starts.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The directory that holds the programs, for builds that keep them apart from `lb-lab`.
pub const BIN_DIR: &str = "LB_BIN_DIR";

/// Finds a program: in `LB_BIN_DIR`, else beside the running one, or one directory up as cargo places test programs.
pub fn find(name: &str) -> Result<PathBuf> {
    let found = directories().into_iter().map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        let searched: Vec<String> = directories().iter().map(|path| path.display().to_string()).collect();
        format!("{name} is not in {}: build it, or set {BIN_DIR}", searched.join(" nor "))
    })
}

/// Returns a `PATH` with those directories in front.
pub fn search_path() -> OsString {
    let inherited = env::var_os("PATH").unwrap_or_default();
    let paths = directories().into_iter().chain(env::split_paths(&inherited));
    env::join_paths(paths).unwrap_or(inherited)
}

fn directories() -> Vec<PathBuf> {
    if let Some(directory) = env::var_os(BIN_DIR) {
        return vec![PathBuf::from(directory)];
    }
    let Ok(program) = env::current_exe() else { return Vec::new() };
    let own = program.parent().map(Path::to_owned);
    let above = own.as_deref().filter(|path| path.ends_with("deps")).and_then(Path::parent).map(Path::to_owned);
    own.into_iter().chain(above).collect()
}
