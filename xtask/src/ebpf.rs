//! Builds the eBPF object, when it is not up to date.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{paths, run, toolchain};

/// Builds `target/bpf/brattice.bpf.o` unless it is there and was built from the same sources by the same tools.
///
/// # Errors
/// When the toolchain is missing or the build fails.
pub(crate) fn build() -> Result<()> {
    let (compiler, linker) = toolchain::both()?;
    let object = paths::object();
    let stamp = object.with_extension("o.sha256");
    let digest = digest(&compiler.version()?, &run::capture(std::process::Command::new(&linker).arg("--version"))?)?;
    if object.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == digest) {
        println!("    eBPF object: unchanged");
        return Ok(());
    }
    run::timed("building the eBPF object", || {
        let target = paths::root().join("target/ebpf");
        run::run(
            compiler.cargo_build(&linker).current_dir(paths::root().join("ebpf")).env("CARGO_TARGET_DIR", &target),
        )?;
        let built = target.join(toolchain::TARGET).join("release/brattice");
        let folder = object.parent().expect("the object's path has a folder");
        fs::create_dir_all(folder)?;
        // Renamed into place: a build that reads it at this moment sees the old or the new one, whole.
        let fresh = object.with_extension("o.new");
        fs::copy(&built, &fresh).with_context(|| format!("no object at {}", built.display()))?;
        fs::rename(&fresh, &object)?;
        fs::write(&stamp, &digest)?;
        Ok(())
    })
}

/// What the object depends on, as one number.
fn digest(compiler: &str, linker: &str) -> Result<String> {
    let folder = paths::root().join("ebpf");
    let mut files = Vec::new();
    collect(&folder, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for part in [compiler, linker] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(&folder).unwrap_or(&file).to_string_lossy().into_owned();
        for part in [name.as_bytes(), &bytes] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") || name.ends_with(".toml") || name == "Cargo.lock" {
            files.push(path);
        }
    }
    Ok(())
}
