//! Targets that refuse connections or do not answer: which, since when, and why. The agent shows them to operators.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use brattice_wire::engine::FailingTarget;

/// Most targets remembered.
const MAX_REMEMBERED: usize = 1_024;
/// A target that was not tried for this long is no longer reported.
const FORGOTTEN: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Failed {
    failures: u32,
    since: Instant,
    latest: Instant,
    why: String,
}

/// All of them. While none fails, a connect costs one load.
#[derive(Debug, Default)]
pub struct Failing {
    some: AtomicUsize,
    known: Mutex<HashMap<SocketAddr, Failed>>,
}

impl Failing {
    /// Records the result of a connect to a target.
    pub fn tried<T>(&self, target: SocketAddr, result: &io::Result<T>) {
        match result {
            Ok(_) if self.some.load(Relaxed) == 0 => {}
            Ok(_) => self.change(|known| drop(known.remove(&target))),
            Err(e) => self.change(|known| {
                let now = Instant::now();
                if known.len() >= MAX_REMEMBERED && !known.contains_key(&target) {
                    return;
                }
                let new = || Failed { failures: 0, since: now, latest: now, why: String::new() };
                let failed = known.entry(target).or_insert_with(new);
                failed.failures = failed.failures.saturating_add(1);
                failed.latest = now;
                failed.why = why(e);
            }),
        }
    }

    /// Those that failed recently, longest first.
    pub fn recent(&self) -> Vec<FailingTarget> {
        let now = Instant::now();
        let mut all = Vec::new();
        if self.some.load(Relaxed) == 0 {
            return all;
        }
        self.change(|known| {
            known.retain(|_, failed| now.duration_since(failed.latest) < FORGOTTEN);
            let target = |(target, failed): (&SocketAddr, &Failed)| FailingTarget {
                target: *target,
                failures: failed.failures,
                seconds: now.duration_since(failed.since).as_secs(),
                why: failed.why.clone(),
            };
            all.extend(known.iter().map(target));
        });
        all.sort_by(|a, b| b.seconds.cmp(&a.seconds).then(a.target.cmp(&b.target)));
        all.truncate(FailingTarget::MOST);
        all
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<SocketAddr, Failed>)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        self.some.store(known.len(), Relaxed);
    }
}

fn why(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::TimedOut => "it does not answer (the connect took too long)".to_owned(),
        io::ErrorKind::ConnectionRefused => "it refuses connections".to_owned(),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_is_known_until_it_answers() {
        let failing = Failing::default();
        let (a, b): (SocketAddr, SocketAddr) = ("100.127.0.1:80".parse().unwrap(), "100.127.0.2:80".parse().unwrap());
        let refused = || io::Result::<()>::Err(io::ErrorKind::ConnectionRefused.into());
        failing.tried(a, &Ok(()));
        assert!(failing.recent().is_empty());
        for _ in 0..3 {
            failing.tried(a, &refused());
        }
        failing.tried(b, &io::Result::<()>::Err(io::ErrorKind::TimedOut.into()));
        let shown: Vec<_> = failing.recent().into_iter().map(|f| (f.target, f.failures, f.why)).collect();
        assert_eq!(shown[0], (a, 3, "it refuses connections".to_owned()));
        assert!(shown[1].0 == b && shown[1].2.contains("does not answer"));
        failing.tried(a, &Ok(()));
        assert_eq!(failing.recent().len(), 1);
        failing.change(|known| known.values_mut().for_each(|failed| failed.latest -= FORGOTTEN));
        assert!(failing.recent().is_empty(), "nobody calls it any more");
        assert_eq!(failing.some.load(Relaxed), 0);
    }

    #[test]
    fn many_are_bounded() {
        let failing = Failing::default();
        for n in 0..2 * MAX_REMEMBERED {
            let target = SocketAddr::from(([100, 127, (n >> 8) as u8, n as u8], 80));
            failing.tried(target, &io::Result::<()>::Err(io::ErrorKind::ConnectionRefused.into()));
        }
        assert_eq!(failing.recent().len(), FailingTarget::MOST);
        assert_eq!(failing.some.load(Relaxed), MAX_REMEMBERED);
    }
}
