//! One bounded walk over the policies directory.
//!
//! What lies directly under it is the operator's, `accounts/<name>/**` is the account's; anywhere else a document belongs
//! to no owner, which is an error of the operator. Everything is opened beneath the owner's folder with `openat2`, so
//! that no symlink leads out of it; the `..data` swaps of a Kubernetes ConfigMap are symlinks inside and work. An owner
//! whose files cannot be read gets errors instead of sources, and no other owner is affected.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use brattice_model::limits::{MAX_BYTES_PER_OWNER, MAX_FILE_BYTES, MAX_FILES_PER_OWNER};
use brattice_model::{Diagnostic, Owner, Position, Source};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::writers::{Writers, keep_out};
use crate::settle::{Look, MAX_OPEN};
use crate::tree::{Found, ReadError, Tree};

/// Most directory entries looked at for one owner.
pub const MAX_ENTRIES: usize = 65_536;
/// Deepest folder, counted from the owner's.
pub const MAX_DEPTH: usize = 8;
/// Most folders of one account; each takes one of the kernel's watches.
pub const MAX_FOLDERS: usize = 256;
/// Most folders of the operator.
pub const MAX_OPERATOR_FOLDERS: usize = 4_096;
/// Most accounts.
pub const MAX_ACCOUNTS: usize = 1_024;
/// Most errors reported for one owner.
pub const MAX_ERRORS: usize = 32;
/// The folder of the accounts' folders.
pub const ACCOUNTS: &str = "accounts";

/// Reads the whole directory.
///
/// # Errors
/// When the directory itself is missing or cannot be opened. Whatever is wrong below it is an error of its owner.
pub fn read(directory: &Path) -> Result<Tree, ReadError> {
    let unreadable = |e: Errno| match e {
        Errno::NOENT => ReadError::Missing(directory.to_owned()),
        e => ReadError::Unreadable { path: directory.to_owned(), source: e.into() },
    };
    let root = rustix::fs::open(directory, directory_flags(), Mode::empty()).map_err(unreadable)?;
    let mut tree = Tree::default();

    let mut operator = Walk::new("", Some(ACCOUNTS));
    operator.folder(root.as_fd(), Path::new(""), 0);

    match open_beneath(root.as_fd(), Path::new(ACCOUNTS), directory_flags()) {
        Ok(accounts) => read_accounts(accounts.as_fd(), &mut tree, &mut operator),
        Err(Errno::NOENT) => {}
        Err(e) => {
            tree.accounts_unknown = true;
            operator.error(format!("{ACCOUNTS}: cannot be read: {}", describe(e)));
        }
    }
    tree.owners.insert(Owner::Operator, operator.finish());
    Ok(tree)
}

fn read_accounts(accounts: BorrowedFd<'_>, tree: &mut Tree, operator: &mut Walk) {
    let names = match list(accounts, MAX_ENTRIES) {
        Ok(names) => names,
        Err(e) => {
            tree.accounts_unknown = true;
            operator.error(format!("{ACCOUNTS}: cannot be listed: {e}"));
            return;
        }
    };
    for (name, kind) in names {
        let Some(name) = name.to_str().map(str::to_owned) else {
            operator.error(format!("{ACCOUNTS}/{}: the name is not UTF-8", name.to_string_lossy()));
            continue;
        };
        let shown = format!("{ACCOUNTS}/{name}");
        if matches!(kind, FileType::Directory | FileType::Symlink)
            && let Err(e) = Owner::of_path(&format!("{shown}/_.yaml"))
        {
            operator.error(format!("{shown}: {}", e.message));
            continue;
        }
        if kind == FileType::Directory {
            if tree.owners.len() >= MAX_ACCOUNTS {
                tree.accounts_unknown = true;
                operator.error(format!(
                    "{ACCOUNTS}: more than {MAX_ACCOUNTS} accounts; {name} and later ones are not read"
                ));
                return;
            }
            let mut walk = Walk::new(&format!("{ACCOUNTS}/{name}/"), None);
            match open_beneath(accounts, Path::new(&name), directory_flags() | OFlags::NOFOLLOW) {
                Ok(folder) => walk.folder(folder.as_fd(), Path::new(""), 0),
                // Gone between listing and opening: as if it had not been listed.
                Err(Errno::NOENT) => continue,
                Err(e) => walk.error(format!("{ACCOUNTS}/{name}: cannot be read: {}", describe(e))),
            }
            tree.owners.insert(Owner::Account(name), walk.finish());
        } else if kind == FileType::Symlink {
            // A link would make one account's documents another's.
            let error = format!(
                "{ACCOUNTS}/{name}: an account's folder may not be a symlink; make it a directory (symlinks inside it are fine)"
            );
            tree.owners.insert(Owner::Account(name), Err(vec![error]).into());
        } else if is_policy(OsStr::new(&name)) {
            operator.error(format!(
                "{ACCOUNTS}/{name}: lies in no account's folder; move it to {ACCOUNTS}/<account>/ or, if it is the operator's, one folder up"
            ));
        }
    }
}

