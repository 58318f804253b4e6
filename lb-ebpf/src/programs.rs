//! What touches the kernel: maps, helpers, contexts and entry points.
#![expect(unsafe_code, reason = "map values, helpers and contexts are raw pointers that the verifier checks")]

mod hook;
mod maps;
mod sock;
mod sock_addr;

/// What the kernel can do: constants that the agent sets before loading, so that the verifier never sees the branch
/// that an older kernel would refuse.
pub(crate) mod kernel {
    /// `bpf_set_retval` (5.18): a hook can say which errno it refuses with. Below, every refusal is EPERM.
    #[unsafe(no_mangle)]
    static HAS_SET_RETVAL: u8 = 0;

    /// True where a hook can choose its errno.
    #[inline(always)]
    pub(crate) fn has_set_retval() -> bool {
        // SAFETY: a static of this object; volatile, since the agent writes it after compilation.
        unsafe { core::ptr::read_volatile(&raw const HAS_SET_RETVAL) != 0 }
    }
}

/// The kernel reads the license to decide which helpers the programs may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
