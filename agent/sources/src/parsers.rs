//! A few threads that parse documents, one owner's at a time.
//!
//! No owner delays others: those whose documents took and will take least come first, an owner has one thread at most,
//! and one thread is kept for small documents. The threads have a lower priority than what serves requests and questions.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use brattice_model::{Diagnostic, Documents, Owner, Severity, Source, parse};
use tracing::{error, warn};

/// Most threads.
const MAX_THREADS: usize = 4;
/// Documents of an owner up to this size are small, bytes: parsed within about 10 ms.
const SMALL: usize = 64 * 1024;
/// Parsing takes about this long per byte, for the order in which owners are parsed.
const PER_BYTE: Duration = Duration::from_nanos(120);
/// Added to the niceness of the threads (setpriority(2)): the engine and the agent's loop go first.
const NICENESS: i32 = 5;

/// Files, and what was read from them: documents, or errors.
pub type Parsed = (Arc<Vec<Source>>, Result<Arc<Documents>, Vec<String>>);

/// The threads. They end with this.
#[derive(Debug)]
pub struct Parsers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to parse.
    work: Condvar,
    /// Something was parsed.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<Job>,
    running: BTreeMap<Owner, Arc<Vec<Source>>>,
    done: BTreeMap<Owner, Parsed>,
    /// How long whose documents were parsed, while some are left to parse.
    spent: BTreeMap<Owner, Duration>,
    ended: bool,
}

#[derive(Debug)]
struct Job {
    owner: Owner,
    sources: Arc<Vec<Source>>,
    bytes: usize,
    /// A reader waits for this one.
    first: bool,
}

