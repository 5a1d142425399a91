//! Events when a workload's namespace may have moved.
//!
//! Cgroups that come, go, get their first process or lose their last one, and processes that are written into one tell by
//! inotify; namespaces that are mounted, by `mountinfo`. What causes no event (a process born into a cgroup that has
//! others, or moved out of one that keeps others, or ended while its namespace lives on) is looked for every
//! [`LOOK_AGAIN`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::inotify::{ReadFlags, WatchFlags, add_watch, remove_watch};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::places::{self, Asked, Places, Processes};
use crate::readiness::{Owned, readable, urgent};
use crate::{Error, Result, cgroups, inotify};

/// How often changes without an event are polled for, where documents ask for it.
pub const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Most folders of the cgroup hierarchy that are watched.
const MAX_WATCHED: usize = 4_096;
/// The file of a cgroup that processes are written into.
const TELLING: &str = "cgroup.procs";

/// Listens, and looks.
pub struct PlaceWatch {
    inotify: AsyncFd<Owned<OwnedFd>>,
    mounts: AsyncFd<Owned<File>>,
    watched: BTreeMap<i32, PathBuf>,
    paths: BTreeSet<String>,
    fingerprint: Vec<Option<(u64, u64)>>,
    processes: Processes,
    again: Option<Instant>,
}

impl std::fmt::Debug for PlaceWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlaceWatch").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl PlaceWatch {
    /// Listens to nothing yet.
    ///
    /// # Errors
    /// When the kernel refuses a watch; outside a runtime.
    pub fn open() -> Result<Self> {
        let inotify = inotify::open().map_err(places::watching)?;
        let mounts = File::open("/proc/self/mountinfo").map_err(Error::io("opening /proc/self/mountinfo"))?;
        Ok(Self {
            inotify: readable(inotify).map_err(Error::io("waiting for changes of cgroups"))?,
            mounts: urgent(mounts).map_err(Error::io("waiting for mounts"))?,
            watched: BTreeMap::new(),
            paths: BTreeSet::new(),
            fingerprint: Vec::new(),
            processes: Processes::default(),
            again: None,
        })
    }

    /// Looks where namespaces are, and listens to what may change that. `paired`: those with the other end of an
    /// interface here.
    ///
    /// # Errors
    /// When this node's own namespace cannot be asked for.
    pub fn look(&mut self, asked: &Asked, paired: &BTreeSet<u64>) -> Result<Places> {
        let mut found = Places::default();
        self.fingerprint = places::fingerprint(&asked.paths);
        self.paths.clone_from(&asked.paths);
        places::resolve(asked, &mut self.processes, &mut found)?;
        let mut folders = Vec::new();
        match cgroups::mounted() {
            Some(root) => places::walk(asked, &root, &mut found, |folder| folders.push(folder.to_owned())),
            None if !asked.prefixes.is_empty() => {
                found.problem =
                    Some("no cgroup v2 hierarchy is mounted, so namespaceCgroup and cgroup select nothing".to_owned());
            }
            None => {}
        }
        if !self.watch(&folders) {
            found.problem.get_or_insert_with(|| {
                format!(
                    "more cgroups than can be watched ({MAX_WATCHED}) lie where namespaceCgroup and cgroup lead; those beyond are looked at every {} s",
                    LOOK_AGAIN.as_secs()
                )
            });
        }
        places::look_inside(asked, paired, &mut found);
        let blind = !asked.prefixes.is_empty() || self.processes.any();
        self.again = blind.then(|| Instant::now() + LOOK_AGAIN);
        Ok(found)
    }

    /// Watches these folders and no others; whether there was room for all.
    fn watch(&mut self, folders: &[PathBuf]) -> bool {
        let inotify = self.inotify.get_ref();
        let folder_flags =
            WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MODIFY | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        // The kernel reports events of this file to its folder only while its inode is held in memory, as a watch does.
        let wanted: BTreeMap<PathBuf, WatchFlags> = (folders.iter().take(MAX_WATCHED))
            .flat_map(|folder| [(folder.clone(), folder_flags), (folder.join("cgroup.events"), WatchFlags::MODIFY)])
            .collect();
        self.watched.retain(|watch, path| {
            let keep = wanted.contains_key(path);
            if !keep {
                // Gone with its folder already, perhaps.
                let _ = remove_watch(inotify, *watch);
            }
            keep
        });
        let there: BTreeSet<PathBuf> = self.watched.values().cloned().collect();
        let mut room = folders.len() <= MAX_WATCHED;
        for (path, flags) in wanted.into_iter().filter(|(path, _)| !there.contains(path)) {
            match add_watch(inotify, path.as_path(), flags) {
                Ok(watch) => drop(self.watched.insert(watch, path)),
                Err(Errno::NOENT) => {}
                Err(_) => room = false,
            }
        }
        room
    }

    /// Waits until it is worth to [`Self::look`] again.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn changed(&mut self) -> Result<()> {
        loop {
            let again = self.again;
            let later = async move {
                match again {
                    Some(when) => sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.inotify.readable() => {
                    ready.map_err(Error::io("waiting for changes of cgroups"))?.clear_ready();
                    if self.drain() {
                        return Ok(());
                    }
                }
                ready = self.mounts.ready(Interest::PRIORITY) => {
                    ready.map_err(Error::io("waiting for mounts"))?.clear_ready();
                    if places::fingerprint(&self.paths) != self.fingerprint {
                        return Ok(());
                    }
                }
                () = later => {
                    self.again = None;
                    return Ok(());
                }
            }
        }
    }

    /// Takes what is there now; whether any of it counts.
    fn drain(&mut self) -> bool {
        let mut changed = false;
        // An error is a lost watch: looking again renews it.
        for event in inotify::events(self.inotify.get_ref()).unwrap_or_default() {
            if event.what.contains(ReadFlags::IGNORED) {
                self.watched.remove(&event.watch);
            }
            let file = event.what.contains(ReadFlags::MODIFY);
            // Without a name: of a file that is watched itself.
            let telling = event.name.as_deref().is_none_or(|name| name.to_str() == Some(TELLING));
            changed |= !file || telling;
        }
        changed
    }
}
