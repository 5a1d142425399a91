//! Format, clippy with warnings as errors, scripts, licences and advisories, import cycles, sockets, conversions, lengths of
//! files and functions.

mod cycles;
mod exceptions;
mod modules;
mod saturations;
mod structure;
#[cfg(test)]
mod tests;

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::{ebpf, paths, run, setup};

/// Longest file of the project, lines: a file does one thing.
const LONGEST_FILE: usize = 600;

/// Name and function of a check.
type Check = (&'static str, fn() -> Result<()>);

/// Runs every check whose name contains `only`, also after one failed.
///
/// # Errors
/// When a check found something, or none has such a name.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let all: &[Check] = &[
        ("format", format),
        ("file lengths", lengths),
        ("function lengths", structure::functions),
        ("import cycles", structure::cycles),
        ("sockets of the engine", structure::sockets),
        ("saturations", saturations::saturations),
        ("scripts and units", scripts),
        ("paths of the build", paths_of_the_build),
        ("clippy", clippy),
        ("licences, bans, sources", licences),
        ("advisories", advisories),
    ];
    let checks: Vec<&Check> = all.iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only))).collect();
    if checks.is_empty() {
        bail!("no such check; there are: {}", all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
    }
    if only.is_none() {
        setup::setup(setup::For::Linting)?;
    }
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = run::timed(name, check) {
            println!("    {name}: {error:#}");
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("lint: clean");
        return Ok(());
    }
    bail!("lint found something: {}", failed.join(", "))
}

fn format() -> Result<()> {
    run::run(run::cargo().args(["fmt", "--all", "--check"]))?;
    run::run(run::cargo().args(["fmt", "--manifest-path", "ebpf/Cargo.toml", "--check"]))
}

fn clippy() -> Result<()> {
    // The loader embeds the object, so it must be there; its own compiler's warnings are shown when it is built.
    ebpf::build()?;
    run::run(run::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

fn deny(checks: &[&str]) -> Result<()> {
    let deny = setup::deny().context("cargo-deny is missing: run `cargo xtask lint` again")?;
    let mut command = Command::new(deny);
    run::clean_environment(&mut command);
    run::run(
        command
            .current_dir(paths::root())
            .args(["--log-level", "error", "--all-features", "check", "--hide-inclusion-graph"])
            .args(checks),
    )
}

fn licences() -> Result<()> {
    deny(&["licenses", "bans", "sources"])
}

/// The advisory database is fetched from its git repository: where that cannot be reached, it prints that.
fn advisories() -> Result<()> {
    let reachable = Command::new("git")
        .args([
            "-c",
            "http.lowSpeedLimit=1",
            "-c",
            "http.lowSpeedTime=10",
            "ls-remote",
            "--quiet",
            "https://github.com/RustSec/advisory-db",
            "HEAD",
        ])
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .is_ok_and(|output| output.status.success());
    if !reachable {
        println!("    WARNING: advisories were NOT checked: the RustSec database cannot be reached from this machine");
        return Ok(());
    }
    deny(&["advisories"])
}

/// Shell scripts, the service's unit and vagrant's files, which no test runs.
fn scripts() -> Result<()> {
    let listed = run::capture(run::git().args([
        "ls-files",
        "--",
        "*.sh",
        ".ci/run",
        "packaging/postinst",
        "packaging/prerm",
        "packaging/postrm",
    ]))?;
    run::run(Command::new("shellcheck").current_dir(paths::root()).args(listed.lines()))?;
    run::capture(Command::new("ruby").current_dir(paths::root()).args(["-c", "vagrant/Vagrantfile"]))?;
    Ok(())
}

/// A path that the compiler writes into a program is wrong once the clone has moved: cargo does not build it anew. Tests run in
/// their crate's folder, and find programs beside themselves.
fn paths_of_the_build() -> Result<()> {
    let mut found = Vec::new();
    for name in run::capture(run::git().args(["ls-files", "--", "*.rs", ":!xtask/src"]))?.lines() {
        let Ok(text) = fs::read_to_string(paths::root().join(name)) else { continue };
        let bad = |line: &str| {
            ["CARGO_MANIFEST_DIR", "CARGO_BIN_EXE_"].iter().any(|name| line.contains(&format!("env!(\"{name}")))
        };
        found.extend(text.lines().zip(1..).filter(|(line, _)| bad(line)).map(|(_, number)| format!("{name}:{number}")));
    }
    if found.is_empty() { Ok(()) } else { bail!("env! with a path of the build: {}", found.join(", ")) }
}

fn lengths() -> Result<()> {
    let listed = run::capture(run::git().args(["ls-files", "--", "*.rs", "*.md", "*.toml", "*.yaml"]))?;
    let mut long = Vec::new();
    for name in listed.lines() {
        // A file that was just removed is still listed.
        let Ok(text) = fs::read_to_string(paths::root().join(name)) else { continue };
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            long.push(format!("{name} has {lines} lines"));
        }
    }
    if long.is_empty() { Ok(()) } else { bail!("longer than {LONGEST_FILE} lines: {}", long.join(", ")) }
}
