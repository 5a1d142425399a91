//! Rebuilds with each known fault in turn and shows that a test turns red.
//!
//! The tree is copied to `target/sabotage/tree` and built there, so that neither the sources nor the build of the real
//! tree are touched, also when this is interrupted.

mod faults;
#[cfg(test)]
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use self::faults::{Fault, Program, Test};
use crate::{expected::Counts, paths, run, setup, toolchain};

/// Time one test may take; a fault that makes it hang is noticed as well.
const TEST_TIME: Duration = Duration::from_secs(180);

/// What `timeout` exits with when the time was up.
const TIMED_OUT: i32 = 124;

/// Applies every fault (or those whose name contains `only`), expects its tests to fail.
///
/// # Errors
/// When the tests fail without a fault, a fault does not apply, or does not turn any of its tests red.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    if !run::is_root() {
        bail!("the tests need root: they make network namespaces and load eBPF programs.\nRun this command as root.");
    }
    setup::setup(setup::For::Tests)?;
    let faults: Vec<&Fault> = faults::all().filter(|fault| only.is_none_or(|only| fault.name.contains(only))).collect();
    if faults.is_empty() {
        bail!(
            "no fault has such a name; they are: {}",
            faults::all().map(|fault| fault.name).collect::<Vec<_>>().join(", ")
        );
    }
    let start = Instant::now();
    let tree = copy_tree()?;
    let mut problems = Vec::new();
    run::say("without a fault: every named test must pass");
    build_object(&tree)?;
    let mut green = BTreeSet::new();
    for test in faults.iter().flat_map(|fault| fault.tests).collect::<BTreeSet<_>>() {
        if passes(&tree, test)? {
            green.insert(test);
        } else {
            problems.push(format!("{test} fails without any fault"));
        }
    }
    let mut rows = Vec::new();
    for fault in &faults {
        run::say(&format!("fault: {} ({})", fault.name, fault.means));
        match sabotage(&tree, fault, &green) {
            Ok(Some(test)) => rows.push(format!("red    {:<28} {test}", fault.name)),
            Ok(None) => {
                rows.push(format!("GREEN  {:<28} no test noticed it", fault.name));
                problems.push(format!("{}: no test noticed it", fault.name));
            }
            Err(error) => {
                rows.push(format!("ERROR  {:<28} see below", fault.name));
                problems.push(format!("{}: {error:#}", fault.name));
            }
        }
    }
    println!("\nfault → test that turned red");
    for row in rows {
        println!("{row}");
    }
    println!("{} faults, {} problems, {}", faults.len(), problems.len(), run::human(start.elapsed()));
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n       ")) }
}

/// Applies one fault, builds, runs its tests, puts the file back. The test that turned red, if one did.
fn sabotage(tree: &Path, fault: &Fault, green: &BTreeSet<&Test>) -> Result<Option<String>> {
    let path = tree.join(fault.file);
    let original = fs::read_to_string(&path).with_context(|| format!("cannot read {}", fault.file))?;
    let found = original.matches(fault.search).count();
    if found != 1 {
        bail!("its text is found {found} times in {}, not once: the fault must follow the source", fault.file);
    }
    let object = object(tree);
    let sound = fs::read(&object)?;
    fs::write(&path, original.replacen(fault.search, fault.replace, 1))?;
    let result = first_red(tree, fault, green);
    fs::write(&path, original)?;
    if fault.in_ebpf() {
        fs::write(&object, sound)?;
    }
    result
}

fn first_red(tree: &Path, fault: &Fault, green: &BTreeSet<&Test>) -> Result<Option<String>> {
    if fault.in_ebpf() {
        build_object(tree)?;
    }
    for test in fault.tests.iter().filter(|test| green.contains(test)) {
        if !passes(tree, test)? {
            return Ok(Some(test.to_string()));
        }
    }
    Ok(None)
}

fn scratch() -> PathBuf {
    paths::root().join("target/sabotage")
}

/// Where the tests of a tree look for the eBPF object.
fn object(tree: &Path) -> PathBuf {
    tree.join("target/bpf/brattice.bpf.o")
}

/// The files git knows or would know, without history or build results.
fn copy_tree() -> Result<PathBuf> {
    let tree = scratch().join("tree");
    let listed = run::capture(run::git().args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut wanted = BTreeMap::new();
    for name in listed.lines() {
        // A file that was just removed is still listed.
        if let Ok(bytes) = fs::read(paths::root().join(name)) {
            wanted.insert(tree.join(name), bytes);
        }
    }
    remove_others(&tree, &wanted)?;
    for (to, bytes) in wanted {
        // An unchanged file keeps its time, so that a second run builds less.
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(tree)
}

/// Removes what an earlier run copied and is gone since; leaves build results.
fn remove_others(folder: &Path, wanted: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                remove_others(&path, wanted)?;
            }
        } else if !wanted.contains_key(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Builds the eBPF object of the copy and puts it where its tests and its loader look for it.
fn build_object(tree: &Path) -> Result<()> {
    let (compiler, linker) = toolchain::both()?;
    let target = tree.join("target/ebpf");
    run::capture(compiler.cargo_build(&linker).current_dir(tree.join("ebpf")).env("CARGO_TARGET_DIR", &target))
        .context("the eBPF object does not compile")?;
    let built = fs::read(target.join(toolchain::TARGET).join("release/brattice")).context("no object was built")?;
    let object = object(tree);
    // The loader embeds it anew whenever it is written.
    if fs::read(&object).is_ok_and(|old| old == built) {
        return Ok(());
    }
    fs::create_dir_all(object.parent().expect("the object's path has a folder"))?;
    fs::write(&object, built).with_context(|| format!("cannot write {}", object.display()))
}

/// `cargo VERB` in the copy, in the development profile: what counts here is how soon it is built. Runs under a time
/// limit if there is one.
fn cargo(tree: &Path, verb: &str, limit: Option<Duration>) -> Command {
    let plain = run::cargo();
    let mut command = match limit {
        None => Command::new(plain.get_program()),
        Some(limit) => {
            let mut command = Command::new("timeout");
            command.arg("--kill-after=10").arg(limit.as_secs().to_string()).arg(plain.get_program());
            command
        }
    };
    run::clean_environment(&mut command);
    let build = scratch().join("build");
    command.env("BRATTICE_BIN", build.join("debug/brattice")).env("CARGO_TARGET_DIR", build);
    command.current_dir(tree).args([verb, "--quiet"]);
    command
}

/// Builds what a test needs and nothing else; says whether it passes. That it runs at all is checked, too.
fn passes(tree: &Path, test: &Test) -> Result<bool> {
    if test.program.needs_binary() {
        run::capture(cargo(tree, "build", None).args(["--package", "brattice"])).context("it does not compile")?;
    }
    let select: &[&str] = &match test.program {
        Program::Unit(package) => ["--package", package, "--lib"].to_vec(),
        Program::Of(package, program) => ["--package", package, "--test", program].to_vec(),
    };
    run::capture(cargo(tree, "test", None).arg("--no-run").args(select)).context("it does not compile")?;
    let start = Instant::now();
    let output = cargo(tree, "test", Some(TEST_TIME))
        .args(select)
        .args(["--", "--exact", test.name, "--test-threads=1"])
        .output()
        .context("cannot start `timeout` (of coreutils)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if Counts::of(&lines).run() == 0 {
        bail!("no test has this name: {test}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let verdict = match output.status.code() {
        Some(0) => "passes",
        Some(TIMED_OUT) => "hangs",
        _ => "fails",
    };
    println!("    {test}: {verdict} ({})", run::human(start.elapsed()));
    Ok(output.status.success())
}
