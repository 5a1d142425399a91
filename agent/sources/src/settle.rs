//! Whether an owner's files are written to the end. Pure: no clock, no file.
//!
//! Files of an owner belong together, so they are taken together: not while one of them is open for writing, and not
//! before nothing of them has changed for [`SETTLE`]. No other owner waits for that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use brattice_model::Owner;

/// Files are taken when none of an owner changed for this long ...
pub const SETTLE: Duration = Duration::from_millis(150);
/// ... or this long after the first change that was seen, if none is open for writing: an owner that writes whole files
/// again and again cannot keep them from coming into force.
pub const LONGEST: Duration = Duration::from_secs(2);
/// As [`SETTLE`], where it is not known whether a file is open for writing (NFS, or an agent without `CAP_LEASE`).
pub const SETTLE_UNASKED: Duration = Duration::from_secs(3);
/// As [`LONGEST`], likewise.
pub const LONGEST_UNASKED: Duration = Duration::from_secs(15);
/// What changed that long ago by the clock is old, likewise: clocks of file servers differ by less.
pub const OLD: Duration = Duration::from_secs(60);
/// A file that is open for writing is reported after this long.
pub const SHOWN: Duration = Duration::from_secs(1);
/// Most files named that are open for writing.
pub const MAX_OPEN: usize = 4;

/// What an owner's files looked like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// A hash of names, inodes, sizes and times of all files and folders.
    pub stamp: u64,
    /// The latest change of any of them; none: long ago.
    pub changed: Option<SystemTime>,
    /// Files that are open for writing, at most [`MAX_OPEN`].
    pub open: Vec<String>,
    /// Whether it is not known of some file whether it is open.
    pub unasked: bool,
}

/// What is to be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They may be taken.
    Settled,
    /// They wait.
    Wait {
        /// When to look again without an event.
        again: Option<Duration>,
        /// Why, if that is reported.
        why: Option<String>,
    },
}

#[derive(Clone, Debug)]
struct Seen {
    stamp: u64,
    /// Since when it looks like this.
    since: Instant,
    /// Since when they wait.
    waiting: Option<Instant>,
}

/// All owners' files.
#[derive(Clone, Debug, Default)]
pub struct Settling {
    seen: BTreeMap<Owner, Seen>,
}

impl Settling {
    /// Judges a look at `now`, by the clock `clock`.
    pub fn judge(&mut self, owner: &Owner, look: &Look, now: Instant, clock: SystemTime) -> Verdict {
        let seen = self.seen.entry(owner.clone()).or_insert(Seen { stamp: look.stamp, since: now, waiting: None });
        if seen.stamp != look.stamp {
            (seen.stamp, seen.since) = (look.stamp, now);
        }
        let waits = now.duration_since(*seen.waiting.get_or_insert(now));
        if !look.open.is_empty() {
            // The close is an event.
            let again = (waits < SHOWN).then(|| SHOWN - waits);
            return Verdict::Wait { again, why: again.is_none().then(|| open_text(owner, &look.open)) };
        }
        let (settle, longest, old) =
            if look.unasked { (SETTLE_UNASKED, LONGEST_UNASKED, OLD) } else { (SETTLE, LONGEST, SETTLE) };
        // A time in the future means nothing: a clock was set back.
        let is_old = look.changed.is_none_or(|changed| clock.duration_since(changed).is_ok_and(|age| age >= old));
        let quiet = now.duration_since(seen.since);
        if is_old || quiet >= settle || waits >= longest {
            seen.waiting = None;
            return Verdict::Settled;
        }
        Verdict::Wait { again: Some((settle - quiet).min(longest - waits)), why: None }
    }

    /// The owner's files need not wait.
    pub fn forget(&mut self, owner: &Owner) {
        self.seen.remove(owner);
    }
}

fn open_text(owner: &Owner, open: &[String]) -> String {
    let (is, them) = if open.len() == 1 { ("is", "it") } else { ("are", "them") };
    format!(
        "{} {is} open for writing, so what is on disk waits until the writer closes {them}; `fuser -v` shows who writes, \
         `brattice accept {owner}` takes the files as they are",
        open.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Scene {
        settling: Settling,
        start: Instant,
        clock: SystemTime,
    }

    impl Scene {
        fn new() -> Self {
            let clock = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            Self { settling: Settling::default(), start: Instant::now(), clock }
        }

        /// Files that look like `stamp`, and changed at `changed`, judged at `at`, in ms.
        fn judge(&mut self, at: u32, stamp: u64, changed: u32, open: bool, unasked: bool) -> Verdict {
            let open = if open { vec!["a.yaml".to_owned()] } else { Vec::new() };
            let look = Look { stamp, changed: Some(self.clock + changed * MS), open, unasked };
            self.settling.judge(&Owner::Operator, &look, self.start + at * MS, self.clock + at * MS)
        }
    }

    fn again(ms: u32) -> Verdict {
        Verdict::Wait { again: Some(ms * MS), why: None }
    }

    #[test]
    fn old_files_are_taken_at_once_and_young_ones_when_they_are_old() {
        let mut scene = Scene::new();
        assert_eq!(scene.judge(1000, 1, 0, false, false), Verdict::Settled);
        assert_eq!(scene.judge(1000, 2, 990, false, false), again(150));
        assert_eq!(scene.judge(1140, 2, 990, false, false), Verdict::Settled);
        // Another one of the set changed meanwhile.
        assert_eq!(scene.judge(2000, 3, 1990, false, false), again(150));
        assert_eq!(scene.judge(2100, 4, 2090, false, false), again(150));
        assert_eq!(scene.judge(2240, 4, 2090, false, false), Verdict::Settled);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_keep_them_waiting() {
        let mut scene = Scene::new();
        assert_eq!(scene.judge(0, 1, 900_000, false, false), again(150));
        assert_eq!(scene.judge(150, 1, 900_000, false, false), Verdict::Settled);
    }

    #[test]
    fn who_writes_whole_files_without_end_is_served_and_who_never_closes_is_not() {
        let mut scene = Scene::new();
        let settled = (0..100).find(|n| scene.judge(n * 100, u64::from(*n), n * 100, false, false) == Verdict::Settled);
        assert_eq!(settled, Some(20), "after two seconds");
        let mut scene = Scene::new();
        assert_eq!(scene.judge(0, 1, 0, true, false), again(1000));
        assert_eq!(scene.judge(400, 1, 0, true, false), again(600));
        for at in [1000, 100_000, 10_000_000] {
            let Verdict::Wait { again: None, why: Some(why) } = scene.judge(at, 1, 0, true, false) else {
                panic!("not shown at {at}")
            };
            assert!(why.contains("a.yaml is open for writing") && why.contains("brattice accept operator"), "{why}");
        }
        assert_eq!(scene.judge(10_000_001, 1, 0, false, false), Verdict::Settled, "closed");
    }

    #[test]
    fn without_notice_of_writers_files_wait_longer() {
        let mut scene = Scene::new();
        assert_eq!(scene.judge(1000, 1, 0, false, true), again(3000));
        assert_eq!(scene.judge(3999, 1, 0, false, true), again(1));
        assert_eq!(scene.judge(4000, 1, 0, false, true), Verdict::Settled);
        assert_eq!(scene.judge(70_000, 2, 5000, false, true), Verdict::Settled, "a minute old");
    }
}
