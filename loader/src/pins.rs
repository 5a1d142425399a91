//! The pin directory: `<bpffs>/v<schema>/{maps,programs,links}`, and `<bpffs>/lock`, which the running agent holds.
//!
//! A BPF file system may be writable for all users (`mode=1777`). So what is there must be root's, with no way for
//! others to put anything into it, and the lock is a folder that only root can open: a lock needs no more than that.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use brattice_abi as abi;
use rustix::fs::{FlockOperation, FsWord, flock, statfs};
use rustix::io::Errno;

use crate::hook::Hook;
use crate::{Error, Result};

/// The pin of `vip_listener`'s link.
pub(crate) const LISTENER_LINK: &str = abi::VIP_LISTENER;
/// The pin of `workload_egress`'s link.
pub(crate) const EGRESS_LINK: &str = abi::WORKLOAD_EGRESS;
/// All programs.
pub(crate) const PROGRAMS: [&str; 9] = [
    abi::VIP_LISTENER,
    abi::WORKLOAD_EGRESS,
    abi::WORKLOAD_INGRESS,
    abi::HOST_CONNECT4,
    abi::HOST_CONNECT6,
    abi::HOST_SENDMSG4,
    abi::HOST_SENDMSG6,
    abi::HOST_BIND4,
    abi::HOST_BIND6,
];
/// Folders below the schema's, in the order in which they are emptied: what attaches first.
pub(crate) const FOLDERS: [&str; 4] = ["links", FILTERS, "programs", "maps"];
/// Those of what is attached.
pub(crate) const ATTACHING: [&str; 2] = ["links", FILTERS];
/// On kernels without TCX: a pin for each filter, and for each `clsact` that was made here.
const FILTERS: &str = "filters";
/// Below the pin directory: what the agent holds.
pub(crate) const LOCK: &str = "lock";
/// Of the folders that are made.
const ROOT_ONLY: u32 = 0o700;
/// The sticky bit, and those that let group and others write.
const STICKY: u32 = 0o1000;
const WRITABLE: u32 = 0o022;

/// `BPF_FS_MAGIC` of linux/magic.h: the type of a BPF file system.
const BPF_FS_MAGIC: FsWord = 0xcafe_4a11;

/// Held while an agent uses the directory; the kernel lets it go when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close it is not enough: a process that is being started has a copy of the descriptor until it runs its program.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Whether a path is in a BPF file system.
///
/// # Errors
/// The kernel's.
pub(crate) fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.f_type == BPF_FS_MAGIC)
}
/// How long a process that was killed may take to let go of the lock.
const LET_GO: Duration = Duration::from_secs(1);
/// Time between two tries to take the lock.
const LOOK: Duration = Duration::from_millis(10);

/// Paths below the pin directory.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
    /// Where the pins of interfaces lie.
    hook: Hook,
}

/// What lies in the schema's directory.
#[derive(Debug)]
pub(crate) struct Found {
    /// Maps and programs that are not there.
    pub(crate) missing: Vec<String>,
    /// Pins of links and filters.
    pub(crate) links: Vec<PathBuf>,
}

impl Pins {
    pub(crate) fn new(root: &Path, hook: Hook) -> Self {
        Self { root: root.to_owned(), hook }
    }

