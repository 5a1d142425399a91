//! eBPF objects with a fault, one for each guard: with all faults in one object, the kernel's verifier would have so many paths to
//! follow that it refuses the program. `loaders` says how the copy of the tree comes to load one of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    fault,
    guards::{GUARDS, Guard},
    tree,
};
use crate::toolchain;

/// Builds the copy's usual object where its loader looks for it.
pub(super) fn build(tree: &Path) -> Result<()> {
    let built = compile(tree)?;
    let object = tree.join("target/bpf/brattice.bpf.o");
    // The loader embeds it anew whenever it is written.
    if fs::read(&object).is_ok_and(|old| old == built) {
        return Ok(());
    }
    write(&object, &built)
}

/// Builds an object without each of these guards that is in the eBPF sources; its file, by the guard's name.
pub(super) fn without(tree: &Path, guards: &[&Guard]) -> Result<BTreeMap<&'static str, PathBuf>> {
    let mut objects = BTreeMap::new();
    for (name, bytes) in
        tree::files()?.into_iter().filter(|(name, _)| tree::is_ebpf(name) && tree::may_have_guards(name))
    {
        let text = String::from_utf8(bytes).with_context(|| name.clone())?;
        let source = tree.join(&name);
        for mark in fault::marks(&text) {
            let Some(guard) = guards.iter().find(|guard| guard.name == mark.name) else { continue };
            let faulty = planted(&text, guard).with_context(|| name.clone())?;
            fs::write(&source, faulty).with_context(|| format!("cannot write {}", source.display()))?;
            let built = compile(tree);
            fs::write(&source, &text).with_context(|| format!("cannot write {}", source.display()))?;
            let object = tree.join("target/bpf/without").join(guard.name).with_extension("o");
            write(&object, &built.with_context(|| format!("without {}", guard.name))?)?;
            objects.insert(guard.name, object);
        }
    }
    Ok(objects)
}

/// A source file of the object without one of its guards.
fn planted(text: &str, missing: &Guard) -> Result<String> {
    let on = |guard: &Guard| (guard.name == missing.name).to_string();
    fault::plant(text, &GUARDS.iter().map(|guard| (guard.name, (guard.operator, on(guard)))).collect())
}

/// The object of the copy's sources as they are now.
fn compile(tree: &Path) -> Result<Vec<u8>> {
    let (compiler, linker) = toolchain::both()?;
    let target = tree.join("target/ebpf");
    let mut command: Command = compiler.cargo_build(&linker);
    crate::run::capture(command.current_dir(tree.join("ebpf")).env("CARGO_TARGET_DIR", &target))
        .context("the eBPF object does not compile")?;
    fs::read(target.join(toolchain::TARGET).join("release/brattice")).context("no object was built")
}

fn write(object: &Path, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(object.parent().expect("the object's path has a folder"))?;
    fs::write(object, bytes).with_context(|| format!("cannot write {}", object.display()))
}
