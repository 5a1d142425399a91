//! Runs other programs and prints how long they took.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::paths;

/// A progress line for people.
pub(crate) fn say(text: &str) {
    println!("==> {text}");
}

/// A duration for people: `4.2 s`, `3 min 7 s`.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// The cargo that runs us (rustup's stable), in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    clean_environment(&mut command);
    command
}

/// What `cargo run` sets for us would make an inner cargo rebuild or pick the wrong toolchain.
pub(crate) fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO" {
            command.env_remove(&name);
        }
    }
}

/// git in the workspace's root, which another user than root may own.
pub(crate) fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(paths::root()).args(["-c", "safe.directory=*"]);
    command
}

/// How a command looks to people.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Runs to the end, output shown.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs and returns what it printed to stdout, trimmed.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({}): {}", shown(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs with its stdout shown line by line and returned; the flag says whether it succeeded.
///
/// # Errors
/// When it cannot be started or read.
pub(crate) fn tee(command: &mut Command) -> Result<(bool, Vec<String>)> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let mut lines = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            std::io::stdout().flush()?;
            lines.push(line);
        }
    }
    Ok((child.wait()?.success(), lines))
}

/// The full path of a program on `PATH`, or `None`.
pub(crate) fn which(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(Path::new(program.as_ref())))
        .find(|file| file.is_file())
}

/// Runs a step and prints how long it took.
///
/// # Errors
/// Those of the step.
pub(crate) fn timed<T>(what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    say(what);
    let start = Instant::now();
    let result = step()?;
    println!("    {what}: {}", human(start.elapsed()));
    Ok(result)
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
