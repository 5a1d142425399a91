//! Says when the policies directory may have changed.
//!
//! Events only mean "look again": what is there is always read whole. So lost or doubled events do no harm, and
//! editors that rename, ConfigMap swaps and a directory that goes and comes back are all the same case.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

/// A change is reported when nothing moved for this long ...
pub const QUIET: Duration = Duration::from_millis(60);
/// ... or this long after the first event, so that constant writing cannot hold a change back.
pub const LONGEST_DELAY: Duration = Duration::from_millis(400);
/// Looked at again after this long without any event, in case the kernel lost one.
pub const RESCAN: Duration = Duration::from_secs(30);

/// A watch on a directory, which need not exist yet.
pub struct Watch {
    directory: PathBuf,
    events: mpsc::Receiver<()>,
    sender: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
    /// What is watched: (device, inode) of the directory, if it exists.
    watched: Option<(u64, u64)>,
    /// First and last event since the last report.
    moved: Option<(Instant, Instant)>,
    /// When to look without an event.
    rescan: Instant,
}

impl Watch {
    /// Starts watching.
    pub fn new(directory: &Path) -> Self {
        // One place: an event that finds it taken adds nothing.
        let (sender, events) = mpsc::channel(1);
        let mut watch = Self {
            directory: directory.to_owned(),
            events,
            sender,
            watcher: None,
            watched: None,
            moved: None,
            rescan: Instant::now() + RESCAN,
        };
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
            if let Ok(Some(())) = tokio::time::timeout_at(until, self.events.recv()).await {
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
        if identity(&self.directory) != self.watched || self.watcher.is_none() {
            self.renew();
        }
    }

    /// Watches the directory as it is now, and its nearest existing ancestor to see it come back.
    fn renew(&mut self) {
        self.watcher = None;
        let sender = self.sender.clone();
        let directory = self.directory.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            if event.as_ref().is_ok_and(|event| !matters(event, &directory)) {
                return;
            }
            // Full means that a change is announced already.
            let _ = sender.try_send(());
        };
        let mut watcher = match notify::recommended_watcher(handler) {
            Ok(watcher) => watcher,
            Err(e) => {
                warn!(error = %e, "the policies directory cannot be watched; it is read every {} s instead", RESCAN.as_secs());
                return;
            }
        };
        self.watched = identity(&self.directory);
        if self.watched.is_some()
            && let Err(e) = watcher.watch(&self.directory, RecursiveMode::Recursive)
        {
            warn!(error = %e, directory = %self.directory.display(), "not everything in the policies directory can be watched; it is read every {} s, too", RESCAN.as_secs());
        }
        // A rename or unmount of the directory itself is an event of its parent.
        let ancestor = self.directory.ancestors().skip(1).find(|a| a.is_dir() || a.as_os_str().is_empty());
        if let Some(ancestor) = ancestor {
            let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
            if let Err(e) = watcher.watch(ancestor, RecursiveMode::NonRecursive) {
                warn!(error = %e, directory = %ancestor.display(), "cannot be watched");
            }
        }
        self.watcher = Some(watcher);
    }
}

/// Our own reading is an access, too; and of the ancestor only what leads to the directory matters.
fn matters(event: &notify::Event, directory: &Path) -> bool {
    if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
        return false;
    }
    let leads = |path: &PathBuf| path.starts_with(directory) || directory.starts_with(path) || directory.is_relative();
    // Without a path: the kernel lost events.
    event.paths.is_empty() || event.paths.iter().any(leads)
}

fn identity(directory: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(directory).ok()?;
    metadata.is_dir().then(|| (metadata.dev(), metadata.ino()))
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
}
