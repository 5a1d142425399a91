//! Rebuilds with each known fault in turn and shows that a test turns red.
//!
//! The tree is copied to `target/sabotage/tree` and built there, so that neither the sources nor the build of the real
//! tree are touched, also when this is interrupted.

mod faults;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use self::faults::{FAULTS, Fault};
use crate::{compile, expected::Counts, paths, run, setup};

/// Applies every fault (or those whose name contains `only`), expects its tests to fail.
///
/// # Errors
/// When the tests fail without a fault, a fault does not apply, or does not turn any of its tests red.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    if !run::is_root() {
        bail!("the tests need root: they make network namespaces and load eBPF programs.\nRun this command as root.");
    }
    setup::setup(setup::For::Tests)?;
    let faults: Vec<&Fault> = FAULTS.iter().filter(|fault| only.is_none_or(|only| fault.name.contains(only))).collect();
    if faults.is_empty() {
        bail!(
            "no fault has such a name; they are: {}",
            FAULTS.iter().map(|fault| fault.name).collect::<Vec<_>>().join(", ")
        );
    }
    let tree = copy_tree()?;
    let mut problems = Vec::new();
    run::say("without a fault: every named test must pass");
    build(&tree)?;
    let mut green = std::collections::BTreeSet::new();
    for test in faults.iter().flat_map(|fault| fault.tests) {
        if !green.contains(test) {
            if passes(&tree, test)? {
                green.insert(*test);
            } else {
                problems.push(format!("{}::{} fails without any fault", test.0, test.1));
            }
        }
    }
    let mut rows = Vec::new();
    for fault in &faults {
        run::say(&format!("fault: {} ({})", fault.name, fault.means));
        match sabotage(&tree, fault, &green) {
            Ok(Some(test)) => rows.push(format!("red    {:<34} {test}", fault.name)),
            Ok(None) => {
                rows.push(format!("GREEN  {:<34} no test noticed it", fault.name));
                problems.push(format!("{}: no test noticed it", fault.name));
            }
            Err(error) => {
                rows.push(format!("ERROR  {:<34} {error:#}", fault.name));
                problems.push(format!("{}: {error:#}", fault.name));
            }
        }
    }
    println!("\nfault → test that turned red");
    for row in rows {
        println!("{row}");
    }
    println!("{} faults, {} problems", faults.len(), problems.len());
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n       ")) }
}

/// Applies one fault, builds, runs its tests, puts the file back. The test that turned red, if one did.
fn sabotage(tree: &Path, fault: &Fault, green: &std::collections::BTreeSet<(&str, &str)>) -> Result<Option<String>> {
    let path = tree.join(fault.file);
    let original = fs::read_to_string(&path).with_context(|| format!("cannot read {}", fault.file))?;
    let found = original.matches(fault.search).count();
    if found != 1 {
        bail!("its text is found {found} times in {}, not once: the fault must follow the source", fault.file);
    }
    fs::write(&path, original.replacen(fault.search, fault.replace, 1))?;
    let result = build(tree).and_then(|()| {
        for test in fault.tests.iter().filter(|test| green.contains(*test)) {
            if !passes(tree, test)? {
                return Ok(Some(format!("{}::{}", test.0, test.1)));
            }
        }
        Ok(None)
    });
    fs::write(&path, original)?;
    result
}

fn scratch() -> PathBuf {
    paths::root().join("target/sabotage")
}

/// The files git knows or would know, without history or build results.
fn copy_tree() -> Result<PathBuf> {
    let tree = scratch().join("tree");
    let _ = fs::remove_dir_all(tree.join("agent"));
    let listed = run::capture(Command::new("git").current_dir(paths::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    for name in listed.lines() {
        let (from, to) = (paths::root().join(name), tree.join(name));
        let Ok(bytes) = fs::read(&from) else { continue };
        // An unchanged file keeps its time, so that a second run builds less.
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(&from, &to).with_context(|| format!("cannot copy {name}"))?;
    }
    let tools = tree.join("target/tools");
    if fs::symlink_metadata(&tools).is_err() {
        fs::create_dir_all(tree.join("target"))?;
        std::os::unix::fs::symlink(paths::tools(), &tools)?;
    }
    Ok(tree)
}

/// A cargo that works in the copy.
fn cargo(tree: &Path) -> Command {
    let mut command = run::cargo();
    command.current_dir(tree).env("CARGO_TARGET_DIR", scratch().join("build"));
    command.env("BRATTICE_BIN", scratch().join("build").join(compile::TEST_PROFILE).join("brattice"));
    command
}

fn build(tree: &Path) -> Result<()> {
    run::run(cargo(tree).args(["run", "--quiet", "--package", "xtask", "--", "build"]))
}

/// Whether a test passes; that it runs at all is checked, too.
fn passes(tree: &Path, (program, test): &(&str, &str)) -> Result<bool> {
    let mut command = cargo(tree);
    command.args(["test", "--quiet", "--profile", compile::TEST_PROFILE]);
    match program.split_once(' ') {
        Some(("unit", package)) => command.args(["--package", package, "--lib"]),
        _ => command.args(["--package", "brattice-tests", "--test", program]),
    };
    command.args(["--", "--exact", test, "--test-threads=1"]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let counts = Counts::of(&lines);
    if counts.run() == 0 {
        bail!("no test is named {test} in {program}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    println!("    {program}::{test}: {}", if output.status.success() { "passes" } else { "fails" });
    Ok(output.status.success())
}
