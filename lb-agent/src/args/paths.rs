//! The file systems that the agent stands on: it finds them, and mounts none.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{self, BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType};

/// Says why a path does not do.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// It cannot be looked at.
    #[error("{}: {source}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No cgroup v2 is mounted.
    #[error("no cgroup v2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup` mounts one, --cgroup names another")]
    NoCgroup2,
    /// The path is a cgroup of version 1.
    #[error("--cgroup {}: this is cgroup v1, socket programs need cgroup v2 (/proc/mounts names its mount as cgroup2)", path.display())]
    Cgroup1 {
        /// The path.
        path: PathBuf,
    },
    /// The path is no cgroup.
    #[error("--cgroup {}: this is no cgroup v2 directory (/proc/mounts names its mount as cgroup2)", path.display())]
    NotCgroup {
        /// The path.
        path: PathBuf,
    },
    /// The path is not on a bpffs.
    #[error("--bpf-dir {}: {} is no bpffs: `mount -t bpf bpf {}` mounts one", path.display(), found.display(), mount.display())]
    NotBpffs {
        /// The path.
        path: PathBuf,
        /// Its nearest directory that exists.
        found: PathBuf,
        /// Where a bpffs belongs.
        mount: PathBuf,
    },
}

/// Finds the first cgroup v2 mount in the text of /proc/mounts.
pub fn find_cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_device, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| unescape(path))
    })
}

/// Checks that a path is a directory of cgroup v2.
pub fn check_cgroup(path: &Path) -> Result<(), PathError> {
    let path = || path.to_owned();
    match file_system(&path())? {
        CGROUP2_SUPER_MAGIC => Ok(()),
        CGROUP_SUPER_MAGIC => Err(PathError::Cgroup1 { path: path() }),
        FsType(_) => Err(PathError::NotCgroup { path: path() }),
    }
}

/// Checks that a directory is, or would be made, on a bpffs.
pub fn check_bpffs(path: &Path) -> Result<(), PathError> {
    let found = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    if file_system(found)? == BPF_FS_MAGIC {
        return Ok(());
    }
    let usual = Path::new("/sys/fs/bpf");
    let mount = if path.starts_with(usual) { usual } else { path.parent().unwrap_or(path) };
    Err(PathError::NotBpffs { path: path.to_owned(), found: found.to_owned(), mount: mount.to_owned() })
}

fn file_system(path: &Path) -> Result<FsType, PathError> {
    statfs::statfs(path)
        .map(|answer| answer.filesystem_type())
        .map_err(|errno| PathError::Read { path: path.to_owned(), source: errno.into() })
}

/// Undoes the octal escapes that /proc/mounts writes for space, tab, newline and backslash.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match octal {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_mount_table() {
        for (name, mounts, want) in [
            (
                "unified",
                "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n",
                Some("/sys/fs/cgroup"),
            ),
            (
                "hybrid: v1 beside it",
                "tmpfs /sys/fs/cgroup tmpfs ro 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                 cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
                Some("/sys/fs/cgroup/unified"),
            ),
            ("a space in the path", "none /mnt/my\\040cgroup cgroup2 rw 0 0\n", Some("/mnt/my cgroup")),
            ("a device of that name", "cgroup2 /data ext4 rw 0 0\n", None),
            ("v1 alone", "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n", None),
            ("nothing", "", None),
        ] {
            assert_eq!(find_cgroup2(mounts), want.map(PathBuf::from), "{name}");
        }
    }

    #[test]
    fn other_file_systems_are_refused() {
        let proc = Path::new("/proc/self");
        assert!(matches!(check_cgroup(proc), Err(PathError::NotCgroup { path }) if path == proc));
        assert!(matches!(check_cgroup(Path::new("/no/such")), Err(PathError::Read { .. })));
        let error = check_bpffs(Path::new("/proc/self/no/such")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--bpf-dir /proc/self/no/such: /proc/self is no bpffs: `mount -t bpf bpf /proc/self/no` mounts one"
        );
    }

    #[test]
    fn cgroup_v1_is_named() {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        for line in mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup")) {
            let path = unescape(line.split(' ').nth(1).unwrap());
            assert!(matches!(check_cgroup(&path), Err(PathError::Cgroup1 { .. })), "{}", path.display());
        }
        if let Some(cgroup2) = find_cgroup2(&mounts) {
            check_cgroup(&cgroup2).unwrap();
        }
    }
}
