//! The commands.

pub(crate) mod agent;
pub(crate) mod ask;
pub(crate) mod cleanup;
pub(crate) mod documents;
pub(crate) mod engine;
pub(crate) mod explain;
pub(crate) mod explain_field;
pub(crate) mod flows;
pub(crate) mod init;
pub(crate) mod logs;
pub(crate) mod policy;
pub(crate) mod preflight;
pub(crate) mod route;
pub(crate) mod support_bundle;
pub(crate) mod switch;
mod uncertain;
mod watch;

use crate::output::print;
use crate::{Failure, Outcome, manual};

/// `brattice version`.
pub(crate) fn version() {
    print(&format!(
        "brattice {} (map schema {}, engine protocol {})\n",
        env!("CARGO_PKG_VERSION"),
        brattice_abi::SCHEMA_VERSION,
        brattice_wire::engine::PROTOCOL_VERSION
    ));
}

/// `brattice completions`.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut manual::command(), "brattice", &mut std::io::stdout());
}

/// `brattice man`.
pub(crate) fn man(directory: &std::path::Path) -> Outcome {
    let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", directory.display()));
    for (name, text) in manual::pages().map_err(failed)? {
        let section = name.rsplit('.').next().unwrap_or("1");
        let folder = directory.join(format!("man{section}"));
        if !folder.exists() {
            std::fs::create_dir(&folder).map_err(failed)?;
        }
        std::fs::write(folder.join(name), text).map_err(failed)?;
    }
    Ok(std::process::ExitCode::SUCCESS)
}

/// A runtime for verbs that talk to the kernel.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("no runtime: {e}")))
}

/// Logs to standard error.
pub(crate) fn log(filter: Option<&str>) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    let filter = tracing_subscriber::EnvFilter::try_new(filter.unwrap_or("info"))
        .map_err(|e| Failure::new(format!("--log: {e}; write info, debug, or brattice_control=debug,info")).code(2))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A log without a reader must not end the process.
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// What changes the kernel needs root.
pub(crate) fn need_root(verb: &str) -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "brattice {verb} must run as root: it loads eBPF programs and changes routes (CAP_BPF, CAP_NET_ADMIN)"
    )))
}
