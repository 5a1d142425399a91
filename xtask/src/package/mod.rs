//! `cargo xtask package`: a Debian package from `packaging/` and the binary, the same for the same sources.

mod check;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{compile, paths, run, setup};

pub(crate) use check::check;

/// Files of `packaging/` and where they go, with their mode.
const FILES: &[(&str, &str, u32)] = &[
    ("brattice.service", "usr/lib/systemd/system/brattice.service", 0o644),
    ("sysusers.conf", "usr/lib/sysusers.d/brattice.conf", 0o644),
    ("networkd.network", "usr/lib/systemd/network/50-brattice.network", 0o644),
    ("networkmanager.conf", "usr/lib/NetworkManager/conf.d/50-brattice.conf", 0o644),
    ("etc/agent.yaml", "etc/brattice/agent.yaml", 0o644),
    ("logrotate", "etc/logrotate.d/brattice", 0o644),
    ("etc/policies/README", "etc/brattice/policies/README", 0o644),
    ("copyright", "usr/share/doc/brattice/copyright", 0o644),
    ("changelog", "usr/share/doc/brattice/changelog", 0o644),
    ("lintian-overrides", "usr/share/lintian/overrides/brattice", 0o644),
];
/// Pages and examples, which lie below [`DOCUMENTATION`] as they do here, so that their links lead somewhere.
const PAGES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "tests/SABOTAGE.md",
    "docs",
    "examples",
    "policies",
];
/// Where pages are in the package.
const DOCUMENTATION: &str = "usr/share/doc/brattice";
/// Scripts that dpkg runs.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];
/// Shells and where their completions go.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/brattice"),
    ("zsh", "usr/share/zsh/vendor-completions/_brattice"),
    ("fish", "usr/share/fish/vendor_completions.d/brattice.fish"),
];
/// Folders that only root may read: documents may hold keys.
const PRIVATE: &[&str] = &["etc/brattice/policies"];

/// Builds the binary (for tests: with the tests' profile) and packs it; the package's path.
///
/// # Errors
/// When the build fails, or a program of dpkg is missing.
pub(crate) fn package(for_tests: bool) -> Result<PathBuf> {
    setup::setup(setup::For::Building)?;
    let binary = compile::build(if for_tests { compile::TEST_PROFILE } else { "release" })?;
    let deb = run::timed("packing", || pack(&binary, env!("CARGO_PKG_VERSION")))?;
    println!("    {}", deb.display());
    Ok(deb)
}

/// Packs a binary as this version.
pub(crate) fn pack(binary: &Path, version: &str) -> Result<PathBuf> {
    let folder = paths::target().join("package");
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    }
    stage(&root, binary)?;
    control(&root, version)?;
    modes(&root, &root)?;

    let architecture = run::capture(Command::new("dpkg").arg("--print-architecture"))?;
    let deb = folder.join(format!("brattice_{version}_{architecture}.deb"));
    // The time of the latest commit, for every file: the same sources, the same package.
    let time = run::capture(run::git().args(["log", "-1", "--format=%ct"]))?;
    let mut build = Command::new("dpkg-deb");
    build.env("SOURCE_DATE_EPOCH", &time).args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&deb);
    set_times(&root, &time)?;
    run::capture(&mut build)?;
    Ok(deb)
}

/// Everything that the package holds.
fn stage(root: &Path, binary: &Path) -> Result<()> {
    let program = root.join("usr/bin/brattice");
    copy(binary, &program, 0o755)?;
    run::run(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&program))?;
    for (from, to, mode) in FILES {
        copy(&paths::root().join("packaging").join(from), &root.join(to), *mode)?;
    }
    for (shell, to) in COMPLETIONS {
        let text = run::capture(Command::new(&program).args(["completions", shell]))?;
        write(&root.join(to), &format!("{text}\n"), 0o644)?;
    }
    let manual = root.join("usr/share/man");
    fs::create_dir_all(&manual)?;
    run::run(Command::new(&program).arg("man").arg(&manual))?;
    documentation(&root.join(DOCUMENTATION))?;
    for folder in ["usr/share/man/man1", "usr/share/man/man5"] {
        for page in fs::read_dir(root.join(folder))? {
            compress(&page?.path())?;
        }
    }
    compress(&root.join("usr/share/doc/brattice/changelog"))
}

