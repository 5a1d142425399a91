//! Paths of the tree.

use std::{fs, path::PathBuf};

/// The workspace's root: the directory that holds `ebpf/`, `agent/`, `xtask/`.
pub(crate) fn root() -> PathBuf {
    // cargo run sets it; falling back to the path at compile time keeps a copied xtask binary usable.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root =
        PathBuf::from(manifest).parent().map(PathBuf::from).expect("a crate of the workspace has a parent directory");
    // Without symlinks, as an inner cargo names it in what it prints.
    fs::canonicalize(&root).unwrap_or(root)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    // A relative one is meant from where cargo runs, which is the root.
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Where the eBPF object always lies, also with another `CARGO_TARGET_DIR`: `loader/build.rs` looks for it here.
pub(crate) fn object() -> PathBuf {
    root().join("target/bpf/brattice.bpf.o")
}

/// Tools that only xtask uses (bpf-linker, cargo-deny, cargo-mutants, compilers unpacked aside).
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}
