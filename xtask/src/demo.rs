//! The demo: builds, then runs `tests/src/bin/demo.rs`, which builds the lab and tears it down again.

use anyhow::{Result, bail};

use crate::{compile, paths, run, setup};

/// Shows Brattice at work; with `keep`, leaves it running.
///
/// # Errors
/// When something is missing, does not build, or the demo fails.
pub(crate) fn run(keep: bool) -> Result<()> {
    demo(if keep { &["--keep"] } else { &[] })
}

/// Ends a demo that was left running.
///
/// # Errors
/// When it cannot be ended.
pub(crate) fn stop() -> Result<()> {
    demo(&["--stop"])
}

fn demo(arguments: &[&str]) -> Result<()> {
    if !run::is_root() {
        bail!("the demo needs root: it makes network namespaces and loads eBPF programs.\nRun this command as root.");
    }
    setup::setup(setup::For::Tests)?;
    let binary = compile::build(compile::TEST_PROFILE)?;
    let mut command = std::process::Command::new(paths::target().join(compile::TEST_PROFILE).join("demo"));
    command.current_dir(paths::root()).env("BRATTICE_BIN", binary).args(arguments);
    // Ctrl-C reaches the demo as well: it tears its lab down, and we report how it ended.
    let _interrupt = ignore_interrupts();
    let status = command.status()?;
    if status.success() { Ok(()) } else { bail!("the demo ended with {status}") }
}

/// SIGINT goes to the whole foreground process group; ours must outlive the demo's clean-up. A handler that does
/// nothing is not inherited by the demo, as an ignored signal would be.
fn ignore_interrupts() -> std::thread::JoinHandle<()> {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    })
}
