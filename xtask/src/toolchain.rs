//! Finds a compiler for eBPF: Debian's `rustc-web` (installed, or unpacked aside), else rustup's nightly.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{paths, run};

/// The target the programs are built for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build the programs.
pub(crate) enum Compiler {
    /// Debian's, with a ready `core` for the target; `prefix` is `/usr`, or where the packages were unpacked.
    Debian {
        /// Holds `bin/rustc` and `lib/rustlib`.
        prefix: PathBuf,
    },
    /// rustup's nightly with `rust-src`; builds `core` itself.
    Nightly,
}

impl Compiler {
    /// The one to use, if any.
    pub(crate) fn find() -> Option<Self> {
        for prefix in [aside().join("usr"), PathBuf::from("/usr")] {
            if prefix.join("bin/rustc").is_file() && prefix.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
                return Some(Self::Debian { prefix });
            }
        }
        nightly_has_sources().then_some(Self::Nightly)
    }

    /// `cargo build` with everything set that the programs need, in no directory yet.
    pub(crate) fn cargo_build(&self, linker: &Path) -> Command {
        // Separated by what no path holds: RUSTFLAGS would be split at the blanks of a path.
        let flags = format!("-Clinker={}\x1f-Clink-arg=--btf", linker.display());
        let mut command = match self {
            Self::Debian { prefix } => {
                let mut command = Command::new(prefix.join("bin/cargo"));
                command.env("RUSTC", prefix.join("bin/rustc")).env("RUSTC_BOOTSTRAP", "1");
                library_path(&mut command, prefix);
                command.args(["build", "--release", "--target", TARGET]);
                command
            }
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args([
                    "run",
                    "nightly",
                    "cargo",
                    "build",
                    "-Z",
                    "build-std=core",
                    "--release",
                    "--target",
                    TARGET,
                ]);
                command
            }
        };
        run::clean_environment(&mut command);
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags);
        command
    }

    /// `rustc -vV`: part of what decides whether the object is still good, and where the LLVM version is written.
    ///
    /// # Errors
    /// When the compiler cannot be started.
    pub(crate) fn version(&self) -> Result<String> {
        let mut command = match self {
            Self::Debian { prefix } => {
                let mut command = Command::new(prefix.join("bin/rustc"));
                library_path(&mut command, prefix);
                command
            }
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "rustc"]);
                command
            }
        };
        run::capture(command.arg("-vV"))
    }

    /// Major version of its LLVM; bpf-linker's must be the same.
    ///
    /// # Errors
    /// When `rustc -vV` does not say it.
    pub(crate) fn llvm_major(&self) -> Result<u32> {
        let version = self.version()?;
        version
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))
            .and_then(|llvm| llvm.split('.').next()?.parse().ok())
            .with_context(|| format!("`rustc -vV` names no LLVM version:\n{version}"))
    }
}

/// Where Debian packages are unpacked that cannot be installed beside the user's own.
pub(crate) fn aside() -> PathBuf {
    paths::tools().join("aside")
}

/// A compiler that was unpacked aside finds its libraries only by this.
fn library_path(command: &mut Command, prefix: &Path) {
    if prefix != Path::new("/usr") {
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        command.env("LD_LIBRARY_PATH", prefix.join("lib").join(triplet));
    }
}

fn nightly_has_sources() -> bool {
    run::capture(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))
        .is_ok_and(|sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir())
}

/// bpf-linker: ours in `target/tools`, else one on `PATH`.
pub(crate) fn linker() -> Option<PathBuf> {
    let ours = paths::tools().join("bin/bpf-linker");
    if ours.is_file() { Some(ours) } else { run::which("bpf-linker") }
}

/// Compiler and linker.
///
/// # Errors
/// Where one is missing: names the command that repairs it.
pub(crate) fn both() -> Result<(Compiler, PathBuf)> {
    match (Compiler::find(), linker()) {
        (Some(compiler), Some(linker)) => Ok((compiler, linker)),
        (None, _) => bail!(
            "no compiler for eBPF here (Debian's rustc-web, or rustup's nightly with rust-src).\nRun `cargo xtask setup` as root."
        ),
        (_, None) => bail!("bpf-linker is missing.\nRun `cargo xtask setup` as root."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PROGRAM: &str = "\
#![no_std]
#![no_main]
#[no_mangle]
#[link_section = \"socket\"]
pub extern \"C\" fn nothing() -> i32 {
    0
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
";
    const MANIFEST: &str = "\
[package]
name = \"nothing\"
edition = \"2021\"
[workspace]
[profile.release]
panic = \"abort\"
";

    /// Removed when dropped.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_linker_whose_path_has_blanks_links() {
        let (compiler, linker) = both().expect("`cargo xtask setup` was run");
        let folder = Folder(std::env::temp_dir().join(format!("brattice linker-{}", std::process::id())));
        fs::create_dir_all(folder.0.join("src")).expect("a folder");
        fs::write(folder.0.join("src/main.rs"), PROGRAM).expect("a file");
        fs::write(folder.0.join("Cargo.toml"), MANIFEST).expect("a file");
        let there = folder.0.join("bpf-linker");
        std::os::unix::fs::symlink(linker, &there).expect("a link");
        let target = folder.0.join("target");
        let mut build = compiler.cargo_build(&there);
        run::capture(build.current_dir(&folder.0).env("CARGO_TARGET_DIR", &target)).expect("it is built");
        assert!(target.join(TARGET).join("release/nothing").is_file());
    }
}
