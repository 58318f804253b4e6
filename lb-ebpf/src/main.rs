//! The BPF object: entry points around [`lb_ebpf::socket`].
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing in the object can panic: the verifier refuses a program that reaches this loop.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("lb-datapath is a BPF object: build it with scripts/build-ebpf");
}
