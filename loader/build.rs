//! Embeds the eBPF object that `cargo xtask build` puts at `target/bpf/brattice.bpf.o`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::exit;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let workspace = manifest.parent().unwrap_or(Path::new("."));
    let object = workspace.join("target/bpf/brattice.bpf.o");
    // From the crate's folder, so that a clone that was moved needs no new build.
    println!("cargo::rerun-if-changed=../target/bpf/brattice.bpf.o");
    let copy = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("brattice.bpf.o");
    if let Err(error) = fs::copy(&object, &copy) {
        println!(
            "cargo::error=the eBPF object is missing ({}: {error}); build it with `cargo xtask build`, which also \
             installs the tools for it",
            object.display()
        );
        exit(1);
    }
}
