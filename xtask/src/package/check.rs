//! `cargo xtask package --check`: the package's whole life in a Debian with systemd as process 1, in namespaces of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::pack;
use crate::{compile, paths, run, setup};

/// The release that the package is tried on.
const RELEASE: &str = "bookworm";
/// What is in it beside the essential packages.
const INCLUDED: &str = "systemd,systemd-sysv,nftables,iproute2,curl,python3,procps,logrotate";
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);

/// Builds the package with the tests' profile, twice (as the version after it, too), and shows that it can be installed, used,
/// upgraded, removed and purged.
///
/// # Errors
/// The first thing that is not as it should be.
pub(crate) fn check() -> Result<()> {
    if !run::is_root() {
        bail!("the check needs root: it makes namespaces and loads eBPF programs.\nRun this command as root.");
    }
    setup::setup(setup::For::Packaging)?;
    let binary = compile::build(compile::TEST_PROFILE)?;
    let version = env!("CARGO_PKG_VERSION");
    let later = format!("{version}+later");
    let first = run::timed("packing", || Ok(fs::read(pack(&binary, version)?)?))?;
    let debs = run::timed("packing again, twice", || Ok([pack(&binary, version)?, pack(&binary, &later)?]))?;
    if first != fs::read(&debs[0])? {
        bail!("the same sources make two packages that differ");
    }
    lint(&debs[0])?;
    let machine = Machine::boot(&base()?)?;
    for deb in &debs {
        fs::copy(deb, machine.root.join("root").join(deb.file_name().context("a name")?))?;
    }
    fs::copy(paths::root().join("xtask/src/package/life.sh"), machine.root.join("root/life.sh"))?;
    run::say("the package's life");
    let names = debs.iter().filter_map(|deb| deb.file_name()?.to_str()).map(|name| format!("/root/{name}"));
    let mut life = machine.command("bash");
    life.arg("/root/life.sh").args(names);
    run::run(&mut life).inspect_err(|_| machine.report())
}

/// lintian's word; warnings count.
fn lint(deb: &Path) -> Result<()> {
    run::timed("lintian", || {
        run::run(
            Command::new("lintian")
                .args(["--fail-on", "error,warning", "--tag-display-limit", "0", "--allow-root"])
                .arg(deb),
        )
    })
}

/// A Debian root, made once for what is in it: `target/package/<release>-<packages>.tar`.
fn base() -> Result<PathBuf> {
    let packages = INCLUDED.replace(',', "+");
    let tar = paths::target().join("package").join(format!("{RELEASE}-{packages}.tar"));
    if tar.exists() {
        return Ok(tar);
    }
    run::timed(&format!("making a Debian {RELEASE}"), || {
        fs::create_dir_all(paths::target().join("package"))?;
        let fresh = tar.with_extension("fresh.tar");
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=minbase", &format!("--include={INCLUDED}"), RELEASE]).arg(&fresh);
        run::run(&mut make)?;
        Ok(fs::rename(&fresh, &tar)?)
    })?;
    Ok(tar)
}

/// A Debian with systemd as process 1; ended and removed when dropped.
struct Machine {
    root: PathBuf,
    child: Child,
    leader: u32,
}

impl Machine {
    fn boot(base: &Path) -> Result<Self> {
        let root = paths::target().join("package").join(format!("machine-{}", std::process::id()));
        fs::create_dir_all(&root)?;
        run::run(Command::new("tar").arg("-xf").arg(base).arg("-C").arg(&root))?;
        let script = paths::root().join("xtask/src/package/container.sh");
        let child = Command::new("bash").arg(script).arg(&root).stdin(Stdio::null()).spawn()?;
        let mut machine = Self { root, leader: 0, child };
        let start = Instant::now();
        loop {
            let children = format!("/proc/{0}/task/{0}/children", machine.child.id());
            let leader = fs::read_to_string(children).unwrap_or_default();
            machine.leader = leader.trim().parse().unwrap_or(0);
            if machine.leader > 0 {
                let state = machine.output("systemctl", &["is-system-running"]);
                if state.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == "running") {
                    return Ok(machine);
                }
            }
            if start.elapsed() > PATIENCE || machine.child.try_wait()?.is_some() {
                bail!("systemd does not come up in {}", machine.root.display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A program inside.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--all", "--root", "--wd", "env", "-i"]);
        command.args([
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND=noninteractive",
            "LC_ALL=C.UTF-8",
            program,
        ]);
        command.stdin(Stdio::null());
        command
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(program).args(arguments).output()?)
    }

    /// A failure's context.
    fn report(&self) {
        let log = self.output("journalctl", &["--no-pager", "--unit", "brattice", "--lines", "60"]);
        println!("{}", log.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its process 1, everything in it ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for _ in 0..50 {
            if !Path::new(&format!("/proc/{}", self.leader)).exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}
