//! Finds or makes the BPF object that the agent carries.
//!
//! `LB_EBPF_OBJECT=PATH` takes a ready one, `LB_EBPF_OBJECT=none` an empty one: enough for `cargo check`, clippy and
//! every test that needs no root. Otherwise `scripts/build-ebpf` builds it.

use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("lb-datapath");
    println!("cargo::rerun-if-env-changed=LB_EBPF_OBJECT");
    match env::var("LB_EBPF_OBJECT").as_deref() {
        Ok("none") => fs::write(&out, []).expect("OUT_DIR can be written"),
        Ok(path) => {
            println!("cargo::rerun-if-changed={path}");
            fs::copy(path, &out).unwrap_or_else(|error| panic!("LB_EBPF_OBJECT={path}: {error}"));
        }
        Err(_) => build(&out),
    }
}

fn build(out: &PathBuf) {
    for path in ["../lb-ebpf", "../maglev/src", "../conntrack/src", "../policy/src", "../scripts/build-ebpf"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let status = Command::new("../scripts/build-ebpf").arg(out).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("scripts/build-ebpf: {status}; its message is above"),
        Err(error) => panic!("scripts/build-ebpf: {error}"),
    }
}
