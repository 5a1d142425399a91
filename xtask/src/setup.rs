//! Installs what is missing: Debian packages, bpf-linker, cargo-deny, cargo-mutants, a mounted bpffs. Instant when nothing is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    paths, run,
    toolchain::{self, Compiler},
};

/// bpf-linker's version; its LLVM must be the compiler's.
const BPF_LINKER: &str = "0.13.0";
/// cargo-deny's version.
const CARGO_DENY: &str = "0.20.2";

/// cargo-mutants' version.
const CARGO_MUTANTS: &str = "27.1.0";

/// The compiler for eBPF, from Debian.
const COMPILER_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "rust-web-src"];
/// What linking any Rust program needs.
const BUILD_PACKAGES: &[&str] = &["gcc", "libc6-dev", "pkg-config", "git", "ca-certificates"];
/// What the end-to-end tests and the demo run, and the program that shows that a package is there where there is no dpkg.
const TEST_PACKAGES: &[(&str, &str)] = &[
    ("iproute2", "ip"),
    ("nftables", "nft"),
    ("curl", "curl"),
    ("bind9-dnsutils", "dig"),
    ("nghttp2-client", "h2load"),
    ("ethtool", "ethtool"),
    ("bpftool", "bpftool"),
    ("tcpdump", "tcpdump"),
    ("util-linux", "nsenter"),
    ("procps", "ps"),
    ("python3", "python3"),
    ("conntrack", "conntrack"),
    ("iptables", "iptables-nft"),
    ("dbus", "dbus-daemon"),
];

/// What the benchmark compares Brattice with, and what it sends load with.
const BENCH_PACKAGES: &[(&str, &str)] = &[
    ("wrk", "wrk"),
    ("nginx-light", "nginx"),
    ("haproxy", "haproxy"),
    ("openssl", "openssl"),
    ("python3-venv", "python3"),
];

/// What firewalls need that are unpacked aside.
const FIREWALL_LIBRARIES: &[&str] =
    &["python3-dbus", "python3-firewall", "python3-gi", "python3-nftables", "gir1.2-glib-2.0"];

/// Firewalls that tests run in namespaces. Never installed: the package would make them this machine's.
const FIREWALLS: &[&str] = &["firewalld", "ufw"];
/// What `cargo xtask package --check` makes a Debian with and looks at the package with, likewise.
const PACKAGING_PACKAGES: &[(&str, &str)] =
    &[("mmdebstrap", "mmdebstrap"), ("lintian", "lintian"), ("util-linux", "nsenter")];
/// What reads scripts, likewise.
const LINTING_PACKAGES: &[(&str, &str)] = &[("shellcheck", "shellcheck"), ("ruby", "ruby")];

/// How much is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Compilers.
    Building,
    /// Compilers, and the programs that tests and the demo run.
    Tests,
    /// All that tests need, and the benchmark's peers.
    Measuring,
    /// Compilers, and what tries a Debian package out.
    Packaging,
    /// Compilers, cargo-deny, and what reads scripts.
    Linting,
    /// Compilers and cargo-mutants.
    Mutating,
}

/// Installs what is missing.
///
/// # Errors
/// When something is missing that cannot be installed: not root, offline, no apt. Says what would fix it.
pub(crate) fn setup(needed: For) -> Result<()> {
    let missing = missing_packages(needed);
    if !missing.is_empty() {
        install(&missing)?;
    }
    ensure_compiler()?;
    ensure_linker()?;
    if needed == For::Linting {
        ensure_deny()?;
    }
    if needed == For::Mutating {
        ensure_mutants()?;
    }
    if needed == For::Tests {
        ensure_firewalls()?;
    }
    if matches!(needed, For::Tests | For::Measuring) {
        ensure_bpffs()?;
    }
    println!("    setup: complete");
    Ok(())
}

fn is_debian() -> bool {
    run::which("apt-get").is_some() && run::which("dpkg-query").is_some()
}

