//! Watches the policies directory for changes.
//!
//! Events only mean "look again": what is there is always read whole. So lost or doubled events do no harm, and
//! editors that rename, ConfigMap swaps and a directory that goes and comes back are all the same case.
//!
//! Watched are real folders, a bounded number of each owner: no symlink is followed, so that no account can have the rest
//! of the file system watched, or use up the watches of others.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;
use tracing::warn;

use super::walk::{ACCOUNTS, MAX_ACCOUNTS, MAX_DEPTH, MAX_ENTRIES, MAX_FOLDERS, MAX_OPERATOR_FOLDERS};
use crate::settle::SETTLE;

/// A change is reported when nothing moved for this long ...
pub const QUIET: Duration = SETTLE;
/// ... or this long after the first event, so that constant writing cannot hold a change back.
pub const LONGEST_DELAY: Duration = Duration::from_millis(400);
/// Looked at again after this long without any event, in case the kernel lost one.
pub const RESCAN: Duration = Duration::from_secs(30);
/// Most events looked at in one go; that there are more is a change.
const MAX_EVENTS: usize = 4_096;

/// A watch on a directory, which need not exist yet.
pub struct Watch {
    directory: PathBuf,
    watches: Option<Watches>,
    /// First and last event since the last report.
    moved: Option<(Instant, Instant)>,
    /// When to look without an event.
    rescan: Instant,
}

/// What the kernel watches.
struct Watches {
    events: AsyncFd<OwnedFd>,
    /// The nearest existing ancestor, and the name in it that leads to the directory.
    beside: Option<(i32, OsString)>,
}

impl Watch {
    /// Starts watching. Within a Tokio runtime.
    pub fn new(directory: &Path) -> Self {
        let mut watch =
            Self { directory: directory.to_owned(), watches: None, moved: None, rescan: Instant::now() + RESCAN };
        watch.renew();
        watch
    }

    /// Waits until the directory should be read again. May be dropped and called again: nothing is lost.
    pub async fn changed(&mut self) {
        loop {
            let until = match self.moved {
                Some((first, last)) => (last + QUIET).min(first + LONGEST_DELAY),
                None => self.rescan,
            };
            if let Ok(()) = tokio::time::timeout_at(until, event(self.watches.as_ref())).await {
                let now = Instant::now();
                let waited = self.moved.is_some() && now >= until;
                self.moved = Some((self.moved.map_or(now, |(first, _)| first), now));
                // A flood of events must not hold the change back.
                if !waited {
                    continue;
                }
            }
            break;
        }
        self.moved = None;
        self.rescan = Instant::now() + RESCAN;
        // Before the directory is read: what changes from now on is an event again.
        self.renew();
    }

    /// Watches the folders that there are now.
    fn renew(&mut self) {
        self.watches = match Watches::new(&self.directory) {
            Ok(watches) => Some(watches),
            Err(e) => {
                warn!(error = %e, "the policies directory cannot be watched; it is read every {} s instead", RESCAN.as_secs());
                None
            }
        };
    }
}

/// Waits for an event that matters.
async fn event(watches: Option<&Watches>) {
    let Some(watches) = watches else { return std::future::pending().await };
    loop {
        match watches.events.readable().await {
            Ok(mut ready) => {
                let (matters, emptied) = watches.take();
                if emptied {
                    ready.clear_ready();
                }
                if matters {
                    return;
                }
            }
            // The runtime ends.
            Err(_) => return std::future::pending().await,
        }
    }
}

