//! What the programs must know of this node: the one entry of the `config` map.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many cgroups can be left untranslated.
pub const MAX_EXCLUDED: usize = 8;

/// Facts of this node; written whole by the agent, read field by field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// Cookie of the namespace that the agent runs in: the host's.
    pub host_namespace: u64,
    /// [`flags`].
    pub flags: u32,
    /// The node's primary IPv4 address: what host-network clients count as. All zero: none.
    pub node4: [u8; 4],
    /// The node's primary IPv6 address.
    pub node6: [u8; 16],
    /// Cgroups whose sockets are left alone; the first with id 0 ends the list.
    pub excluded: [Excluded; MAX_EXCLUDED],
}

/// A cgroup by id and depth: a socket's cgroup is inside it if its ancestor at that depth has that id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Excluded {
    /// The cgroup's id (inode number of its directory).
    pub cgroup: u64,
    /// Its depth below the cgroup v2 root, which is 0.
    pub level: u32,
    /// Zero.
    pub _reserved: u32,
}

/// Bits of [`Config::flags`].
pub mod flags {
    /// Translates sockets of the host namespace only; pods are left to the packet path or a mesh.
    pub const HOST_NAMESPACE_ONLY: u32 = 1;
    /// Keeps what getpeername answers; off, only services that count connections store anything.
    pub const REMEMBER_PEER: u32 = 2;
    /// At least one cgroup is excluded.
    pub const EXCLUDES: u32 = 4;
}
