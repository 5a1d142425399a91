//! Shows that the tests work wherever the clone lies: some that depend on it, run again from a path with blanks, below
//! `/tmp`, behind a symlink, below a folder that is root's alone, with a home that does not exist. The clone is mounted there, in
//! a mount namespace, and hidden at its own place before a test starts. Not before cargo has looked: some crates include files of
//! others, whose whole paths cargo remembers, and it would build them anew.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{artifacts, expected::Counts, kernels, paths, run};

/// Begins the name of the place, which is below /tmp and has a blank.
const PLACE: &str = "/tmp/brattice elsewhere-";
/// Folder of the crate, test program, test: what reads a page, starts a program that was built beside it, as another user, too,
/// loads the object, uses a tool of `target/tools`.
const TESTS: &[(&str, &str, &str)] = &[
    ("agent", "command_line", "version_and_completions"),
    ("agent/model", "schema", "the_examples_are_right_and_red_sees_nothing"),
    ("tests", "packets", "verifier::few_steps_are_needed"),
    ("tests", "together", "exposed::a_host_user_gets_nothing_through_vips_and_aliases"),
    ("tests", "together", "firewalls::firewalld_is_repaired_by_firewall_cmd_and_stays_so"),
];

/// Runs them there, in a process of its own.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run() -> Result<Counts> {
    let mut command = Command::new(std::env::current_exe()?);
    let (succeeded, lines) = run::tee(command.arg("elsewhere"))?;
    let mut counts = Counts::of(&lines);
    counts.failed += usize::from(!succeeded && counts.failed == 0);
    Ok(counts)
}

/// Moves this process there and starts cargo.
///
/// # Errors
/// When the place cannot be made, or something failed in it.
pub(crate) fn enter() -> Result<()> {
    let place = Place::make()?;
    let root = paths::root();
    let clone = place.0.join("a clone");
    fs::create_dir(&clone)?;
    symlink("a clone", place.0.join("link"))?;
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace: are you root?")?;
    let everything = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, everything, None::<&str>)?;
    mount(Some(&root), &clone, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;

    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    run::clean_environment(&mut command);
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        if std::env::var_os(name).is_none() {
            command.env(name, Path::new(&home).join(folder));
        }
    }
    // What names the clone names it at its new place.
    let (from, to) = (root.to_string_lossy().into_owned(), clone.to_string_lossy().into_owned());
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    for (name, value) in std::env::vars_os().filter_map(text).filter(|(_, value)| value.contains(&from)) {
        if !name.starts_with("CARGO_MANIFEST_") {
            command.env(name, value.replace(&from, &to));
        }
    }
    let link = place.0.join("link");
    command.current_dir(&link).env("HOME", place.0.join("nobody's home"));
    command.args(["run", "--quiet", "--manifest-path"]).arg(link.join("Cargo.toml"));
    run::run(command.args(["--package", "xtask", "--", "elsewhere", "--hide"]).arg(root))
}

/// Runs them where this process is, with nothing at the clone's own place.
///
/// # Errors
/// When one fails, or does not exist.
pub(crate) fn inside(own: &Path) -> Result<()> {
    println!("    from {}", paths::root().display());
    let built = artifacts::build(None)?;
    if !paths::root().to_string_lossy().starts_with(PLACE) {
        bail!("only `cargo xtask elsewhere`, which makes a mount namespace first, may start this");
    }
    mount(Some("none"), own, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let binary = artifacts::binary(&built)?;
    let mut failed = Vec::new();
    for (folder, program, test) in TESTS {
        let artifact = built.iter().find(|a| a.folder == *folder && a.name == *program && a.integration);
        let artifact = artifact.with_context(|| format!("the build made no {folder} {program}"))?;
        let (succeeded, lines) = run::tee(artifact.command(&binary).args(["--exact", test]))?;
        if !succeeded || Counts::of(&lines).passed != 1 {
            failed.push(format!("{folder} {program} {test}"));
        }
    }
    let guest = kernels::elsewhere(&built)?;
    if guest.failed > 0 {
        failed.push("tests in a guest".into());
    }
    if failed.is_empty() { Ok(()) } else { bail!("not from {}: {}", paths::root().display(), failed.join(", ")) }
}

/// A folder that is root's alone; removed when dropped. What is mounted in it ends with this process.
struct Place(PathBuf);

impl Place {
    fn make() -> Result<Self> {
        let folder = PathBuf::from(format!("{PLACE}{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let clone = self.0.join("a clone");
        let _ = nix::mount::umount2(&clone, nix::mount::MntFlags::MNT_DETACH);
        // Never what is in the clone: only folders that are empty are removed.
        let _ = fs::remove_file(self.0.join("link"));
        let _ = fs::remove_dir(&clone);
        let _ = fs::remove_dir(&self.0);
    }
}
