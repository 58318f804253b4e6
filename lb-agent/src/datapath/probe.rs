//! What this kernel can do, and what each missing thing costs.

use std::{fs, path::Path};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
    util::KernelVersion,
};
use nix::sys::utsname::uname;

use super::{sockets, sys};

/// One thing that the agent asks of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The kernel has it.
    pub available: bool,
    /// The agent cannot start without it.
    pub required: bool,
    /// What it is for.
    pub needed_for: &'static str,
    /// What happens without it.
    pub without_it: &'static str,
}

/// The kernel's release, as `uname -r` prints it.
pub fn kernel_release() -> String {
    uname().map_or_else(|_| "unknown".to_owned(), |names| names.release().to_string_lossy().into_owned())
}

/// True if a hook can choose the errno that it refuses with (`bpf_set_retval`, 5.18).
pub fn has_set_retval() -> bool {
    is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval)
        .unwrap_or_else(|_| at_least(KernelVersion::new(5, 18, 0)))
}

/// Asks the kernel for each thing that the agent uses. Needs the agent's own privileges.
pub fn features() -> Vec<Feature> {
    let program = |kind| is_program_supported(kind).unwrap_or(false);
    let map = |kind| is_map_supported(kind).unwrap_or(false);
    let mut features = vec![
        Feature {
            name: "cgroup-v2",
            available: mounted("cgroup2"),
            required: true,
            needed_for: "every socket hook",
            without_it: "no Service works: mount cgroup v2 (it may stand beside v1)",
        },
        Feature {
            name: "bpffs",
            available: mounted("bpf"),
            required: true,
            needed_for: "maps and links that outlive the agent",
            without_it: "the agent does not start: mount -t bpf bpf /sys/fs/bpf on the host",
        },
        Feature {
            name: "cgroup-sock-addr",
            available: program(ProgramType::CgroupSockAddr),
            required: true,
            needed_for: "connect, sendmsg, recvmsg and getpeername",
            without_it: "no Service works; without privileges every program is refused too",
        },
        Feature {
            name: "cgroup-sock",
            available: program(ProgramType::CgroupSock),
            required: true,
            needed_for: "guarding node ports at bind, forgetting closed sockets",
            without_it: "the agent does not start",
        },
        Feature {
            name: "map-types",
            available: [MapType::Hash, MapType::LruHash, MapType::Array, MapType::LpmTrie, MapType::PerCpuArray]
                .into_iter()
                .all(map),
            required: true,
            needed_for: "the tables",
            without_it: "the agent does not start",
        },
        Feature {
            name: "vmlinux-btf",
            available: Path::new("/sys/kernel/btf/vmlinux").exists(),
            required: false,
            needed_for: "nothing at the socket; tools that print maps by field",
            without_it: "Services work; bpftool shows bytes",
        },
        Feature {
            name: "set-retval",
            available: has_set_retval(),
            required: false,
            needed_for: "the errno of a refused connect (5.18)",
            without_it: "ECONNREFUSED is made by a detour over loopback; Local policy without endpoint, source ranges \
                         and a bind to a node port fail with EPERM",
        },
        Feature {
            name: "netns-cookie-option",
            available: matches!(sys::netns_cookie(), Ok(Some(_))),
            required: false,
            needed_for: "telling namespaces apart from user space (5.14)",
            without_it: "cookies are learned by a connect from inside each namespace",
        },
        Feature {
            name: "map-batches",
            available: at_least(KernelVersion::new(5, 6, 0)),
            required: false,
            needed_for: "reading maps back in few calls",
            without_it: "a restart reads element by element",
        },
        Feature {
            name: "membarrier",
            available: sys::can_wait_for_programs(),
            required: false,
            needed_for: "knowing when freed tables can be reused",
            without_it: "the agent waits by the clock",
        },
        Feature {
            name: "bpf-jit",
            available: fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").map_or(true, |text| text.trim() != "0"),
            required: false,
            needed_for: "speed",
            without_it: "programs are interpreted, several times slower",
        },
        Feature {
            name: "sctp-hooks",
            available: false,
            required: false,
            needed_for: "SCTP Services at the socket",
            without_it: "no kernel has a cgroup hook for SCTP: such Services are not served by this version",
        },
    ];
    for (name, protocol, what) in [
        ("tcp-socket-destroy", libc::IPPROTO_TCP, "closing TCP sockets on a removed backend (socket.closeTcp)"),
        ("udp-socket-destroy", libc::IPPROTO_UDP, "closing UDP sockets on a removed backend"),
    ] {
        let kind = sockets::SocketKind { family: libc::AF_INET, protocol: protocol as u8 };
        features.push(Feature {
            name,
            available: sockets::can_close(kind),
            required: false,
            needed_for: what,
            without_it: "such a socket stays until its owner closes it (CONFIG_INET_DIAG_DESTROY, tcp_diag, udp_diag)",
        });
    }
    features
}

fn at_least(version: KernelVersion) -> bool {
    KernelVersion::current().is_ok_and(|current| current >= version)
}

fn mounted(kind: &str) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind))
}
