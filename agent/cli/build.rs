//! Lists the modules of agent and engine that log: what a log filter may name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Crates that log, and their sources.
const CRATES: [(&str, &str); 4] = [
    ("brattice_control", "../control/src"),
    ("brattice_engine", "../engine/src"),
    ("brattice_loader", "../../loader/src"),
    ("brattice_sources", "../sources/src"),
];
/// What logs, and macros that expand to it.
const LOGS: [&str; 6] = ["trace!(", "debug!(", "info!(", "warn!(", "error!(", "rarely!("];

fn main() -> io::Result<()> {
    let mut modules = BTreeSet::new();
    for (name, sources) in CRATES {
        println!("cargo::rerun-if-changed={sources}");
        collect(name, Path::new(sources), &mut modules)?;
    }
    let list: String = modules.iter().map(|module| format!("    {module:?},\n")).collect();
    let text = format!("const MODULES: [&str; {}] = [\n{list}];\n", modules.len());
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(PathBuf::from(out).join("log_modules.rs"), text)
}

/// Adds the modules of a folder that log, and those that they are in.
fn collect(module: &str, folder: &Path, modules: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| *stem != "tests") else {
            continue;
        };
        let inner = match stem {
            "lib" | "mod" => module.to_owned(),
            _ => format!("{module}::{stem}"),
        };
        if path.is_dir() {
            collect(&inner, &path, modules)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            if LOGS.iter().any(|log| text.contains(log)) {
                let ends = inner.match_indices("::").map(|(at, _)| at);
                modules.extend(ends.chain([inner.len()]).map(|end| inner[..end].to_owned()));
            }
        }
    }
    Ok(())
}