/// A walk over one owner's folder.
struct Walk {
    prefix: String,
    /// A top-level name that belongs to another owner.
    skip: Option<&'static str>,
    sources: Vec<Source>,
    errors: Vec<String>,
    look: Look,
    notes: Vec<Diagnostic>,
    /// (device, inode) of the folders from the owner's to the present one: a folder inside itself is a loop.
    path: Vec<(u64, u64)>,
    folders: usize,
    entries: usize,
    bytes: usize,
    /// A bound of the whole folder is reached: nothing more is looked at.
    full: bool,
}

impl Walk {
    fn new(prefix: &str, skip: Option<&'static str>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            skip,
            sources: Vec::new(),
            errors: Vec::new(),
            look: Look::default(),
            notes: Vec::new(),
            path: Vec::new(),
            folders: 0,
            entries: 0,
            bytes: 0,
            full: false,
        }
    }

    /// Names of files may hold anything: what would forge output on a terminal or in a log is replaced.
    fn error(&mut self, text: String) {
        let text = if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text };
        match self.errors.len() {
            n if n < MAX_ERRORS => self.errors.push(text),
            MAX_ERRORS => self.errors.push("... and more".to_owned()),
            _ => {}
        }
    }

    fn finish(mut self) -> Found {
        let sources = if self.errors.is_empty() {
            self.sources.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(self.sources)
        } else {
            Err(self.errors)
        };
        Found { sources, look: self.look, notes: self.notes }
    }

    /// Adds the state of a file or folder to the stamp, after it was read: later changes give another stamp.
    fn seen(&mut self, shown: &str, of: BorrowedFd<'_>) {
        let Ok(stat) = rustix::fs::fstat(of) else { return };
        let mut hasher = DefaultHasher::new();
        (self.look.stamp, shown, stat.st_dev, stat.st_ino, stat.st_size).hash(&mut hasher);
        (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec).hash(&mut hasher);
        self.look.stamp = hasher.finish();
        self.look.changed = self.look.changed.max(Some(changed(&stat)));
    }

    fn note(&mut self, shown: &str, message: &str, help: &str) {
        if self.notes.len() < MAX_ERRORS && !shown.contains(char::is_control) {
            let at = Position { file: shown.into(), line: 1, column: 1, length: 1 };
            self.notes.push(Diagnostic::warning(&at, message).help(help));
        }
    }

    /// A file whose name is no policy's: said where it looks like one.
    fn passed_over(&mut self, relative: &Path) {
        let Some(name) = relative.file_name().and_then(OsStr::to_str).map(str::to_lowercase) else { return };
        let shown = format!("{}{}", self.prefix, relative.display());
        let named = |end: &str| name.ends_with(end);
        if named("schema.json") {
            // For editors.
        } else if named(".json") {
            self.note(&shown, "it is not read: only files named *.yaml and *.yml are", "rename it; JSON is YAML");
        } else if named(".yaml") || named(".yml") {
            self.note(&shown, "it is not read: the end of its name is not in lower case", "name it *.yaml");
        } else if name.contains(".yaml") || name.contains(".yml") {
            let help = "name it *.yaml if it is meant, or move it out of the policies directory if it is a copy";
            self.note(&shown, "it is not read: its name does not end with .yaml or .yml", help);
        }
    }

    /// Walks the folder at `relative` below the owner's folder `owner`.
    fn folder(&mut self, owner: BorrowedFd<'_>, relative: &Path, depth: usize) {
        let shown = format!("{}{}", self.prefix, relative.display());
        if depth > MAX_DEPTH {
            self.error(format!("{shown}: deeper than {MAX_DEPTH} folders"));
            return;
        }
        let most = if self.skip.is_some() { MAX_OPERATOR_FOLDERS } else { MAX_FOLDERS };
        self.folders += 1;
        if self.folders > most {
            return self.enough(format!("{shown}: more than {most} folders of one owner"));
        }
        let here = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let folder = match open_beneath(owner, here, directory_flags()) {
            Ok(folder) => folder,
            Err(e) => return self.error(format!("{shown}: cannot be read: {}", describe(e))),
        };
        let identity = match rustix::fs::fstat(&folder) {
            Ok(stat) => (stat.st_dev, stat.st_ino),
            Err(e) => return self.error(format!("{shown}: cannot be read: {}", describe(e))),
        };
        if self.path.contains(&identity) {
            return self.error(format!("{shown}: a symlink loop: the folder contains itself"));
        }
        let names = match list(folder.as_fd(), MAX_ENTRIES.saturating_sub(self.entries)) {
            Ok(names) => names,
            Err(e) => return self.enough(format!("{shown}: cannot be listed: {e}")),
        };
        self.entries += names.len();
        self.path.push(identity);
        for (name, kind) in names {
            if depth == 0 && self.skip.is_some_and(|skip| name == skip) {
                continue;
            }
            if self.full {
                break;
            }
            let child = relative.join(&name);
            match kind {
                FileType::Directory => self.folder(owner, &child, depth + 1),
                FileType::Symlink => self.open(owner, &child, kind, depth),
                _ if !is_policy(&name) => self.passed_over(&child),
                FileType::RegularFile => self.open(owner, &child, kind, depth),
                // Not even opened: opening a device may do something.
                _ => self.error(format!("{}{}: neither a file nor a folder", self.prefix, child.display())),
            }
        }
        self.path.pop();
        self.seen(&shown, folder.as_fd());
    }

    /// Opens what is a file, a symlink or something odd.
    fn open(&mut self, owner: BorrowedFd<'_>, relative: &Path, kind: FileType, depth: usize) {
        let shown = format!("{}{}", self.prefix, relative.display());
        if shown.contains(char::is_control) {
            return self.error(format!("{shown}: its name has control characters; rename it"));
        }
        // O_NONBLOCK: opening a FIFO must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let named_as_policy = relative.file_name().is_some_and(is_policy);
        if self.skip.is_some() && depth > 0 && named_as_policy {
            return self.error(format!(
                "{shown}: belongs to no owner; move it up (the operator's documents lie directly in the policies directory) or to {ACCOUNTS}/<account>/"
            ));
        }
        let file = match open_beneath(owner, relative, flags) {
            Ok(file) => file,
            // A symlink that is not named like a policy is ignored, unless it may lead to another owner's folder.
            Err(e) if kind == FileType::Symlink && !named_as_policy && e != Errno::XDEV => return,
            Err(e) => return self.error(format!("{shown}: cannot be read: {}", describe(e))),
        };
        let stat = match rustix::fs::fstat(&file) {
            Ok(stat) => stat,
            Err(e) => return self.error(format!("{shown}: cannot be read: {}", describe(e))),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if self.skip.is_some() && leads_into_accounts(file.as_fd(), owner) {
                    return self.error(format!("{shown}: a symlink into the accounts' folders; copy what is meant"));
                }
                self.folder(owner, relative, depth + 1);
            }
            _ if !named_as_policy => {}
            FileType::RegularFile => {
                if self.skip.is_some() && kind == FileType::Symlink && leads_into_accounts(file.as_fd(), owner) {
                    return self.error(format!("{shown}: a symlink into the accounts' folders; copy what is meant"));
                }
                self.file(file, u64::try_from(stat.st_size).expect("no file has a negative size"), shown);
            }
            _ => self.error(format!("{shown}: neither a file nor a folder")),
        }
    }

    fn file(&mut self, file: OwnedFd, size: u64, shown: String) {
        if size > MAX_FILE_BYTES as u64 {
            return self.error(format!("{shown}: {size} bytes, of at most {MAX_FILE_BYTES}; split it"));
        }
        if self.sources.len() >= MAX_FILES_PER_OWNER {
            return self.enough(format!(
                "{shown}: more than {MAX_FILES_PER_OWNER} files of one owner; put more documents into one file"
            ));
        }
        match keep_out(file.as_fd()) {
            Writers::None => {}
            Writers::Some if self.look.open.len() < MAX_OPEN => self.look.open.push(shown.clone()),
            Writers::Some => {}
            Writers::Unknown => self.look.unasked = true,
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).expect("it is at most 1 MiB, as checked above"));
        let file = File::from(file);
        if let Err(e) = (&file).take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes) {
            return self.error(format!("{shown}: cannot be read: {e}"));
        }
        self.seen(&shown, file.as_fd());
        drop(file);
        // It may have grown since fstat.
        if bytes.len() > MAX_FILE_BYTES {
            return self.error(format!("{shown}: more than {MAX_FILE_BYTES} bytes; split it"));
        }
        self.bytes += bytes.len();
        // guard: bytes-of-account
        if self.bytes > MAX_BYTES_PER_OWNER {
            return self.enough(format!(
                "{shown}: more than {MAX_BYTES_PER_OWNER} bytes of one owner; divide the documents among several accounts"
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                if text.trim().is_empty() {
                    self.note(&shown, "it is empty", "write documents into it, or remove it");
                }
                self.sources.push(Source { path: shown, text });
            }
            Err(e) => {
                let from = e.utf8_error().valid_up_to();
                let (line, encoding) = encoding(e.as_bytes(), from);
                self.error(format!("{shown}: not UTF-8 from byte {from} on (line {line}): {encoding}"));
            }
        }
    }

    /// Reports that a bound is reached, and reads nothing more.
    fn enough(&mut self, text: String) {
        self.full = true;
        self.error(text);
    }
}

