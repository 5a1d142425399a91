//! Modules of a kernel that was never installed: there is no list of what needs what, so each module is asked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// All modules below a kernel's folder, by name, and what is built in.
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    built_in: String,
}

impl Modules {
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(folder, &mut files).with_context(|| format!("cannot list the modules in {}", folder.display()))?;
        let built_in = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default().replace('-', "_");
        Ok(Self { files, built_in })
    }

    /// Adds a module and, before it, all that it needs; those that are built in are left out.
    pub(crate) fn add(&self, name: &str, order: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        let name = name.replace('-', "_");
        if order.iter().any(|(there, _)| *there == name) {
            return Ok(());
        }
        let Some(file) = self.files.get(&name) else {
            if self.built_in.contains(&format!("/{name}.ko\n")) {
                return Ok(());
            }
            bail!("this kernel has no module {name}");
        };
        let bytes = content(file)?;
        for needed in needs(&bytes) {
            self.add(&needed, order)?;
        }
        order.push((name, bytes));
        Ok(())
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if let Some((name, "" | ".xz")) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn content(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let output = Command::new("xz").arg("-dc").arg(file).output().context("cannot start xz")?;
    if !output.status.success() {
        bail!("cannot unpack {}", file.display());
    }
    Ok(output.stdout)
}

/// What a module says that it needs: `depends=a,b` among its zero-terminated facts.
fn needs(bytes: &[u8]) -> Vec<String> {
    const WORD: &[u8] = b"\0depends=";
    let Some(start) = bytes.windows(WORD.len()).position(|window| window == WORD) else { return Vec::new() };
    let text: Vec<u8> = bytes[start + WORD.len()..].iter().copied().take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&text);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_read_from_a_modules_facts() {
        assert_eq!(needs(b"x\0license=GPL\0depends=stp,llc\0intree=Y\0"), ["stp", "llc"]);
        assert!(needs(b"x\0depends=\0name=veth\0").is_empty());
        assert!(needs(b"nothing").is_empty());
    }
}
