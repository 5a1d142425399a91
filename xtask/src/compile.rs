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
        let mut command = run::cargo();
        // For the tests' profile the whole workspace, so that demo and tests share one build of the dependencies.
        command.args(["build", "--profile", profile]);
        command.args(if profile == TEST_PROFILE {
            ["--workspace", "--bins"].as_slice()
        } else {
            &["--package", "brattice"]
        });
        run::run(&mut command)
    })?;
    Ok(binary(profile))
}

/// Where the binary of a profile lies.
pub(crate) fn binary(profile: &str) -> PathBuf {
    paths::target().join(profile).join("brattice")
}
