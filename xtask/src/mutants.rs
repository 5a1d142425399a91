//! Mutation testing: cargo-mutants changes one thing after the other in a crate that decides, and each change must turn a
//! test red. Takes up to an hour per crate, so it is no part of `cargo xtask test`.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::{paths, run, setup};

/// A crate whose decisions nothing may change unnoticed.
struct Crate {
    name: &'static str,
    /// Its folder.
    folder: &'static str,
    /// The files that decide, under `src/`.
    files: &'static [&'static str],
    /// Arguments of `cargo test`: the tests that are fast enough to run for every change.
    tests: &'static [&'static str],
}

const CRATES: [Crate; 3] = [
    Crate {
        name: "brattice-decide",
        folder: "agent/decide",
        files: &[
            "authorize",
            "compiled",
            "decide",
            "filters",
            "guard",
            "head",
            "identity",
            "policies",
            "route",
            "rules",
            "sticky",
        ],
        tests: &["--lib", "--test", "authorize", "--test", "compiled", "--test", "route"],
    },
    Crate {
        name: "brattice-iam",
        folder: "agent/iam",
        files: &[
            "principal",
            "request",
            "operator",
            "value",
            "condition",
            "chain",
            "compiled",
            "policy",
            "key",
            "pattern",
            "glob",
        ],
        tests: &["--lib", "--test", "golden", "--test", "allocations", "--test", "compiled"],
    },
    Crate {
        name: "brattice-router",
        folder: "agent/router",
        files: &[
            "router",
            "order",
            "index",
            "condition",
            "pattern",
            "field",
            "tree",
            "value",
            "path",
            "shares",
            "sticky",
            "rewrite",
        ],
        tests: &[
            "--lib", "--test", "golden", "--test", "rewrite", "--test", "router", "--test", "path", "--test", "counted",
        ],
    },
];

/// A test that takes longer, seconds, is one that does not end any more: the change was noticed.
const TIMEOUT: &str = "60";
/// How cargo-mutants ends where a change turned no test red.
const MISSED: i32 = 2;
/// How cargo-mutants ends where changes only made tests endless.
const TIMED_OUT: i32 = 3;

/// Runs it for one crate, or all.
///
/// # Errors
/// When a change turns no test red; which, is shown.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    setup::setup(setup::For::Mutating)?;
    let chosen: Vec<&Crate> = CRATES.iter().filter(|own| only.is_none_or(|only| own.name == only)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = CRATES.iter().map(|own| own.name).collect();
        bail!("no such crate here; there are {}", names.join(" and "));
    }
    for own in chosen {
        run::say(&format!("mutants of {}", own.name));
        mutate(own)?;
    }
    Ok(())
}

fn mutate(own: &Crate) -> Result<()> {
    let output = paths::target().join("mutants").join(own.name);
    // cargo-mutants makes the last folder only.
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let mut command = Command::new(setup::mutants().context("cargo-mutants is missing")?);
    run::clean_environment(&mut command);
    command.current_dir(paths::root()).args(["mutants", "--package", own.name, "--cap-lints", "true"]);
    command.args(["--timeout", TIMEOUT, "--output"]).arg(&output);
    for file in own.files {
        command.arg("--file").arg(format!("{}/src/{file}.rs", own.folder));
    }
    command.arg("--").args(own.tests);
    let status = command.status().with_context(|| format!("cannot start `{}`", run::shown(&command)))?;
    if status.success() || status.code() == Some(TIMED_OUT) {
        return Ok(());
    }
    if status.code() != Some(MISSED) {
        bail!("cargo-mutants could not try the changes of {} ({status}); its own message is above", own.name);
    }
    bail!(
        "a change of {} turned no test red: add the test that does, or where nothing observable changes, simplify the code or \
         add the change with its reason to .cargo/mutants.toml",
        own.name
    )
}