impl Parsers {
    /// As many threads as there are cores, two to four.
    pub fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, MAX_THREADS));
        for number in 0..threads {
            let own = shared.clone();
            let thread = std::thread::Builder::new().name(format!("parser-{number}"));
            if let Err(e) = thread.spawn(move || own.run(number == 0)) {
                // The others do its work; without any, documents wait, and the log says why.
                error!(error = %e, "a thread that parses documents cannot be started");
            }
        }
        Self(shared)
    }

    /// Parses what is wanted now; `first` before the others. Returns what is parsed within `patience` (none: all of
    /// it), and whether something is left. What is left goes on, and is returned at a later call: also if its owner's
    /// files have changed by then, or are `unsettled`, as otherwise documents of an owner that changes them again and
    /// again would never come into force. What is returned for `first` is always of the sources that were asked for.
    pub fn parse(
        &self,
        wanted: Vec<(Owner, Vec<Source>)>,
        unsettled: &BTreeSet<Owner>,
        first: Option<&Owner>,
        patience: Option<Duration>,
    ) -> (Vec<(Owner, Parsed)>, bool) {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.0.lock();
        let wanted = state.want(wanted, unsettled, first);
        self.0.work.notify_all();
        while !wanted.iter().all(|(owner, _)| state.done.contains_key(owner)) {
            let Some(deadline) = deadline else {
                state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut left = false;
        let mut parsed = Vec::with_capacity(wanted.len());
        for (owner, sources) in wanted {
            let Some(done) = state.done.remove(&owner) else {
                left = true;
                continue;
            };
            left |= done.0 != sources;
            parsed.push((owner, done));
        }
        if !left {
            state.spent.clear();
        }
        (parsed, left)
    }
}

impl Default for Parsers {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Parsers {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.work.notify_all();
    }
}

impl State {
    /// Takes in all that is wanted now, and forgets what is not wanted any more. Returns whose documents are wanted.
    fn want(
        &mut self,
        wanted: Vec<(Owner, Vec<Source>)>,
        unsettled: &BTreeSet<Owner>,
        first: Option<&Owner>,
    ) -> Vec<(Owner, Arc<Vec<Source>>)> {
        self.queue.clear();
        let mut done = std::mem::take(&mut self.done);
        let mut jobs = Vec::with_capacity(wanted.len());
        for (owner, sources) in wanted {
            let (sources, first) = (Arc::new(sources), first == Some(&owner));
            let fits = |known: &Arc<Vec<Source>>| !first || *known == sources;
            match done.remove(&owner).filter(|(known, _)| fits(known)) {
                Some(parsed) => drop(self.done.insert(owner.clone(), parsed)),
                None if self.running.get(&owner).is_some_and(fits) => {}
                None => {
                    let bytes = sources.iter().map(|source| source.text.len()).sum();
                    self.queue.push(Job { owner: owner.clone(), sources: sources.clone(), bytes, first });
                }
            }
            jobs.push((owner, sources));
        }
        for owner in unsettled {
            if let Some(parsed) = done.remove(owner) {
                jobs.push((owner.clone(), parsed.0.clone()));
                self.done.insert(owner.clone(), parsed);
            } else if let Some(sources) = self.running.get(owner) {
                jobs.push((owner.clone(), sources.clone()));
            }
        }
        jobs
    }

    /// The next job for a thread; `small`: one that takes small documents only.
    fn next(&mut self, small: bool) -> Option<Job> {
        let may = |job: &Job| !self.running.contains_key(&job.owner) && (!small || job.bytes <= SMALL);
        let cost = |job: &Job| {
            // saturates: it is for the order of jobs alone, and such documents are refused unread.
            let bytes = u32::try_from(job.bytes).unwrap_or(u32::MAX);
            (!job.first, self.spent.get(&job.owner).copied().unwrap_or_default() + bytes * PER_BYTE)
        };
        let (at, _) = self.queue.iter().enumerate().filter(|(_, job)| may(job)).min_by_key(|(_, job)| cost(job))?;
        let job = self.queue.swap_remove(at);
        self.running.insert(job.owner.clone(), job.sources.clone());
        Some(job)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, small: bool) {
        if let Err(e) = rustix::process::nice(NICENESS) {
            warn!(error = %e, "the priority of a thread that parses documents cannot be lowered");
        }
        let mut state = self.lock();
        while !state.ended {
            let Some(Job { owner, sources, .. }) = state.next(small) else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let begun = Instant::now();
            let parsed = catch_unwind(AssertUnwindSafe(|| parse(&owner, &sources)));
            let parsed = match parsed {
                Ok(parsed) => parsed.map(Arc::new).map_err(|errors| lines(&errors)),
                Err(_) => Err(vec!["parsing them failed, which is a fault of Brattice; please report it".to_owned()]),
            };
            state = self.lock();
            state.running.remove(&owner);
            *state.spent.entry(owner.clone()).or_default() += begun.elapsed();
            // Not where there are other sources by now.
            if !state.queue.iter().any(|job| job.owner == owner) {
                state.done.insert(owner, (sources, parsed));
            }
            self.done.notify_all();
            self.work.notify_all();
        }
    }
}

/// The errors among findings, a line each.
pub(crate) fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().filter(|d| d.severity == Severity::Error).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner::Account(name.into())
    }

    fn document(owner: &str, padding: usize) -> Vec<Source> {
        let text = format!("# {}\nkind: ServiceNetwork\nmetadata: {{name: net}}\n", "x".repeat(padding));
        vec![Source { path: format!("accounts/{owner}/x.yaml"), text }]
    }

    fn job(name: &str, bytes: usize) -> Job {
        Job { owner: owner(name), sources: Arc::default(), bytes, first: false }
    }

    #[test]
    fn who_took_and_will_take_least_comes_first_and_has_one_thread() {
        let queue = vec![job("large", 1_000_000), job("again", 10), job("small", 1_000), job("middle", SMALL + 1)];
        let mut state = State { queue, ..State::default() };
        state.spent.insert(owner("again"), Duration::from_secs(1));
        assert_eq!(state.next(true).unwrap().owner, owner("small"));
        assert_eq!(state.next(true).unwrap().owner, owner("again"));
        assert!(state.next(true).is_none(), "one thread takes small ones only");
        assert_eq!(state.next(false).unwrap().owner, owner("middle"));
        state.queue.push(job("small", 1));
        assert_eq!(state.next(false).unwrap().owner, owner("large"), "small is being parsed");
        assert!(state.next(false).is_none());
        state.running.remove(&owner("small"));
        assert_eq!(state.next(false).unwrap().owner, owner("small"));
    }

    fn parse(
        parsers: &Parsers,
        wanted: Vec<(Owner, Vec<Source>)>,
        first: Option<&Owner>,
        patience: Option<Duration>,
    ) -> (Vec<(Owner, Parsed)>, bool) {
        parsers.parse(wanted, &BTreeSet::new(), first, patience)
    }

    #[test]
    fn what_is_not_ready_is_left_and_goes_on() {
        let parsers = Parsers::new();
        let wanted = || vec![(owner("a"), document("a", 900_000)), (owner("b"), document("b", 10))];
        let (mut parsed, mut left) = parse(&parsers, wanted(), None, Some(Duration::ZERO));
        let mut names = Vec::new();
        while left {
            names.extend(parsed.into_iter().map(|(owner, _)| owner));
            let rest = wanted().into_iter().filter(|(owner, _)| !names.contains(owner)).collect();
            (parsed, left) = parse(&parsers, rest, None, Some(Duration::from_millis(20)));
        }
        names.extend(parsed.into_iter().map(|(owner, _)| owner));
        names.sort();
        assert_eq!(names, [owner("a"), owner("b")]);
    }

    /// Has them parsed, and returns when a thread has begun.
    fn begin(parsers: &Parsers, owner: &Owner, sources: Vec<Source>) {
        let _ = parse(parsers, vec![(owner.clone(), sources)], None, Some(Duration::ZERO));
        let start = Instant::now();
        while !parsers.0.lock().queue.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(30), "no thread begins");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn who_changes_files_while_they_are_parsed_gets_the_old_and_then_the_new() {
        let parsers = Parsers::new();
        let (a, large) = (owner("a"), || document("a", 900_000));
        // Parsed, and not fetched before the files changed.
        begin(&parsers, &a, large());
        let (parsed, left) = parse(&parsers, vec![(a.clone(), document("a", 1))], None, None);
        assert!(left && *parsed[0].1.0 == large());
        let (parsed, left) = parse(&parsers, vec![(a.clone(), document("a", 1))], None, None);
        assert!(!left && *parsed[0].1.0 == document("a", 1));
        // The operator accepts what is there now.
        begin(&parsers, &a, large());
        let (parsed, left) = parse(&parsers, vec![(a.clone(), document("a", 2))], Some(&a), None);
        assert!(!left && *parsed[0].1.0 == document("a", 2));
        assert!(parse(&parsers, Vec::new(), None, None).0.is_empty());
    }

    #[test]
    fn what_was_parsed_while_its_files_changed_on_is_not_lost() {
        let parsers = Parsers::new();
        let (a, large) = (owner("a"), || document("a", 900_000));
        begin(&parsers, &a, large());
        let (parsed, left) = parsers.parse(Vec::new(), &BTreeSet::from([a]), None, None);
        assert!(!left && *parsed[0].1.0 == large());
    }
}
