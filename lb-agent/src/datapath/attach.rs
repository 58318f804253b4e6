//! Attaching: one pinned link for each hook, whose program is swapped atomically.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use super::{load::Loaded, sys};
use crate::maps::raw;

/// The hooks: program name and `enum bpf_attach_type`.
pub const HOOKS: [(&str, u32); 11] = [
    ("connect4", 10),
    ("connect6", 11),
    ("post_bind4", 12),
    ("post_bind6", 13),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("sock_release", 34),
];

/// Says which hook could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object holds no such program.
    #[error("the BPF object has no program {hook}")]
    NoProgram {
        /// Name of the hook.
        hook: &'static str,
    },
    /// The kernel refused.
    #[error("hook {hook}: {action}: {source}")]
    Refused {
        /// Name of the hook.
        hook: &'static str,
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// What became of the links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Links made.
    pub made: usize,
    /// Links whose program was swapped.
    pub swapped: usize,
}

/// Puts the loaded programs behind the pinned links of `cgroup`. A link that is missing, or that belongs to another
/// cgroup, is made; it takes the place of the old one only once it works.
pub fn attach(loaded: &Loaded, cgroup: &File, links: &Path) -> Result<Attached, AttachError> {
    let mut done = Attached::default();
    // What answers is put in place before what asks: a translated socket always finds its way back.
    for (hook, attach_type) in HOOKS.into_iter().rev() {
        let program = loaded.programs.get(hook).ok_or(AttachError::NoProgram { hook })?.fd.as_fd();
        let refused = |action| move |source| AttachError::Refused { hook, action, source };
        let path = links.join(hook);
        match pinned(&path, cgroup) {
            Some(link) => {
                sys::link_update(link.as_fd(), program).map_err(refused("swap the program"))?;
                done.swapped += 1;
            }
            None => {
                make(program, cgroup, attach_type, &path).map_err(refused("attach to the cgroup"))?;
                done.made += 1;
            }
        }
    }
    Ok(done)
}

/// True if every hook has a pinned link that is attached to `cgroup`.
pub fn is_attached(cgroup: &File, links: &Path) -> bool {
    HOOKS.iter().all(|(hook, _)| pinned(&links.join(hook), cgroup).is_some())
}

/// Opens a pinned link if it is attached to this very cgroup. A cgroup that was removed and made again under its
/// name is another one: its links are dead.
fn pinned(path: &Path, cgroup: &File) -> Option<OwnedFd> {
    let link = raw::get(path).ok()?;
    let info = sys::link_info(link.as_fd()).ok()?;
    (info.cgroup == cgroup.metadata().ok()?.ino()).then_some(link)
}

fn make(program: BorrowedFd<'_>, cgroup: &File, attach_type: u32, path: &Path) -> io::Result<()> {
    let link = sys::link_create(program, cgroup.as_fd(), attach_type)?;
    // bpffs takes no dot in a name.
    let fresh = PathBuf::from(format!("{}_new", path.display()));
    drop(fs::remove_file(&fresh));
    raw::pin(link.as_fd(), &fresh)?;
    fs::rename(&fresh, path)
}
