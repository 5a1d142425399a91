//! One build of everything that tests need, and which programs came out of it.
//!
//! Cargo chooses the features of shared dependencies by what is selected: a build per package would compile many of them
//! several times. So the whole workspace is built at once, and the test programs are started from here.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{compile, paths, run};

/// A program that was built.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    /// The workspace's root.
    root: PathBuf,
    /// Its crate's folder, from the workspace's root: `agent/engine`.
    pub(crate) folder: String,
    /// Name of the target: a test's file name, a crate, a binary.
    pub(crate) name: String,
    /// Whether it is a file of a `tests/` folder.
    pub(crate) integration: bool,
    /// Whether it runs tests.
    pub(crate) test: bool,
    /// The program.
    pub(crate) executable: PathBuf,
}

impl Artifact {
    /// Starts it as cargo does: in its crate's folder.
    pub(crate) fn command(&self, binary: &Path) -> Command {
        let folder = self.root.join(&self.folder);
        let mut command = Command::new(&self.executable);
        run::clean_environment(&mut command);
        command.current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder).env("BRATTICE_BIN", binary);
        // What curl, Python and others would read of the caller's.
        command.env("HOME", "/nonexistent");
        command
    }
}

/// Builds all programs and all tests of the workspace, or with `targets` only those (arguments of cargo's).
///
/// # Errors
/// When something does not compile.
pub(crate) fn build(targets: Option<&[&str]>) -> Result<Vec<Artifact>> {
    let mut command = run::cargo();
    command.args(["build", "--workspace", "--profile", compile::TEST_PROFILE]);
    command.args(targets.unwrap_or(&["--lib", "--bins", "--tests"]));
    of(&mut command, &paths::root())
}

/// Runs a `cargo build` of the tree in `root`.
///
/// # Errors
/// When something does not compile.
pub(crate) fn of(command: &mut Command, root: &Path) -> Result<Vec<Artifact>> {
    command.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", run::shown(command)))?;
    let mut artifacts = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            artifacts.extend(artifact(&line?, root));
        }
    }
    if !child.wait()?.success() {
        bail!("the build failed");
    }
    artifacts.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    Ok(artifacts)
}

/// The binary `brattice`.
///
/// # Errors
/// When it was not built.
pub(crate) fn binary(built: &[Artifact]) -> Result<PathBuf> {
    let program = built.iter().find(|artifact| artifact.folder == "agent" && !artifact.test);
    Ok(program.context("the build made no binary `brattice`")?.executable.clone())
}

/// A program of the workspace in a message of cargo.
fn artifact(line: &str, root: &Path) -> Option<Artifact> {
    let message: Value = serde_json::from_str(line).ok()?;
    let executable = PathBuf::from(message.get("executable")?.as_str()?);
    let manifest = PathBuf::from(message.get("manifest_path")?.as_str()?);
    let folder = manifest.parent()?.strip_prefix(root).ok()?.to_string_lossy().into_owned();
    let target = message.get("target")?;
    let kinds = target.get("kind")?.as_array()?;
    Some(Artifact {
        folder,
        name: target.get("name")?.as_str()?.to_owned(),
        integration: kinds.iter().any(|kind| kind == "test"),
        test: message.get("profile")?.get("test")?.as_bool()?,
        root: root.to_owned(),
        executable,
    })
}