fn is_installed(package: &str) -> bool {
    run::capture(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn missing_packages(needed: For) -> Vec<&'static str> {
    let debian = is_debian();
    let mut missing: Vec<&'static str> = Vec::new();
    if debian {
        missing.extend(BUILD_PACKAGES.iter().filter(|package| !is_installed(package)));
    }
    let programs: &[&[(&'static str, &str)]] = match needed {
        // qemu for guests: 20 MB; their kernels (60 MB) are fetched when they are first started.
        For::Tests => &[TEST_PACKAGES, &brattice_machine::PACKAGES],
        For::Measuring => &[TEST_PACKAGES, BENCH_PACKAGES],
        For::Packaging => &[PACKAGING_PACKAGES],
        For::Linting => &[LINTING_PACKAGES],
        For::Building | For::Mutating => &[],
    };
    let there =
        |package: &str, program: &str| if debian { is_installed(package) } else { run::which(program).is_some() };
    missing.extend(
        programs
            .iter()
            .copied()
            .flatten()
            .filter(|(package, program)| !there(package, program))
            .map(|(package, _)| *package),
    );
    if needed == For::Tests {
        missing.extend(FIREWALL_LIBRARIES.iter().filter(|package| debian && !is_installed(package)));
    }
    missing
}

/// `apt-get install`, with the package lists fetched again if the first try fails.
fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_debian() {
        bail!(
            "these programs are missing (names of Debian's packages): {list}\nInstall them with the package manager of this system and run this again."
        );
    }
    if !run::is_root() {
        bail!("these packages are missing: {list}\nRun `sudo apt-get install {list}`, or this command as root.");
    }
    run::timed(&format!("installing {list}"), || {
        let install = |quiet: bool| {
            let mut command = Command::new("apt-get");
            command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
            command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
            if quiet {
                command.stderr(Stdio::null());
            }
            run::run(&mut command)
        };
        if install(true).is_ok() {
            return Ok(());
        }
        update()?;
        install(false).with_context(|| {
            format!("cannot install {list}.\nIf this machine is offline, connect it and run `cargo xtask setup` again")
        })
    })
}

fn update() -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["update", "--quiet"]).stdin(Stdio::null()).stdout(Stdio::null());
    run::run(&mut command).context("cannot fetch Debian's package lists.\nIf this machine is offline, connect it and run `cargo xtask setup` again")
}

/// Debian's compiler: installed where that takes nothing away, else unpacked aside. Elsewhere rustup's nightly.
fn ensure_compiler() -> Result<()> {
    if Compiler::find().is_some() {
        return Ok(());
    }
    if !is_debian() {
        bail!(
            "no compiler for eBPF here.\nRun `rustup toolchain install nightly --component rust-src` and this again."
        );
    }
    if !["rustc", "rustup"].iter().any(|package| is_installed(package)) {
        return install(COMPILER_PACKAGES);
    }
    unpack_aside()
}

/// `rustc-web` conflicts with Debian's own `rustc` and `rustup`: nothing of the user's is removed for it.
fn unpack_aside() -> Result<()> {
    if !run::is_root() {
        bail!("no compiler for eBPF here.\nRun `cargo xtask setup` as root.");
    }
    run::timed("unpacking Debian's rustc-web aside (rustc or rustup is installed as a package)", || {
        update()?;
        let mut packages: Vec<String> = COMPILER_PACKAGES.iter().map(ToString::to_string).collect();
        packages.push("libstd-rust-web-dev".into());
        let depends = run::capture(Command::new("apt-cache").args(["depends", "libstd-rust-web-dev"]))?;
        packages.extend(
            depends
                .lines()
                .filter_map(|line| line.trim().strip_prefix("Depends: libstd-rust-web-"))
                .map(|version| format!("libstd-rust-web-{version}")),
        );
        let depends = run::capture(Command::new("apt-cache").args(["depends", packages.last().expect("just filled")]))?;
        let llvm: Vec<&str> = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .filter(|name| name.starts_with("libllvm"))
            .collect();
        if !llvm.is_empty() {
            install(&llvm)?;
        }
        let debs = paths::tools().join("debs");
        fs::create_dir_all(&debs)?;
        download(&packages, &debs)?;
        for entry in fs::read_dir(&debs)? {
            run::run(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(toolchain::aside()))?;
        }
        fs::remove_dir_all(&debs)?;
        if Compiler::find().is_none() {
            bail!(
                "the packages were unpacked to {}, but hold no compiler for {}",
                toolchain::aside().display(),
                toolchain::TARGET
            );
        }
        Ok(())
    })
}

/// Firewalls for tests, unpacked into `target/tools/firewalls`.
fn ensure_firewalls() -> Result<()> {
    let place = paths::tools().join("firewalls");
    if ["usr/sbin/firewalld", "usr/sbin/ufw"].iter().all(|program| place.join(program).is_file()) {
        return Ok(());
    }
    if !is_debian() {
        bail!("{} is missing: unpack firewalld's and ufw's packages there; two tests run them", place.display());
    }
    run::timed("unpacking firewalld and ufw aside", || {
        let debs = paths::tools().join("firewall-debs");
        fs::create_dir_all(&debs)?;
        download(FIREWALLS, &debs).or_else(|_| update().and_then(|()| download(FIREWALLS, &debs)))?;
        for entry in fs::read_dir(&debs)? {
            run::run(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(&place))?;
        }
        fs::remove_dir_all(&debs)?;
        Ok(())
    })
}

