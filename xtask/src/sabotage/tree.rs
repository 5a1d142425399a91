//! The copy of the tree, with all faults in it. Neither the sources nor the build of the real tree are touched, also when this
//! is interrupted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{fault, guards::GUARDS};
use crate::{artifacts, artifacts::Artifact, compile, paths, run, toolchain};

/// Names the guard that is missing, to programs that run as usual.
pub(super) const MISSING: &str = "BRATTICE_MISSING_GUARD";
/// Its number, to those that load eBPF.
pub(super) const MISSING_NUMBER: &str = "BRATTICE_MISSING_GUARD_NUMBER";
/// Where the number lies in the eBPF object.
const NUMBER_SYMBOL: &str = "BRATTICE_MISSING_GUARD";
/// How the object's loading begins ...
const LOADER: &str = "EbpfLoader::new()";
/// ... for the agent, and for tests of single packets.
const LOADERS: [&str; 2] = ["loader/src/", "tests/src/"];

fn scratch() -> PathBuf {
    paths::root().join("target/sabotage")
}

/// A guard's number in the eBPF object; 0 is none.
pub(super) fn number(name: &str) -> usize {
    GUARDS.iter().position(|guard| guard.name == name).map_or(0, |index| index + 1)
}

/// Files of the tree that git knows or would know, with their names from its root.
pub(super) fn files() -> Result<Vec<(String, Vec<u8>)>> {
    let listed = run::capture(run::git().args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    // A file that was just removed is still listed.
    Ok(listed.lines().filter_map(|name| Some((name.to_owned(), fs::read(paths::root().join(name)).ok()?))).collect())
}

/// Whether a file may have guards: the automation, which names them, has none.
pub(super) fn may_have_guards(name: &str) -> bool {
    name.ends_with(".rs") && !name.starts_with("xtask/")
}

/// Copies the tree and puts all faults in. A file that stays the same keeps its time, so that a second run builds less.
pub(super) fn copy() -> Result<PathBuf> {
    let tree = scratch().join("tree");
    let mut wanted = BTreeMap::new();
    let mut loaders = [false; LOADERS.len()];
    for (name, bytes) in files()? {
        let bytes = match String::from_utf8(bytes) {
            Ok(text) if may_have_guards(&name) => {
                let text = planted(&name, &text).with_context(|| name.clone())?;
                for (place, seen) in LOADERS.iter().zip(&mut loaders) {
                    *seen |= name.starts_with(place) && text.contains(LOADER);
                }
                text.into_bytes()
            }
            Ok(text) => text.into_bytes(),
            Err(error) => error.into_bytes(),
        };
        wanted.insert(tree.join(name), bytes);
    }
    if let Some((place, _)) = LOADERS.iter().zip(loaders).find(|(_, seen)| !seen) {
        bail!("nothing below {place} says `{LOADER}` any more: say here how the object is loaded now");
    }
    remove_others(&tree, &wanted)?;
    for (to, bytes) in wanted {
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

/// A source file with its faults, and with what switches those of eBPF on.
fn planted(name: &str, text: &str) -> Result<String> {
    let in_ebpf = name.starts_with("ebpf/");
    let on = |guard: &str| {
        if in_ebpf {
            // SAFETY, as it would stand there: a static of the program's own.
            let number = number(guard);
            format!("(unsafe {{ (&raw const crate::{NUMBER_SYMBOL}).read_volatile() }} == {number}u32)")
        } else {
            format!("::std::env::var_os(\"{MISSING}\").is_some_and(|missing| missing == \"{guard}\")")
        }
    };
    let faults = GUARDS.iter().map(|guard| (guard.name, (guard.operator, on(guard.name)))).collect();
    let mut text = if fault::marks(text).is_empty() { text.to_owned() } else { fault::plant(text, &faults)? };
    if name == "ebpf/src/main.rs" {
        text += &format!("\n#[unsafe(no_mangle)]\npub(crate) static {NUMBER_SYMBOL}: u32 = 0;\n");
    }
    if LOADERS.iter().any(|place| name.starts_with(place)) {
        let number = format!("std::env::var(\"{MISSING_NUMBER}\").map_or(0u32, |number| number.parse().unwrap_or(0))");
        text = text.replace(
            LOADER,
            &format!(
                "({{ let mut loader = {LOADER}; \
                 loader.override_global(\"{NUMBER_SYMBOL}\", &*Box::leak(Box::new({number})), true); loader }})"
            ),
        );
    }
    Ok(text)
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

/// Builds the copy's eBPF object, then the programs that `targets` (of cargo's) name.
pub(super) fn build(tree: &Path, targets: &[&str]) -> Result<Vec<Artifact>> {
    build_object(tree)?;
    let mut command = run::cargo();
    command.current_dir(tree).env("CARGO_TARGET_DIR", scratch().join("build"));
    command.args(["build", "--workspace", "--quiet", "--profile", compile::TEST_PROFILE]).args(targets);
    artifacts::of(&mut command, tree)
}

/// Where the copy's loader looks for the object.
fn build_object(tree: &Path) -> Result<()> {
    let (compiler, linker) = toolchain::both()?;
    let target = tree.join("target/ebpf");
    let mut command: Command = compiler.cargo_build(&linker);
    run::capture(command.current_dir(tree.join("ebpf")).env("CARGO_TARGET_DIR", &target))
        .context("the eBPF object does not compile")?;
    let built = fs::read(target.join(toolchain::TARGET).join("release/brattice")).context("no object was built")?;
    let object = tree.join("target/bpf/brattice.bpf.o");
    // The loader embeds it anew whenever it is written.
    if fs::read(&object).is_ok_and(|old| old == built) {
        return Ok(());
    }
    fs::create_dir_all(object.parent().expect("the object's path has a folder"))?;
    fs::write(&object, built).with_context(|| format!("cannot write {}", object.display()))
}