    /// How programs are attached to interfaces: as those that are pinned were, else as asked for.
    pub(crate) fn hook(&self) -> Result<Hook> {
        let there = |folder: &str, path: PathBuf| Ok::<_, Error>(!names(&path.join(folder))?.is_empty());
        Ok(if there(FILTERS, self.schema())? {
            Hook::Clsact
        } else if there("links", self.schema())? && self.link(EGRESS_LINK).exists() {
            Hook::Tcx
        } else {
            self.hook
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of our schema.
    pub(crate) fn schema(&self) -> PathBuf {
        self.root.join(format!("v{}", abi::SCHEMA_VERSION))
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.schema().join("maps").join(name)
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.schema().join("programs").join(name)
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.schema().join("links").join(name)
    }

    pub(crate) fn workload_link(&self, ifindex: u32) -> PathBuf {
        self.interfaces().join(workload_link_name(ifindex))
    }

    pub(crate) fn egress_link(&self, ifindex: u32) -> PathBuf {
        match self.hook {
            Hook::Tcx => self.link(EGRESS_LINK),
            Hook::Clsact => self.interfaces().join(format!("{EGRESS_LINK}-{ifindex}")),
        }
    }

    /// Pins of `workload_egress` for devices that were there before.
    pub(crate) fn other_egress_links(&self, pin: &Path) -> Result<Vec<PathBuf>> {
        let folder = self.interfaces();
        let names = names(&folder)?.into_iter().filter(|name| name.starts_with(EGRESS_LINK));
        Ok(names.map(|name| folder.join(name)).filter(|path| path != pin).collect())
    }

    /// The folder with a pin for each interface.
    fn interfaces(&self) -> PathBuf {
        match self.hook {
            Hook::Tcx => self.schema().join("links"),
            Hook::Clsact => self.schema().join(FILTERS),
        }
    }

    /// Refuses what is no BPF file system and pins of other schemas; changes nothing.
    pub(crate) fn check(&self) -> Result<()> {
        let there = self.root.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        if !is_bpffs(there).map_err(Error::io(format!("looking at {}", there.display())))? {
            return Err(Error::NotBpffs { path: there.to_owned() });
        }
        self.check_owners()?;
        let known = format!("v{}", abi::SCHEMA_VERSION);
        match self.schemas()?.into_iter().find(|name| *name != known) {
            Some(found) => Err(Error::UnknownSchema { path: self.root.clone(), found, known: abi::SCHEMA_VERSION }),
            None => Ok(()),
        }
    }

    /// Refuses folders of the file system on the way to the pins that others can put something into, or in place of.
    fn check_owners(&self) -> Result<()> {
        let mut device = None;
        let below = [self.root.join(LOCK), self.schema()];
        let folders = FOLDERS.map(|folder| self.schema().join(folder));
        for path in below.iter().chain(&folders).map(PathBuf::as_path).chain(self.root.ancestors()) {
            let found = match path.symlink_metadata() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io(format!("looking at {}", path.display()))(error)),
            };
            if *device.get_or_insert(found.dev()) != found.dev() {
                break;
            }
            // In a folder with the sticky bit others cannot touch what is root's, but may add to it: not below ours.
            let inside = path != self.root && path.starts_with(&self.root);
            let open = found.mode() & WRITABLE != 0 && (inside || found.mode() & STICKY == 0);
            // guard: pins-of-root
            if found.uid() != 0 || open || !found.is_dir() {
                let (uid, mode) = (found.uid(), found.mode() & 0o7777);
                return Err(Error::PinsForeign { path: path.to_owned(), uid, mode });
            }
        }
        Ok(())
    }

    /// Names of the schema directories, ours and others.
    pub(crate) fn schemas(&self) -> Result<Vec<String>> {
        Ok(names(&self.root)?.into_iter().filter(|name| is_schema(name)).collect())
    }

    /// Makes the directories.
    pub(crate) fn create(&self) -> Result<()> {
        for folder in FOLDERS.into_iter().filter(|folder| *folder != FILTERS || self.hook == Hook::Clsact) {
            self.make(&self.schema().join(folder))?;
        }
        self.make(&self.root.join(LOCK))
    }

    fn make(&self, path: &Path) -> Result<()> {
        let made = fs::DirBuilder::new().recursive(true).mode(ROOT_ONLY).create(path);
        made.map_err(Error::io(format!("making {}", path.display())))
    }

    /// Takes the directory for this process. `None`: there is no directory, or none that an agent ever took.
    pub(crate) fn lock(&self) -> Result<Option<Lock>> {
        self.check_owners()?;
        let file = match File::open(self.root.join(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("opening {}", self.root.display()))(error)),
        };
        // A process that was killed just now lets go of its lock when its end comes to that.
        let until = Instant::now() + LET_GO;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Lock(file))),
                Err(Errno::WOULDBLOCK) if Instant::now() < until => {}
                Err(Errno::WOULDBLOCK) => return Err(Error::InUse { path: self.root.clone() }),
                Err(error) => return Err(Error::io(format!("locking {}", self.root.display()))(error.into())),
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether this lock is of the directory that the path leads to now.
    pub(crate) fn is_locked_by(&self, lock: &Lock) -> Result<bool> {
        let path = self.root.join(LOCK);
        let what = || format!("looking at {}", path.display());
        let (held, there) =
            (lock.0.metadata().map_err(Error::io(what()))?, path.metadata().map_err(Error::io(what()))?);
        Ok((held.dev(), held.ino()) == (there.dev(), there.ino()))
    }

    /// Looks what is pinned.
    pub(crate) fn found(&self) -> Result<Found> {
        let maps = abi::ALL_MAPS.iter().map(|name| (format!("map {name}"), self.map(name)));
        let programs = PROGRAMS.iter().map(|name| (format!("program {name}"), self.program(name)));
        let missing = maps.chain(programs).filter(|(_, path)| !path.exists()).map(|(name, _)| name).collect();
        let mut links = Vec::new();
        for folder in ATTACHING {
            let folder = self.schema().join(folder);
            links.extend(names(&folder)?.iter().map(|name| folder.join(name)));
        }
        Ok(Found { missing, links })
    }

    /// Indices of the interfaces that `workload_ingress` links are pinned for.
    pub(crate) fn workload_links(&self) -> Result<Vec<u32>> {
        Ok(names(&self.interfaces())?.iter().filter_map(|name| workload_link_ifindex(name)).collect())
    }

    /// Removes the pins of programs and maps of our schema, and the directories that are then empty.
    pub(crate) fn clear(&self) -> Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for path in PROGRAMS.iter().map(|n| self.program(n)).chain(abi::ALL_MAPS.iter().map(|n| self.map(n))) {
            if unlink(&path)? {
                removed.push(path);
            }
        }
        Ok(removed)
    }
}

