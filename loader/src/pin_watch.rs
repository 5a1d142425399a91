//! Events of removed pins: one by one, with their directory, or with their file system.
//!
//! What is pinned is held open as well, so nothing is detached by that; but the next agent would find nothing to adopt.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::inotify::{ReadFlags, WatchFlags, add_watch};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::hook::Hook;
use crate::pins::{FOLDERS, Pins};
use crate::readiness::{Owned, readable, urgent};
use crate::{Error, Result, inotify};

/// Events that an entry, or the directory itself, is gone.
const GOING: WatchFlags = WatchFlags::DELETE
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Events that one came.
const COMING: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO);

/// Listens to the pin directory and to the mounts it lies on.
pub struct PinWatch {
    pins: Pins,
    inotify: AsyncFd<Owned<OwnedFd>>,
    mounts: AsyncFd<Owned<File>>,
    /// Watched directories; with the one name in them that counts, where the directory is not Brattice's.
    watched: BTreeMap<i32, Option<OsString>>,
    /// Device and inode of what the pin directory's path leads to.
    root: Option<(u64, u64)>,
}

impl std::fmt::Debug for PinWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PinWatch").field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl PinWatch {
    /// Starts to listen to the pin directory `bpffs`.
    ///
    /// # Errors
    /// When the kernel refuses a watch; outside a runtime.
    pub fn open(bpffs: &Path) -> Result<Self> {
        let inotify = inotify::open().map_err(|e| Error::io("making an inotify watch")(e.into()))?;
        let mounts = File::open("/proc/self/mountinfo").map_err(Error::io("opening /proc/self/mountinfo"))?;
        let mut watch = Self {
            // All folders are watched, whichever way programs are attached.
            pins: Pins::new(bpffs, Hook::of_this_kernel()),
            inotify: readable(inotify).map_err(Error::io("waiting for changes of the pins"))?,
            mounts: urgent(mounts).map_err(Error::io("waiting for mounts"))?,
            watched: BTreeMap::new(),
            root: root(bpffs),
        };
        watch.rewatch()?;
        Ok(watch)
    }

    /// Waits until a pin is gone, or the directory's path leads elsewhere. What is put back is watched again.
    ///
    /// # Errors
    /// When the runtime shuts down or the kernel refuses a watch.
    pub async fn changed(&mut self) -> Result<()> {
        loop {
            let changed = tokio::select! {
                ready = self.inotify.readable() => {
                    ready.map_err(Error::io("waiting for changes of the pins"))?.clear_ready();
                    self.drain()?
                }
                ready = self.mounts.ready(Interest::PRIORITY) => {
                    ready.map_err(Error::io("waiting for mounts"))?.clear_ready();
                    // Mounts come and go with every container; this one seldom does.
                    let now = root(self.pins.root());
                    let moved = now != self.root;
                    self.root = now;
                    moved
                }
            };
            // A directory that is watched only now may have lost something before.
            if self.rewatch()? | changed {
                return Ok(());
            }
        }
    }

    /// Takes what is there now; whether any of it counts.
    fn drain(&mut self) -> Result<bool> {
        let mut changed = false;
        let events = inotify::events(self.inotify.get_ref());
        for event in events.map_err(|e| Error::io("reading changes of the pins")(e.into()))? {
            let only = self.watched.get(&event.watch).cloned().flatten();
            if event.what.contains(ReadFlags::IGNORED) {
                self.watched.remove(&event.watch);
            }
            changed |= only.is_none() || only == event.name;
        }
        Ok(changed)
    }

    /// Watches what is there and not watched yet; whether there was any.
    fn rewatch(&mut self) -> Result<bool> {
        let root = self.pins.root().to_owned();
        let mut places = Vec::new();
        if let (Some(parent), Some(name)) = (root.parent(), root.file_name()) {
            places.push((parent.to_owned(), GOING.union(COMING), Some(name.to_owned())));
        }
        let schema = self.pins.schema();
        let folders: Vec<_> = FOLDERS.iter().map(|folder| (schema.join(folder), GOING, None)).collect();
        places.extend([(root, GOING.union(COMING), None), (schema, GOING.union(COMING), None)]);
        places.extend(folders);
        let mut any = false;
        for (path, flags, only) in places {
            match add_watch(self.inotify.get_ref(), &path, flags) {
                Ok(watch) => any |= self.watched.insert(watch, only).is_none(),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(Error::io(format!("watching {}", path.display()))(error.into())),
            }
        }
        Ok(any)
    }
}

fn root(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}