impl Watches {
    fn new(directory: &Path) -> std::io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut walk = Walk { inotify: &inotify, error: None };
        // A rename or unmount of the directory itself is an event of its parent.
        let beside = directory.ancestors().zip(directory.ancestors().skip(1)).find_map(|(child, ancestor)| {
            let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
            let watch = inotify::add_watch(&inotify, ancestor, EVENTS | WatchFlags::ONLYDIR).ok()?;
            Some((watch, child.file_name()?.to_owned()))
        });
        if let Ok(root) = rustix::fs::open(directory, FOLDER, Mode::empty()) {
            walk.root(&root);
        }
        if let Some(e) = walk.error {
            warn!(error = %e, directory = %directory.display(), "not everything in the policies directory can be watched; it is read every {} s, too", RESCAN.as_secs());
        }
        // SAFETY: the descriptor is owned by the AsyncFd from here on.
        #[allow(unsafe_code, reason = "tokio leaves it to the caller that the descriptor stays the same")]
        let events = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?;
        Ok(Self { events, beside })
    }

    /// Takes events; whether one of them matters, and whether all are taken.
    fn take(&self) -> (bool, bool) {
        let mut room = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(self.events.get_ref(), &mut room);
        let mut matters = false;
        for _ in 0..MAX_EVENTS {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    matters |= match &self.beside {
                        // Of the ancestor only what leads to the directory matters.
                        Some((watch, leads)) if *watch == event.wd() => name.is_none_or(|name| name == leads),
                        _ => !event.events().contains(ReadFlags::IGNORED),
                    };
                }
                Err(Errno::INTR) => {}
                Err(_) => return (matters, true),
            }
        }
        (true, false)
    }
}

const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A walk over real folders.
struct Walk<'i> {
    inotify: &'i OwnedFd,
    /// The first thing that went wrong.
    error: Option<Errno>,
}

impl Walk<'_> {
    fn root(&mut self, root: &OwnedFd) {
        self.watch(root);
        let mut left = MAX_OPERATOR_FOLDERS;
        for name in folders(root) {
            let Some(child) = open(root, &name) else { continue };
            if name != ACCOUNTS {
                self.folder(&child, 1, &mut left);
                continue;
            }
            self.watch(&child);
            for account in folders(&child).iter().take(MAX_ACCOUNTS).filter_map(|account| open(&child, account)) {
                let mut left = MAX_FOLDERS;
                self.folder(&account, 0, &mut left);
            }
        }
    }

    /// Watches a folder and those in it, as long as the owner's share lasts.
    fn folder(&mut self, folder: &OwnedFd, depth: usize, left: &mut usize) {
        let Some(less) = left.checked_sub(1) else { return };
        *left = less;
        self.watch(folder);
        // What a ConfigMap's links lead to is one folder deeper than they are.
        if depth <= MAX_DEPTH {
            for child in folders(folder).iter().filter_map(|name| open(folder, name)) {
                self.folder(&child, depth + 1, left);
            }
        }
    }

    /// By descriptor, so that nothing else can be put in its place. Before it is listed: what comes later is an event.
    fn watch(&mut self, folder: &OwnedFd) {
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        if let Err(e) = inotify::add_watch(self.inotify, path, EVENTS | WatchFlags::ONLYDIR) {
            self.error.get_or_insert(e);
        }
    }
}

/// The names of the real folders in a folder.
fn folders(folder: &OwnedFd) -> Vec<OsString> {
    let Ok(entries) = Dir::read_from(folder) else { return Vec::new() };
    entries
        .take(MAX_ENTRIES)
        .map_while(Result::ok)
        // Some filesystems do not say what it is; opening tells.
        .filter(|entry| matches!(entry.file_type(), FileType::Directory | FileType::Unknown))
        .map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        .filter(|name| name != "." && name != "..")
        .collect()
}

