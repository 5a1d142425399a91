//! An engine that the kernel ended for lack of memory (OOM): no crash loop. Its successor has smaller budgets instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// Budgets are halved so often at most: to a sixteenth.
pub(super) const MOST_HALVINGS: u32 = 4;
/// After so long without another such end, budgets are whole again for the next engine.
pub(super) const FORGIVEN: Duration = Duration::from_secs(3600);

/// Where the kernel counts the processes of a cgroup that it ended for lack of memory.
#[derive(Debug, Default)]
pub(super) struct Kills {
    file: Option<PathBuf>,
    seen: u64,
}

impl Kills {
    /// For a process; `file` overrides what /proc says of it.
    pub(super) fn watch(&mut self, pid: u32, file: Option<&Path>) {
        self.file = file.map(Path::to_owned).or_else(|| events_of(pid));
        self.seen = self.count();
    }

    /// Whether there were more since this was asked last.
    pub(super) fn more(&mut self) -> bool {
        let count = self.count();
        let more = count > self.seen;
        self.seen = count;
        more
    }

    fn count(&self) -> u64 {
        let text = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

/// `memory.events` (cgroup v2) or `memory.oom_control` (v1) of a process' cgroup; both have a line `oom_kill N`.
fn events_of(pid: u32) -> Option<PathBuf> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let candidates = cgroups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match controllers {
            "" => vec![
                format!("/sys/fs/cgroup{path}/memory.events"),
                format!("/sys/fs/cgroup/unified{path}/memory.events"),
            ],
            "memory" => vec![format!("/sys/fs/cgroup/memory{path}/memory.oom_control")],
            _ => Vec::new(),
        }
    });
    candidates.map(PathBuf::from).find(|file| file.exists())
}

/// What the kernel's ends for lack of memory lead to. Pure.
#[derive(Debug, Default)]
pub(super) struct Budget {
    halvings: u32,
    /// When the latest was; none: it is forgiven.
    latest: Option<Instant>,
    kills: u64,
    why: Option<String>,
}

impl Budget {
    /// How often the budgets of the next engine are halved.
    pub(super) fn halvings(&self) -> u32 {
        self.halvings
    }

    /// Engines that the kernel ended for lack of memory.
    pub(super) fn kills(&self) -> u64 {
        self.kills
    }

    /// What follows of that, for as long as it does.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// An engine was ended for lack of memory. Returns what follows, for people.
    pub(super) fn halve(&mut self, now: Instant) -> String {
        let fresh = self.latest.is_some_and(|latest| now.duration_since(latest) < FORGIVEN);
        self.latest = Some(now);
        self.halvings = if fresh { (self.halvings + 1).min(MOST_HALVINGS) } else { 1 };
        self.kills += 1;
        let part = 1 << self.halvings;
        let why = format!(
            "the kernel ended it for want of memory; traffic may have 1/{part} of the usual until an hour has passed \
             without. Raise MemoryMax= of the unit, or see in `brattice status` which limit is hit"
        );
        self.why = Some(why.clone());
        why
    }

    /// An engine of an earlier agent has smaller budgets already.
    pub(super) fn inherit(&mut self, halvings: u32, now: Instant) {
        if halvings > self.halvings {
            self.halvings = halvings;
            self.latest = Some(now);
        }
    }

    /// Forgets ends for lack of memory that are long ago; an engine that runs keeps its budgets.
    pub(super) fn forgive(&mut self, now: Instant) {
        if self.latest.is_some_and(|latest| now.duration_since(latest) >= FORGIVEN) {
            (self.latest, self.halvings, self.why) = (None, 0, None);
        }
    }
}
