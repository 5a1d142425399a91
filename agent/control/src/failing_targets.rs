//! Targets that began to fail, and those that serve again: a line of the log for each change, not for each failed request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use brattice_wire::engine::FailingTarget;

/// A target that failed as often is reported: one failure is a restart.
pub(crate) const MANY_FAILURES: u32 = 2;
/// The engine forgets a failing target that is not tried for 60 s. One that vanishes after almost as long was forgotten.
const UNTRIED: Duration = Duration::from_secs(55);

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It cannot be connected to, and why.
    Fails(String),
    /// It can be, again.
    Serves,
    /// Nothing was sent to it for a minute: whether it serves is not known.
    Untried,
}

/// A target that was reported as failing.
#[derive(Clone, Debug)]
struct Reported {
    failures: u32,
    /// When it was seen to fail last.
    latest: Instant,
}

/// Those that were reported, of one engine.
#[derive(Debug, Default)]
pub(crate) struct FailingTargets {
    engine: Option<u32>,
    reported: BTreeMap<SocketAddr, Reported>,
}

impl FailingTargets {
    /// Takes in what this engine (by its process id) counts now. Returns what changed.
    pub(crate) fn seen(
        &mut self,
        engine: Option<u32>,
        failing: &[FailingTarget],
        now: Instant,
    ) -> Vec<(SocketAddr, Change)> {
        if self.engine != engine {
            // It begins to count anew.
            *self = Self { engine, reported: BTreeMap::new() };
        }
        let mut changes = Vec::new();
        for target in failing.iter().filter(|target| target.failures >= MANY_FAILURES) {
            let known = self.reported.get_mut(&target.target);
            let failures = target.failures;
            match known {
                Some(known) if known.failures == failures => {}
                Some(known) => *known = Reported { failures, latest: now },
                None => {
                    self.reported.insert(target.target, Reported { failures, latest: now });
                    changes.push((target.target, Change::Fails(target.why.clone())));
                }
            }
        }
        // Of a list that is full, some were left out.
        if failing.len() < FailingTarget::MOST {
            self.reported.retain(|target, known| {
                let fails = failing.iter().any(|own| own.target == *target);
                if !fails {
                    let untried = now.duration_since(known.latest) >= UNTRIED;
                    changes.push((*target, if untried { Change::Untried } else { Change::Serves }));
                }
                fails
            });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn target(number: u16, failures: u32) -> FailingTarget {
        let target = SocketAddr::from(([100, 127, 0, 1], number));
        FailingTarget { target, failures, seconds: 0, why: "it refuses connections".to_owned() }
    }

    #[test]
    fn each_change_is_told_once() {
        let (mut targets, now) = (FailingTargets::default(), Instant::now());
        let (a, b) = (target(1, 2), target(2, 2));
        assert_eq!(targets.seen(Some(7), &[target(1, 1)], now), [], "one failure is a restart");
        let fails = |own: &FailingTarget| (own.target, Change::Fails("it refuses connections".to_owned()));
        assert_eq!(targets.seen(Some(7), &[a.clone(), b.clone()], now), [fails(&a), fails(&b)]);
        assert_eq!(targets.seen(Some(7), &[target(1, 9), b.clone()], now + 50 * SECOND), []);
        // One serves; of the other nothing was heard for a minute.
        let now = now + 60 * SECOND;
        assert_eq!(targets.seen(Some(7), &[], now), [(a.target, Change::Serves), (b.target, Change::Untried)]);
        assert_eq!(targets.seen(Some(7), &[], now), []);
        assert_eq!(targets.seen(Some(7), std::slice::from_ref(&a), now), [fails(&a)], "it fails anew");
        assert_eq!(targets.seen(Some(8), &[], now), [], "another engine has not tried it yet");
    }

    #[test]
    fn a_target_that_a_full_list_leaves_out_does_not_serve_for_that() {
        let (mut targets, now) = (FailingTargets::default(), Instant::now());
        let many = |from: u16| (from..).take(FailingTarget::MOST).map(|number| target(number, 2)).collect::<Vec<_>>();
        assert_eq!(targets.seen(Some(7), &many(1), now).len(), FailingTarget::MOST);
        assert_eq!(targets.seen(Some(7), &many(2), now).len(), 1);
        assert_eq!(targets.seen(Some(7), &many(2)[1..], now).len(), 2, "control: this list is whole");
    }
}