/// When a file or folder changed last, by its file system's clock. The time of change of the inode: it cannot be set.
fn changed(stat: &Stat) -> SystemTime {
    let (seconds, nanoseconds) = (stat.st_ctime.max(0).unsigned_abs(), stat.st_ctime_nsec);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// The line of a byte that is not UTF-8, and what the file most likely is, with a remedy.
fn encoding(bytes: &[u8], from: usize) -> (usize, &'static str) {
    let line = 1 + bytes.iter().take(from).filter(|byte| **byte == b'\n').count();
    let encoding = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        "it is UTF-16, as some editors and PowerShell write; save it as UTF-8, or convert it: iconv -f UTF-16 -t UTF-8"
    } else {
        "most likely it is Latin-1 or Windows-1252; save it as UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
    };
    (line, encoding)
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn open_beneath(owner: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    // guard: symlink-out
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // openat2 says EAGAIN when something was renamed while it looked: an editor or a ConfigMap swap.
    let mut tries = 8;
    loop {
        match rustix::fs::openat2(owner, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries > 0 => tries -= 1,
            other => return other,
        }
    }
}

/// Whether an opened file lies in another owner's folder. The operator's folder contains the accounts', so that
/// `RESOLVE_BENEATH` alone does not tell.
fn leads_into_accounts(file: BorrowedFd<'_>, root: BorrowedFd<'_>) -> bool {
    let path = |fd: BorrowedFd<'_>| -> Option<PathBuf> {
        use std::os::fd::AsRawFd as _;
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
    };
    let accounts = open_beneath(root, Path::new(ACCOUNTS), directory_flags()).ok().and_then(|fd| path(fd.as_fd()));
    match (path(file), accounts) {
        (Some(file), Some(accounts)) => file.starts_with(accounts),
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// Names and kinds in a folder, sorted; hidden ones (swap files, `..data`) left out.
fn list(folder: BorrowedFd<'_>, limit: usize) -> Result<Vec<(std::ffi::OsString, FileType)>, String> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(|e| describe(e).to_owned())? {
        let entry = entry.map_err(|e| describe(e).to_owned())?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        if names.len() >= limit {
            return Err(format!("more than {MAX_ENTRIES} entries"));
        }
        let kind = match entry.file_type() {
            // Some filesystems do not say.
            FileType::Unknown => match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(describe(e).to_owned()),
            },
            kind => kind,
        };
        names.push((name.to_owned(), kind));
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

fn is_policy(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".yaml") || name.ends_with(b".yml")
}

fn describe(e: Errno) -> String {
    match e {
        Errno::LOOP => "a symlink loop".to_owned(),
        Errno::XDEV => {
            "a symlink that leads out of its owner's folder; only relative symlinks inside it are followed".to_owned()
        }
        Errno::NOENT => "it vanished, or a symlink points to nothing".to_owned(),
        Errno::ACCESS | Errno::PERM => "permission denied".to_owned(),
        e => std::io::Error::from(e).to_string(),
    }
}

#[cfg(test)]
mod tests;
