//! The copy of the tree, with the faults of all programs in it. Neither the sources nor the build of the real tree are touched, also
//! when this is interrupted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{fault, guards::GUARDS, loaders};
use crate::{artifacts, artifacts::Artifact, compile, paths, run};

/// Names the guard that is missing, to the programs.
pub(super) const MISSING: &str = "BRATTICE_MISSING_GUARD";

fn scratch() -> PathBuf {
    paths::root().join("target/sabotage")
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

/// The source file of each guard.
pub(super) fn places() -> Result<BTreeMap<String, String>> {
    let mut places = BTreeMap::new();
    for (name, bytes) in files()?.into_iter().filter(|(name, _)| may_have_guards(name)) {
        let text = String::from_utf8(bytes).with_context(|| name.clone())?;
        places.extend(fault::marks(&text).into_iter().map(|mark| (mark.name, name.clone())));
    }
    Ok(places)
}

/// Whether a file is part of the eBPF object, whose faults are each in an object of its own.
pub(super) fn is_ebpf(name: &str) -> bool {
    name.starts_with("ebpf/")
}

/// Copies the tree and puts all faults in. A file that stays the same keeps its time, so that a second run builds less.
pub(super) fn copy() -> Result<PathBuf> {
    let tree = scratch().join("tree");
    let mut wanted = BTreeMap::new();
    let mut loaders = BTreeMap::from(loaders::LOADERS.map(|loader| (loader.file, loader)));
    for (name, bytes) in files()? {
        let bytes = match String::from_utf8(bytes) {
            Ok(text) if may_have_guards(&name) => {
                let text = planted(&name, &text).with_context(|| name.clone())?;
                match loaders.remove(name.as_str()) {
                    Some(loader) => loader.of_a_file(&text)?.into_bytes(),
                    None => text.into_bytes(),
                }
            }
            Ok(text) => text.into_bytes(),
            Err(error) => error.into_bytes(),
        };
        wanted.insert(tree.join(name), bytes);
    }
    if let Some(file) = loaders.keys().next() {
        bail!("there is no {file} any more: say in xtask/src/sabotage/loaders.rs where the eBPF object is loaded now");
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

/// A source file with its faults; those of eBPF come later, one at a time.
fn planted(name: &str, text: &str) -> Result<String> {
    if is_ebpf(name) || fault::marks(text).is_empty() {
        return Ok(text.to_owned());
    }
    let on = |guard: &str| format!("::std::env::var_os(\"{MISSING}\").is_some_and(|missing| missing == \"{guard}\")");
    let faults = GUARDS.iter().map(|guard| (guard.name, (guard.operator, on(guard.name)))).collect();
    fault::plant(text, &faults)
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

/// Builds the programs of the copy that `targets` (of cargo's) name; the eBPF object must be there.
pub(super) fn build(tree: &Path, targets: &[&str]) -> Result<Vec<Artifact>> {
    let mut command = run::cargo();
    command.current_dir(tree).env("CARGO_TARGET_DIR", scratch().join("build"));
    command.args(["build", "--workspace", "--quiet", "--profile", compile::TEST_PROFILE]).args(targets);
    artifacts::of(&mut command, tree)
}
