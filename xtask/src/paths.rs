//! Where things lie.

use std::path::PathBuf;

/// The workspace's root: the directory that holds `ebpf/`, `agent/`, `xtask/`.
pub(crate) fn root() -> PathBuf {
    // cargo run sets it; falling back to the path at compile time keeps a copied xtask binary usable.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(manifest).parent().map(PathBuf::from).expect("a crate of the workspace has a parent directory")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where the eBPF object always lies, also with another `CARGO_TARGET_DIR`: `loader/build.rs` looks for it here.
pub(crate) fn object() -> PathBuf {
    root().join("target/bpf/brattice.bpf.o")
}

/// Tools that are ours alone (bpf-linker, cargo-deny, cargo-mutants, compilers unpacked aside).
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}
