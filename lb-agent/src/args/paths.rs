//! Where cgroup v2 is mounted: the agent finds it, and mounts none.

use std::{ffi::OsString, io, os::unix::ffi::OsStringExt, path::PathBuf};

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
}

/// Finds the first cgroup v2 mount in the text of /proc/mounts.
pub fn find_cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_device, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| unescape(path))
    })
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
}