fn open(folder: &OwnedFd, name: &OsStr) -> Option<OwnedFd> {
    rustix::fs::openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    async fn sees(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn sees_writes_renames_and_configmap_swaps() {
        let root = tempfile::tempdir().unwrap();
        let policies = root.path().join("policies");
        fs::create_dir_all(policies.join("..1")).unwrap();
        std::os::unix::fs::symlink("..1", policies.join("..data")).unwrap();
        let mut watch = Watch::new(&policies);
        fs::write(policies.join("a.yaml"), "a").unwrap();
        assert!(sees(&mut watch).await, "write");
        fs::write(policies.join(".a.yaml.swp"), "b").unwrap();
        assert!(sees(&mut watch).await);
        fs::rename(policies.join(".a.yaml.swp"), policies.join("a.yaml")).unwrap();
        assert!(sees(&mut watch).await, "rename");
        fs::create_dir_all(policies.join("..2")).unwrap();
        std::os::unix::fs::symlink("..2", policies.join("..data_tmp")).unwrap();
        fs::rename(policies.join("..data_tmp"), policies.join("..data")).unwrap();
        assert!(sees(&mut watch).await, "swap");
        fs::create_dir_all(policies.join("accounts/shop")).unwrap();
        assert!(sees(&mut watch).await, "new folder");
        fs::write(policies.join("accounts/shop/x.yaml"), "x").unwrap();
        assert!(sees(&mut watch).await, "file in a new folder");
    }

    #[tokio::test]
    async fn sees_the_directory_go_and_come_back() {
        let root = tempfile::tempdir().unwrap();
        let policies = root.path().join("policies");
        let mut watch = Watch::new(&policies);
        fs::create_dir(&policies).unwrap();
        assert!(sees(&mut watch).await, "creation");
        fs::write(policies.join("a.yaml"), "a").unwrap();
        assert!(sees(&mut watch).await, "write");
        fs::remove_dir_all(&policies).unwrap();
        assert!(sees(&mut watch).await, "removal");
        fs::create_dir(&policies).unwrap();
        assert!(sees(&mut watch).await, "return");
        fs::write(policies.join("a.yaml"), "a").unwrap();
        assert!(sees(&mut watch).await, "write after the return");
    }

    #[tokio::test]
    async fn a_change_survives_a_wait_that_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(root.path());
        fs::write(root.path().join("a.yaml"), "a").unwrap();
        // Given up while it waits for quiet, as a select does.
        assert!(tokio::time::timeout(Duration::from_millis(20), watch.changed()).await.is_err());
        assert!(tokio::time::timeout(Duration::from_millis(500), watch.changed()).await.is_ok());
    }

    #[tokio::test]
    async fn constant_writing_does_not_hold_a_change_back() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(root.path());
        let path = root.path().join("a.yaml");
        let writer = tokio::spawn(async move {
            for n in 0.. {
                fs::write(&path, format!("{n}")).unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(tokio::time::timeout(Duration::from_secs(1), watch.changed()).await.is_ok());
        writer.abort();
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.yaml"), "a").unwrap();
        let mut watch = Watch::new(root.path());
        for _ in 0..10 {
            let _ = fs::read(root.path().join("a.yaml"));
            let _ = fs::read_dir(root.path()).map(Iterator::count);
        }
        assert!(tokio::time::timeout(Duration::from_millis(700), watch.changed()).await.is_err());
    }

    #[tokio::test]
    async fn nothing_outside_is_watched() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path().join("accounts/shop/real")).unwrap();
        fs::create_dir(outside.path().join("inner")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("accounts/shop/out")).unwrap();
        let mut watch = Watch::new(root.path());
        fs::write(outside.path().join("inner/a.yaml"), "a").unwrap();
        fs::write(outside.path().join("a.yaml"), "a").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(700), watch.changed()).await.is_err());
        fs::write(root.path().join("accounts/shop/real/a.yaml"), "a").unwrap();
        assert!(sees(&mut watch).await, "the control");
    }

    #[tokio::test]
    async fn an_account_does_not_use_up_the_watches_of_others() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("accounts/pay/sub")).unwrap();
        for n in 0..MAX_FOLDERS + 100 {
            fs::create_dir_all(root.path().join(format!("accounts/many/{n}"))).unwrap();
        }
        let mut watch = Watch::new(root.path());
        let watches = || {
            let events = watch.watches.as_ref().unwrap().events.as_raw_fd();
            let shown = fs::read_to_string(format!("/proc/self/fdinfo/{events}")).unwrap();
            shown.lines().filter(|line| line.starts_with("inotify ")).count()
        };
        // Its ancestor, the directory, `accounts`, the two folders of `pay`, and the share of `many`.
        assert_eq!(watches(), 1 + 1 + 1 + 2 + MAX_FOLDERS);
        fs::write(root.path().join("accounts/pay/sub/x.yaml"), "x").unwrap();
        assert!(sees(&mut watch).await);
    }
}