/// apt drops to its own user for downloads and warns where it cannot write as that user.
fn download<S: AsRef<std::ffi::OsStr>>(packages: &[S], folder: &Path) -> Result<()> {
    run::run(
        Command::new("apt-get")
            .args(["download", "--quiet", "-o", "APT::Sandbox::User=root"])
            .args(packages)
            .current_dir(folder)
            .stdout(Stdio::null()),
    )
}

/// bpf-linker, with the LLVM of the compiler.
fn ensure_linker() -> Result<()> {
    let Some(compiler) = Compiler::find() else {
        bail!("no compiler for eBPF here.\nRun `cargo xtask setup` as root.")
    };
    if toolchain::linker().is_some_and(|linker| run::capture(Command::new(linker).arg("--version")).is_ok()) {
        return Ok(());
    }
    let major = compiler.llvm_major()?;
    let mut install = cargo_install("bpf-linker", BPF_LINKER);
    match compiler {
        Compiler::Debian { .. } => {
            let packages = [
                format!("llvm-{major}-dev"),
                format!("libpolly-{major}-dev"),
                "libzstd-dev".to_owned(),
                "g++".to_owned(),
            ];
            let missing: Vec<&str> =
                packages.iter().map(String::as_str).filter(|package| !is_installed(package)).collect();
            if !missing.is_empty() {
                self::install(&missing)?;
            }
            let prefix = PathBuf::from(format!("/usr/lib/llvm-{major}"));
            let path = std::env::join_paths(
                std::iter::once(prefix.join("bin"))
                    .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
            )?;
            // llvm-sys names its variable after major and minor version; LLVM's releases start at .1 since 18.
            install.env(format!("LLVM_SYS_{major}1_PREFIX"), &prefix).env("PATH", path);
            install.args(["--no-default-features", "--features"]).arg(format!("llvm-{major}"));
        }
        Compiler::Nightly => {}
    }
    run::timed("building bpf-linker into target/tools (once)", || run::run(&mut install)).context(
        "bpf-linker could not be built.\nIf this machine is offline, connect it and run `cargo xtask setup` again",
    )
}

fn ensure_deny() -> Result<()> {
    if deny().is_some() {
        return Ok(());
    }
    // Unoptimized: it runs for a second, and building it optimized takes minutes.
    run::timed("building cargo-deny into target/tools (once)", || {
        run::run(cargo_install("cargo-deny", CARGO_DENY).arg("--debug"))
    })
    .context("cargo-deny could not be built.\nIf this machine is offline, connect it and run `cargo xtask lint` again")
}

/// cargo-deny: ours, else one on `PATH`.
pub(crate) fn deny() -> Option<PathBuf> {
    let ours = paths::tools().join("bin/cargo-deny");
    if ours.is_file() { Some(ours) } else { run::which("cargo-deny") }
}

fn ensure_mutants() -> Result<()> {
    if mutants().is_some() {
        return Ok(());
    }
    run::timed("building cargo-mutants into target/tools (once)", || {
        run::run(cargo_install("cargo-mutants", CARGO_MUTANTS).arg("--debug"))
    })
    .context(
        "cargo-mutants could not be built.\nIf this machine is offline, connect it and run `cargo xtask mutants` again",
    )
}

/// cargo-mutants: ours, else one on `PATH`.
pub(crate) fn mutants() -> Option<PathBuf> {
    let ours = paths::tools().join("bin/cargo-mutants");
    if ours.is_file() { Some(ours) } else { run::which("cargo-mutants") }
}

fn cargo_install(name: &str, version: &str) -> Command {
    let mut command = run::cargo();
    command.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(paths::tools()).arg(name);
    // Its own target directory is thrown away: nothing of it is needed again.
    command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// Pinned maps and programs need a bpffs.
fn ensure_bpffs() -> Result<()> {
    let folder = Path::new("/sys/fs/bpf");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some("/sys/fs/bpf") && words.next() == Some("bpf")
    });
    if mounted {
        return Ok(());
    }
    if !run::is_root() {
        bail!("no bpffs is mounted at /sys/fs/bpf.\nRun `mount -t bpf bpf /sys/fs/bpf` as root.");
    }
    nix::mount::mount(Some("bpf"), folder, Some("bpf"), nix::mount::MsFlags::empty(), None::<&str>)
        .context("cannot mount a bpffs at /sys/fs/bpf: the kernel may be built without CONFIG_BPF_SYSCALL")?;
    println!("    mounted a bpffs at /sys/fs/bpf");
    Ok(())
}