/// Whether a folder's name is that of a schema, such as `v5`.
pub(crate) fn is_schema(name: &str) -> bool {
    name.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Name of the pin of an interface's link.
pub(crate) fn workload_link_name(ifindex: u32) -> String {
    format!("{}-{ifindex}", abi::WORKLOAD_INGRESS)
}

/// Whether a pin stands for a filter.
pub(crate) fn is_filter(pin: &Path) -> bool {
    pin.parent().and_then(Path::file_name).is_some_and(|folder| folder == FILTERS)
}

/// The reverse of [`workload_link_name`].
pub(crate) fn workload_link_ifindex(name: &str) -> Option<u32> {
    name.strip_prefix(abi::WORKLOAD_INGRESS)?.strip_prefix('-')?.parse().ok()
}

/// Names in a directory; none if it does not exist.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let what = || format!("listing {}", path.display());
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(what())(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(Error::io(what()))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes a pin; whether it was there.
pub(crate) fn unlink(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("removing the pin {}", path.display()))(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn link_names_and_back() {
        assert_eq!(workload_link_ifindex(&workload_link_name(42)), Some(42));
        assert_eq!(workload_link_ifindex("workload_ingress-"), None);
        assert_eq!(workload_link_ifindex("workload_ingress"), None);
        assert_eq!(workload_link_ifindex("workload_egress"), None);
        assert_eq!(workload_link_ifindex("workload_ingress-1x"), None);
    }

    #[test]
    fn a_lock_that_is_let_go_within_the_second_is_waited_for() {
        let place = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).expect("its mode can be set");
        let pins = Pins::new(place.path(), Hook::Tcx);
        pins.make(&place.path().join(LOCK)).expect("a folder");
        let Ok(Some(held)) = pins.lock() else { panic!("it is free") };
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            drop(held);
        });
        let begun = Instant::now();
        let Ok(Some(held)) = pins.lock() else { panic!("it was let go") };
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
        ends.join().expect("it ends");
        // Control: one that is kept is in use.
        assert!(matches!(pins.lock(), Err(Error::InUse { .. })));
        drop(held);
    }

    #[test]
    fn an_ordinary_directory_is_no_bpffs() {
        let place = tempfile::tempdir().expect("a temporary directory");
        assert!(matches!(Pins::new(&place.path().join("x/y"), Hook::Tcx).check(), Err(Error::NotBpffs { .. })));
    }
}
