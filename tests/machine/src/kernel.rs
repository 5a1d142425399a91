//! Kernels of Debian: found by series, downloaded and unpacked aside. Nothing is installed on this host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

/// Debian's packages that guests need on this host, and a program of each.
pub const PACKAGES: [(&str, &str); 3] =
    [("qemu-system-x86", "qemu-system-x86_64"), ("busybox-static", "busybox"), ("xz-utils", "xz")];

/// Releases of Debian by the kernels that they have, for series that the host's own package lists do not offer.
const RELEASES: [(&str, &[&str]); 2] = [("bookworm", &["6.1", "6.12"]), ("bullseye", &["5.10"])];

/// Debian's own keys.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel with its modules.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What it was asked for by: `6.1`.
    pub series: String,
    /// As `uname -r` says: `6.1.0-56-cloud-amd64`.
    pub release: String,
    folder: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series, below `folder`: downloaded with apt and unpacked there if it is not yet (30 MB).
    /// What was unpacked once is used from then on; remove the folder for a newer one.
    ///
    /// # Errors
    /// When Debian has none of the series or cannot be reached; on another architecture than amd64.
    pub fn of(series: &str, folder: &Path) -> Result<Self> {
        let place = folder.join(series);
        if let Ok(kernel) = Self::open(series, &place) {
            return Ok(kernel);
        }
        if std::env::consts::ARCH != "x86_64" {
            bail!("guests are run on x86-64 only, not yet on {}", std::env::consts::ARCH);
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        // Beside, then renamed: several tests may want it at once.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let fresh = folder.join(format!(".{series}-{}-{number}", std::process::id()));
        fs::create_dir_all(&fresh)?;
        let done = download(series, &folder, &fresh).and_then(|()| {
            Self::open(series, &fresh)?;
            match fs::rename(&fresh, &place) {
                // Another test was faster.
                Err(_) if place.exists() => Ok(()),
                other => Ok(other?),
            }
        });
        let _ = fs::remove_dir_all(&fresh);
        done.with_context(|| {
            format!("no kernel {series} for a guest.\nIf this machine is offline, connect it and try again")
        })?;
        Self::open(series, &place)
    }

    fn open(series: &str, folder: &Path) -> Result<Self> {
        for entry in fs::read_dir(folder.join("boot"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(release) = name.strip_prefix("vmlinuz-") {
                let release = release.to_owned();
                return Ok(Self { series: series.to_owned(), release, folder: folder.to_owned() });
            }
        }
        bail!("{} holds no kernel", folder.display())
    }

    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        self.folder.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// Its modules.
    pub(crate) fn modules(&self) -> PathBuf {
        ["lib", "usr/lib"]
            .map(|lib| self.folder.join(lib).join("modules").join(&self.release))
            .into_iter()
            .find(|folder| folder.is_dir())
            .unwrap_or_default()
    }
}

/// Asks the host's package lists first, then lists of our own, which the host's package manager never sees.
fn download(series: &str, folder: &Path, into: &Path) -> Result<()> {
    let mut options = vec!["-o".to_owned(), "APT::Sandbox::User=root".to_owned()];
    let package = match package(series, &options) {
        Some(package) => package,
        None => {
            options.extend(own_lists(series, folder)?);
            run(Command::new("apt-get").args(&options).args(["update", "--quiet"]))?;
            package(series, &options).with_context(|| format!("Debian offers no kernel {series}"))?
        }
    };
    run(Command::new("apt-get").args(&options).args(["download", "--quiet", &package]).current_dir(into))?;
    for entry in fs::read_dir(into)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(into))?;
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Name of the package: what a metapackage of that series depends on, so that a newer minor version is found by itself.
fn package(series: &str, options: &[String]) -> Option<String> {
    let wanted = format!("linux-image-{series}.");
    let is_image = |name: &&str| name.starts_with(&wanted) && name.ends_with("-cloud-amd64");
    for meta in [format!("linux-image-{series}-cloud-amd64"), "linux-image-cloud-amd64".to_owned()] {
        let text = answer(Command::new("apt-cache").args(options).args(["depends", &meta]));
        let found = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).find(is_image);
        if let Some(found) = found {
            return Some(found.to_owned());
        }
    }
    None
}

fn own_lists(series: &str, folder: &Path) -> Result<Vec<String>> {
    let known = RELEASES.iter().find(|(_, kernels)| kernels.contains(&series));
    let (release, _) = known.with_context(|| format!("no release of Debian is known that has a kernel {series}"))?;
    let place = folder.join("apt").join(release);
    for name in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(place.join(name))?;
    }
    let list = place.join("sources.list");
    let mut text = String::new();
    for (archive, suite) in [("debian", (*release).to_owned()), ("debian-security", format!("{release}-security"))] {
        text.push_str(&format!("deb [signed-by={KEYS}] http://deb.debian.org/{archive} {suite} main\n"));
    }
    fs::write(&list, text)?;
    let options = [
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", place.join("lists").display()),
        format!("Dir::Cache={}", place.join("cache").display()),
    ];
    Ok(options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect())
}

fn answer(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
