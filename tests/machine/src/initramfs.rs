//! What a guest finds: busybox, modules, programs of this host with the libraries they need, a script.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::BufWriter,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{archive::Archive, kernel::Kernel, modules::Modules};

/// What the kernel starts.
const INIT: &str = include_str!("init.sh");
/// The script of a guest that runs lines from the host.
const SHELL: &str = include_str!("shell.sh");
/// Where programs of this host are looked for.
const PLACES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The files of a guest, gathered and then written as one archive.
#[derive(Debug)]
pub struct Initramfs {
    kernel: Kernel,
    /// Path inside → content and mode.
    files: BTreeMap<String, (Content, u32)>,
    modules: Vec<(String, Vec<u8>)>,
}

#[derive(Debug)]
enum Content {
    Host(PathBuf),
    Bytes(Vec<u8>),
}

impl Initramfs {
    /// busybox, `sh`, and what starts the guest.
    ///
    /// # Errors
    /// When busybox is missing or needs libraries.
    pub fn new(kernel: &Kernel) -> Result<Self> {
        let mut all = Self { kernel: kernel.clone(), files: BTreeMap::new(), modules: Vec::new() };
        all.program_as(
            &find("busybox").context("busybox is missing: apt-get install busybox-static")?,
            "/bin/busybox",
        )?;
        // busybox's own shell prefers its applets to the host's programs of the same name.
        all.program_as(&find("sh").context("this host has no sh")?, "/usr/bin/sh")?;
        all.file("/init", 0o755, INIT);
        all.file("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n");
        all.file("/etc/group", 0o644, "root:x:0:\n");
        all.file("/etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n");
        all.file("/etc/nsswitch.conf", 0o644, "hosts: files dns\n");
        all.file("/etc/resolv.conf", 0o644, "");
        Ok(all)
    }

    /// Kernel modules, with all that they need, loaded in this order before the script; those that are built in are left out.
    ///
    /// # Errors
    /// When the kernel has no such module.
    pub fn modules(&mut self, names: &[&str]) -> Result<()> {
        let modules = Modules::of(&self.kernel.modules())?;
        for name in names {
            modules.add(name, &mut self.modules).with_context(|| format!("kernel {}", self.kernel.release))?;
        }
        Ok(())
    }

    /// A program of this host by name, at the same place inside, with its libraries.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn program(&mut self, name: &str) -> Result<()> {
        let path = find(name).with_context(|| format!("{name} is missing on this host"))?;
        let inside = path.to_string_lossy().into_owned();
        self.program_as(&path, &inside)
    }

    /// A program of this host at another place inside, with its libraries.
    ///
    /// # Errors
    /// When it or one of its libraries is missing.
    pub fn program_as(&mut self, path: &Path, inside: &str) -> Result<()> {
        if !path.is_file() {
            bail!("{} is missing", path.display());
        }
        self.files.insert(inside.to_owned(), (Content::Host(path.to_owned()), 0o755));
        for library in libraries(path)? {
            let inside = library.to_string_lossy().into_owned();
            self.files.insert(inside, (Content::Host(library), 0o755));
        }
        Ok(())
    }

    /// A library that a program opens by itself, at the same place inside.
    ///
    /// # Errors
    /// When it is missing.
    pub fn library(&mut self, path: &Path) -> Result<()> {
        let inside = path.to_string_lossy().into_owned();
        self.program_as(path, &inside)
    }

    /// A file with this content.
    pub fn file(&mut self, inside: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.files.insert(inside.to_owned(), (Content::Bytes(content.into()), mode));
    }

    /// What the guest runs, for the host's `sh` with the programs added here and else busybox's; its exit code is the guest's. What it prints, to either output, is told
    /// line by line.
    pub fn script(&mut self, text: &str) {
        self.file("/script", 0o644, text);
    }

    /// The script runs what [`crate::Guest::run`] says, until the guest is dropped.
    pub fn shell(&mut self) {
        self.script(SHELL);
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When a file cannot be read or the archive not be written.
    pub fn write(&self, to: &Path) -> Result<()> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        let mut folders: BTreeSet<String> =
            ["dev", "proc", "sys", "tmp", "run", "root", "modules", "var/lib", "etc/netns"]
                .into_iter()
                .flat_map(|folder| ancestors(&format!("/{folder}/x")))
                .collect();
        folders.extend(self.files.keys().flat_map(|path| ancestors(path)));
        // Merged as on this host: programs name libraries by either path.
        let links: Vec<(&str, PathBuf)> = ["bin", "sbin", "lib", "lib64"]
            .into_iter()
            .filter_map(|name| Some((name, fs::read_link(Path::new("/").join(name)).ok()?)))
            .collect();
        let moved = |path: &str| {
            let rest = path.trim_start_matches('/');
            let (first, more) = rest.split_once('/').unwrap_or((rest, ""));
            match links.iter().find(|(name, _)| *name == first) {
                Some((_, to)) => format!("/{}/{more}", to.display()).trim_end_matches('/').to_owned(),
                None => path.to_owned(),
            }
        };
        let mut made = BTreeSet::new();
        for folder in links.iter().map(|(_, to)| format!("/{}", to.display())).chain(folders.iter().map(|f| moved(f))) {
            for folder in ancestors(&format!("{folder}/x")) {
                if made.insert(folder.clone()) {
                    archive.folder(&folder)?;
                }
            }
        }
        for (name, to) in &links {
            archive.link(name, &to.to_string_lossy())?;
        }
        // Until devtmpfs is mounted.
        archive.device("/dev/console", 5, 1)?;
        archive.device("/dev/null", 1, 3)?;
        let mut written = BTreeSet::new();
        for (path, (content, mode)) in &self.files {
            let path = moved(path);
            if !written.insert(path.clone()) {
                continue;
            }
            match content {
                Content::Bytes(bytes) => archive.file(&path, *mode, bytes)?,
                Content::Host(host) => {
                    let bytes = fs::read(host).with_context(|| format!("cannot read {}", host.display()))?;
                    archive.file(&path, fs::metadata(host)?.permissions().mode() & 0o777, &bytes)?;
                }
            }
        }
        let mut order = String::new();
        for (name, bytes) in &self.modules {
            archive.file(&format!("/modules/{name}.ko"), 0o644, bytes)?;
            order.push_str(name);
            order.push('\n');
        }
        archive.file("/modules/order", 0o644, order.as_bytes())?;
        archive.finish().with_context(|| format!("cannot write {}", to.display()))
    }
}

/// The folders above a path, outermost first.
fn ancestors(path: &str) -> Vec<String> {
    let mut all: Vec<String> = Path::new(path)
        .ancestors()
        .skip(1)
        .map(|folder| folder.to_string_lossy().into_owned())
        .filter(|folder| folder != "/" && !folder.is_empty())
        .collect();
    all.reverse();
    all
}

fn find(name: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file())
}

/// Shared libraries and the loader that a program names, as `ldd` resolves them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} needs a library that is not there: {}", program.display(), line.trim());
    }
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`. Static programs have none.
    let paths = text.lines().filter_map(|line| {
        let path = line.split("=>").last()?.trim().split(" (").next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    Ok(paths.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_outermost_first() {
        assert_eq!(ancestors("/usr/lib/x/libc.so"), ["/usr", "/usr/lib", "/usr/lib/x"]);
        assert!(ancestors("/init").is_empty());
    }

    #[test]
    fn a_program_is_found_with_its_libraries() {
        let ls = find("ls").expect("every host has it");
        let all = libraries(&ls).expect("it runs here");
        assert!(all.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{all:?}");
    }
}
