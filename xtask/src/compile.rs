//! Builds the binary.

use std::path::PathBuf;

use anyhow::Result;

use crate::{ebpf, paths, run};

/// The profile of tests and the demo: near release speed, quick to link, with overflow checks.
pub(crate) const TEST_PROFILE: &str = "test-release";

/// Builds the eBPF object if needed, then the binary `brattice`; returns its path.
///
/// # Errors
/// When either build fails.
pub(crate) fn build(profile: &str) -> Result<PathBuf> {
    ebpf::build()?;
    run::timed(&format!("building brattice ({profile})"), || {
        run::run(run::cargo().args(["build", "--package", "brattice", "--profile", profile]))
    })?;
    Ok(binary(profile))
}

/// Where the binary of a profile lies.
pub(crate) fn binary(profile: &str) -> PathBuf {
    paths::target().join(profile).join("brattice")
}
