//! What the process may do.

use std::fs;

/// Without these nothing works, by the numbers of `capability.h`. SYS_ADMIN stands for BPF and PERFMON too (5.8), which
/// load programs; entering the namespaces of pods takes it in any case.
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// The capabilities that this process lacks.
pub fn missing() -> Vec<&'static str> {
    // Where /proc says nothing, the kernel's own refusal does.
    fs::read_to_string("/proc/self/status").map(|status| lacking(&status)).unwrap_or_default()
}

fn lacking(status: &str) -> Vec<&'static str> {
    let held = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let Some(held) = held else { return Vec::new() };
    NEEDED.into_iter().filter(|(bit, _)| held >> bit & 1 == 0).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lacking_table() {
        for (name, status, want) in [
            ("all", "Name:\tx\nCapEff:\t000001ffffffffff\n", &[][..]),
            ("none", "CapEff:\t0000000000000000\n", &["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
            (
                "a container's default",
                "CapPrm:\t000001ffffffffff\nCapEff:\t00000000a80425fb\n",
                &["CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
            ),
            ("one", "CapEff:\t0000000000001000\n", &["CAP_SYS_ADMIN"]),
            ("nothing is said", "", &[]),
        ] {
            assert_eq!(lacking(status), want, "{name}");
        }
    }
}