/// `DEBIAN/`: what dpkg wants to know.
fn control(root: &Path, version: &str) -> Result<()> {
    let debian = root.join("DEBIAN");
    for script in SCRIPTS {
        copy(&paths::root().join("packaging").join(script), &debian.join(script), 0o755)?;
    }
    let mut sums = String::new();
    let mut files = Vec::new();
    list(root, &mut files)?;
    files.retain(|file| !file.starts_with(&debian));
    files.sort();
    let mut size = 0;
    let mut configuration = String::new();
    for file in &files {
        let name = file.strip_prefix(root)?.display().to_string();
        size += file.metadata()?.len().div_ceil(1024);
        if name.starts_with("etc/") {
            configuration.push_str(&format!("/{name}\n"));
        }
        let sum = run::capture(Command::new("md5sum").arg(file))?;
        sums.push_str(&format!("{}  {name}\n", sum.split(' ').next().unwrap_or_default()));
    }
    write(&debian.join("md5sums"), &sums, 0o644)?;
    write(&debian.join("conffiles"), &configuration, 0o644)?;
    let architecture = run::capture(Command::new("dpkg").arg("--print-architecture"))?;
    let libc = glibc(&root.join("usr/bin/brattice"))?;
    let text = format!(
        "Package: brattice
Version: {version}
Section: net
Priority: optional
Architecture: {architecture}
Maintainer: The Brattice authors <maintainers@brattice.dev>
Installed-Size: {size}
Depends: libc6 (>= {libc}), libgcc-s1, systemd, nftables, passwd
Recommends: iproute2, logrotate
Suggests: bpftool
Description: service network without sidecars, on eBPF
 One agent per host loads eBPF programs that take service traffic from
 workloads to one L7 engine on the node. It joins VPCs whose addresses
 overlap, and routes, authorizes and accounts for every call, with no
 change to any application.
"
    );
    write(&debian.join("control"), &text, 0o644)
}

/// The newest version of glibc whose symbols the binary uses.
fn glibc(binary: &Path) -> Result<String> {
    let symbols = run::capture(Command::new("objdump").arg("-T").arg(binary))?;
    let versions = symbols.split(|c: char| c.is_whitespace() || c == '(' || c == ')').filter_map(|word| {
        let (major, minor) = word.strip_prefix("GLIBC_")?.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.split('.').next()?.parse::<u32>().ok()?))
    });
    let (major, minor) = versions.max().context("the binary uses no glibc: for which system was it built?")?;
    Ok(format!("{major}.{minor}"))
}

/// All pages, whose links lead somewhere.
fn documentation(to: &Path) -> Result<()> {
    for name in PAGES {
        pages(&paths::root().join(name), &to.join(name))?;
    }
    links(to)
}

/// A page, or a folder of them.
fn pages(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return copy(from, to, 0o644);
    }
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        pages(&path, &to.join(path.file_name().context("a name")?))?;
    }
    Ok(())
}

/// Every link of a page to another file must lead to one in the package.
fn links(folder: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    for page in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page)?;
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter_map(|target| target.split('#').next()).filter(|target| !target.is_empty()) {
            let there = page.parent().is_some_and(|folder| folder.join(target).exists());
            if !target.contains("://") && !there {
                bail!("{}: the link to {target} leads nowhere in the package", page.display());
            }
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(to.parent().context("a folder")?)?;
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

fn write(to: &Path, text: &str, mode: u32) -> Result<()> {
    fs::create_dir_all(to.parent().context("a folder")?)?;
    fs::write(to, text).with_context(|| to.display().to_string())?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Without name and time inside.
fn compress(file: &Path) -> Result<()> {
    run::run(Command::new("gzip").args(["-9n", "--force"]).arg(file))
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { list(&path, into)? } else { into.push(path) }
    }
    Ok(())
}

/// All users may read folders, except the private ones, whatever the umask was; generated files, too.
fn modes(root: &Path, folder: &Path) -> Result<()> {
    let private = PRIVATE.iter().any(|name| folder == root.join(name));
    fs::set_permissions(folder, fs::Permissions::from_mode(if private { 0o750 } else { 0o755 }))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            modes(root, &path)?;
        } else {
            let runs = path.metadata()?.permissions().mode() & 0o100 != 0;
            fs::set_permissions(&path, fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
        }
    }
    Ok(())
}

fn set_times(root: &Path, time: &str) -> Result<()> {
    let done =
        Command::new("find").arg(root).args(["-exec", "touch", "-h", "-d", &format!("@{time}"), "{}", "+"]).status()?;
    if done.success() { Ok(()) } else { bail!("the times of {} cannot be set", root.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relative_link_of_a_packaged_page_leads_to_a_packaged_file() {
        let folder = tempfile::tempdir().expect("a folder");
        documentation(folder.path()).expect("all links lead somewhere");
        for missing in ["CHANGELOG.md", "tests/SABOTAGE.md"] {
            let page = folder.path().join(missing);
            let text = fs::read(&page).expect("it is packaged");
            fs::remove_file(&page).expect("it is there");
            let error = links(folder.path()).expect_err("a page links to it").to_string();
            assert!(error.contains(missing), "{error}");
            fs::write(&page, text).expect("it is back");
        }
        links(folder.path()).expect("all links lead somewhere again");
    }
}
