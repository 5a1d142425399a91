//! What no event reports and no single look shows: lines that were lost, an engine that is behind, things that are
//! removed again and again, workloads that are gone. Kept for `brattice status` and the metrics.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use brattice_loader::interfaces::Interface;
use brattice_wire::engine::Stats;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::attachments::Decision;
use crate::departed::Departures;
use crate::engine::handle::Asker;

/// Lines of the access log that were lost are spoken of for this long after the latest.
const LOST_SHOWN: Duration = Duration::from_secs(60);
/// What is put back is counted over this time ...
const REPAIRS_WITHIN: Duration = Duration::from_secs(60);
/// ... and this often is more than an accident.
pub(crate) const MANY_REPAIRS: usize = 5;
/// Most repairs remembered.
const MAX_REPAIRS: usize = 1_024;
/// An engine that is behind for this long is reported.
const BEHIND: Duration = Duration::from_secs(5);

/// Lines of the access log that were lost.
#[derive(Clone, Copy, Debug)]
struct Lost {
    /// Of all since the engine's start; none: the engine is an earlier agent's, and has not told yet how many it had lost.
    seen: Option<u64>,
    lines: u64,
    latest: Option<Instant>,
}

impl Default for Lost {
    fn default() -> Self {
        Self { seen: Some(0), lines: 0, latest: None }
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noticed {
    /// The engine's counts, at most a second or two old.
    stats: Arc<Mutex<Option<Stats>>>,
    lost: Lost,
    behind: Option<Instant>,
    repaired: VecDeque<(Instant, String)>,
    departures: Departures,
}

/// Asks the engine for its counts once a second, in a task of its own: an engine that is slow to answer delays nothing else.
pub(crate) async fn ask_engine(asker: Asker, to: Arc<Mutex<Option<Stats>>>) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        let stats = asker.stats().await;
        *to.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}

impl Noticed {
    /// The engine's latest counts.
    pub(crate) fn stats(&self) -> Option<Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the engine's latest counts are put.
    pub(crate) fn stats_cell(&self) -> Arc<Mutex<Option<Stats>>> {
        self.stats.clone()
    }

    /// The engine of an earlier agent was taken over: what it lost so far is not spoken of.
    pub(crate) fn adopted(&mut self) {
        self.lost.seen = None;
    }

    /// The engine has dropped this many lines since its start.
    pub(crate) fn dropped(&mut self, dropped: u64, now: Instant) {
        let lost = &mut self.lost;
        if lost.latest.is_some_and(|latest| now.duration_since(latest) >= LOST_SHOWN) {
            (lost.lines, lost.latest) = (0, None);
        }
        // Fewer: it is another engine.
        let seen = lost.seen.replace(dropped).unwrap_or(dropped);
        let more = if dropped < seen { dropped } else { dropped - seen };
        if more > 0 {
            lost.lines += more;
            lost.latest = Some(now);
        }
    }

    /// How many lines of the access log were lost recently, and how long ago the latest.
    pub(crate) fn lost(&self, now: Instant) -> Option<(u64, Duration)> {
        Some((self.lost.lines, now.duration_since(self.lost.latest?)))
    }

    /// Whether the engine serves another revision than the planned one.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// Since when it does; none: it does not.
    pub(crate) fn set_behind(&mut self, since: Option<Instant>) {
        self.behind = since;
    }

    /// Counts a repair: another process had removed or changed something, and it was put back.
    pub(crate) fn repaired(&mut self, what: &str, now: Instant) {
        if self.repaired.len() >= MAX_REPAIRS {
            self.repaired.pop_front();
        }
        self.repaired.push_back((now, what.to_owned()));
    }

    /// What is put back again and again, and how often within a minute.
    pub(crate) fn fights(&self, now: Instant) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, what) in self.repaired.iter().filter(|(when, _)| now.duration_since(*when) < REPAIRS_WITHIN) {
            *counts.entry(what.as_str()).or_default() += 1;
        }
        counts.retain(|_, count| *count >= MANY_REPAIRS);
        counts
    }

    /// Since when the engine serves another revision than the planned one, if that is long.
    pub(crate) fn behind(&self, now: Instant) -> Option<Duration> {
        self.behind.map(|since| now.duration_since(since)).filter(|long| *long >= BEHIND)
    }

    /// Workloads that are not there any more.
    pub(crate) fn departures(&self) -> &Departures {
        &self.departures
    }

    /// Takes in what was decided before and now, and which interfaces there are.
    pub(crate) fn decided(&mut self, before: &[Decision], now: &[Decision], interfaces: &[Interface], since: Instant) {
        for renamed in self.departures.decided(before, now, interfaces, since) {
            warn!("{}; {}", renamed.text(), renamed.remedy());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn lost_lines_are_told_for_a_minute() {
        let (mut noticed, now) = (Noticed::default(), Instant::now());
        noticed.adopted();
        noticed.dropped(100, now);
        assert_eq!(noticed.lost(now), None, "an earlier agent's");
        noticed.dropped(103, now + SECOND);
        noticed.dropped(104, now + 2 * SECOND);
        noticed.dropped(104, now + 3 * SECOND);
        assert_eq!(noticed.lost(now + 5 * SECOND), Some((4, 3 * SECOND)));
        // Another engine.
        noticed.dropped(2, now + 6 * SECOND);
        assert_eq!(noticed.lost(now + 6 * SECOND), Some((6, Duration::ZERO)));
        noticed.dropped(2, now + 70 * SECOND);
        assert_eq!(noticed.lost(now + 70 * SECOND), None);
        // Of an engine that was started by this agent all count, also those before it was asked first.
        let mut noticed = Noticed::default();
        noticed.dropped(7, now);
        assert_eq!(noticed.lost(now), Some((7, Duration::ZERO)));
    }

    #[test]
    fn what_is_put_back_again_and_again_is_a_fight() {
        let (mut noticed, now) = (Noticed::default(), Instant::now());
        for n in 0..5 {
            noticed.repaired("table", now + n * SECOND);
        }
        for n in 0..5 {
            noticed.repaired("routes", now + n * 15 * SECOND);
        }
        assert_eq!(noticed.fights(now + 59 * SECOND), BTreeMap::from([("routes", 5), ("table", 5)]));
        assert!(noticed.fights(now + 60 * SECOND).is_empty());
    }
}
