//! Reading the policies directory beside the loop: files, parsing and linking take as long as documents are many, and the
//! loop answers and follows the kernel meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use brattice_model::{Ipv6Pools, Linked, Owner, VipState};
use brattice_sources::directory::read;
use brattice_sources::linking::Linking;
use brattice_sources::owners::{LastGood, Owners, Terms};
use brattice_wire::api::{Answer, ErrorCode};
use ipnet::Ipv4Net;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::error;

use super::{Node, RETRY, at};
use crate::api::server::Reply;
use crate::settings::pools;
use crate::state::StateDirectory;

/// Parsing takes this long at one reading; what is left then is parsed at the next one, so that what others change
/// meanwhile is seen between.
pub(super) const PARSING: Duration = Duration::from_millis(500);
/// A starting agent waits this long at most for files that were changed just now.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// Documents as they are in force, and what of them is not on disk yet.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) owners: Owners,
    /// Last good documents to be written; none: to be removed.
    pub(super) unkept: BTreeMap<Owner, Option<LastGood>>,
}

/// Everything that a reading needs.
pub(super) struct Job {
    pub(super) policies: PathBuf,
    pub(super) directory: StateDirectory,
    pub(super) kept: Kept,
    pub(super) accepted: Option<Owner>,
    pub(super) vips: VipState,
    pub(super) dns_suffix: String,
    pub(super) vip: Ipv4Net,
    pub(super) alias: Ipv4Net,
    pub(super) ipv6: Option<Ipv6Pools>,
    pub(super) budget: Option<Duration>,
}

/// What a reading led to.
pub(super) struct Reading {
    pub(super) kept: Kept,
    pub(super) linked: Linked,
    /// Whether other documents are in force than before.
    pub(super) changed: bool,
    /// Whose last good documents the disk refused, and why.
    pub(super) refused: BTreeMap<Owner, String>,
    /// When to read again without an event.
    pub(super) again: Option<Duration>,
}

impl Job {
    /// Reads the directory, links what may come into force, and writes that to disk before anybody hears of it.
    pub(super) fn run(self) -> Reading {
        let Self { policies, directory, mut kept, accepted, vips, dns_suffix, vip, alias, ipv6, budget } = self;
        let tree = read(&policies);
        let linking = Linking { vips: &vips, dns_suffix: &dns_suffix, vip, alias, ipv6 };
        let terms = Terms::now(accepted.as_ref(), budget);
        let outcome = kept.owners.apply(tree, &terms, &mut |documents| linking.link(documents));
        let changed = !outcome.changed.is_empty() || !outcome.removed.is_empty();
        kept.unkept.extend(outcome.changed.into_iter().map(|good| (good.owner.clone(), Some(good))));
        kept.unkept.extend(outcome.removed.into_iter().map(|owner| (owner, None)));
        let refused = kept.write(&directory);
        Reading { kept, linked: outcome.linked, changed, refused, again: outcome.again }
    }

    /// At a start: files that were changed just now are waited for.
    pub(super) async fn run_at_start(self) -> Option<Reading> {
        let start = Instant::now();
        let again = |kept| Self {
            policies: self.policies.clone(),
            directory: self.directory.clone(),
            kept,
            accepted: None,
            vips: self.vips.clone(),
            dns_suffix: self.dns_suffix.clone(),
            budget: None,
            ..self
        };
        let mut kept = self.kept.clone();
        let mut changed = false;
        loop {
            let job = again(kept);
            let mut reading = spawn_blocking(move || job.run()).await.ok()?;
            changed |= reading.changed;
            match reading.again {
                Some(again) if start.elapsed() + again <= START_PATIENCE => tokio::time::sleep(again).await,
                _ => {
                    reading.changed = changed;
                    return Some(reading);
                }
            }
            kept = reading.kept;
        }
    }
}

impl Kept {
    /// Writes the last good documents that are not on disk yet; what the disk refuses is tried again.
    fn write(&mut self, directory: &StateDirectory) -> BTreeMap<Owner, String> {
        let mut refused = BTreeMap::new();
        self.unkept.retain(|owner, good| {
            let result = match good {
                Some(good) => directory.save_owner(good),
                None => directory.remove_owner(owner),
            };
            if let Err(e) = &result {
                error!(%owner, error = %e, "the owner's last good documents cannot be written; a restart now would bring back the ones before");
                refused.insert(owner.clone(), directory.refusal(e));
            }
            result.is_err()
        });
        refused
    }
}

/// The reading that is under way, and those to come. One at a time: each starts from what the one before led to.
#[derive(Default)]
pub(super) struct Readings {
    running: Option<JoinHandle<Reading>>,
    /// Whose change the running one accepts, and who wants to know.
    accepting: Option<(Owner, oneshot::Sender<Reply>)>,
    accepts: VecDeque<(Owner, oneshot::Sender<Reply>)>,
    due: Option<Instant>,
}

/// What is next.
pub(super) enum Step {
    /// The directory is to be read.
    Due,
    /// It was read; none: that failed.
    Read(Option<Box<Reading>>),
}

impl Readings {
    /// The directory is to be read soon.
    pub(super) fn want(&mut self, when: Instant) {
        self.due = Some(self.due.map_or(when, |due| due.min(when)));
    }

    /// What is next. May be dropped and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> Step {
        if let Some(running) = &mut self.running {
            let read = running.await;
            self.running = None;
            let read =
                read.inspect_err(|e| error!(error = %e, "reading the documents failed; those in force stay")).ok();
            return Step::Read(read.map(Box::new));
        }
        at(self.due).await;
        Step::Due
    }
}

impl Node {
    /// Takes the next step of the readings.
    pub(super) async fn step(&mut self, step: Step) {
        match step {
            Step::Due => {
                self.readings.due = None;
                self.readings.accepting = self.readings.accepts.pop_front();
                let job = self.job(self.readings.accepting.as_ref().map(|(owner, _)| owner.clone()));
                self.readings.running = Some(spawn_blocking(move || job.run()));
            }
            Step::Read(None) => self.readings.want(Instant::now() + RETRY),
            Step::Read(Some(reading)) => self.follow(*reading).await,
        }
        if !self.readings.accepts.is_empty() {
            self.readings.want(Instant::now());
        }
    }

    fn job(&self, accepted: Option<Owner>) -> Job {
        let options = self.datapath.options();
        Job {
            policies: self.settings.policies.clone(),
            directory: self.directory.clone(),
            kept: Kept { owners: self.owners.clone(), unkept: self.unkept.clone() },
            accepted,
            vips: self.state.vips.clone(),
            dns_suffix: self.settings.dns_suffix.clone(),
            vip: options.vip,
            alias: options.alias,
            ipv6: pools(options.ipv6, self.ipv6 == brattice_loader::Ipv6::On),
            budget: Some(PARSING),
        }
    }

    /// Puts in force what was read. Documents that changed are a new chance for an engine that stays down.
    async fn follow(&mut self, reading: Reading) {
        let Reading { changed, again, .. } = reading;
        self.take_over(reading);
        self.reconcile().await;
        if changed {
            self.engine.revive().await;
        }
        if let Some(again) = again {
            self.readings.want(Instant::now() + again);
        }
        if let Some((owner, answer)) = self.readings.accepting.take() {
            let _ = answer.send(self.accepted(&owner).into());
        }
    }

    /// What is in force from now on.
    pub(super) fn take_over(&mut self, Reading { kept, linked, refused, .. }: Reading) {
        (self.owners, self.unkept) = (kept.owners, kept.unkept);
        self.model = linked.model.into();
        self.state.vips = linked.vips;
        self.warn(&linked.warnings);
        let text = |(owner, why)| format!("the state directory does not keep the documents of {owner}: {why}");
        self.unkept_why = refused.into_iter().map(text).collect();
        self.look_at_places();
    }

    /// Has an owner's change accepted at the next reading.
    pub(super) fn accept(&mut self, owner: Owner, answer: oneshot::Sender<Reply>) {
        if !self.owners.is_known(&owner) {
            let known: Vec<String> = self.owners.views().into_keys().collect();
            let message = format!("there is no owner {owner}; there are {}", known.join(", "));
            let _ = answer.send(Answer::Error { code: ErrorCode::NotFound, message }.into());
            return;
        }
        self.readings.accepts.push_back((owner, answer));
        self.readings.want(Instant::now());
    }

    fn accepted(&self, owner: &Owner) -> Answer {
        match self.owners.views().remove(&owner.to_string()) {
            None => Answer::Done { message: format!("accepted: {owner} has no documents any more") },
            Some(view) if view.state == "in-force" => {
                Answer::Done { message: format!("accepted: revision {} of {owner} is in force", view.revision) }
            }
            Some(view) => Answer::Error {
                code: ErrorCode::Failed,
                message: format!("{owner} is {}: {}", view.state, view.errors.join("; ")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reading that has been going on since a while ends at `go`.
    fn slow(readings: &mut Readings) -> std::sync::mpsc::Sender<()> {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let folder = tempfile::tempdir().unwrap();
        readings.running = Some(spawn_blocking(move || {
            wait.recv_timeout(Duration::from_secs(10)).unwrap();
            Job {
                policies: folder.path().to_owned(),
                directory: StateDirectory::open(&folder.path().join("state")).unwrap(),
                kept: Kept::default(),
                accepted: None,
                vips: VipState::default(),
                dns_suffix: "svc.test".to_owned(),
                vip: "169.254.64.0/20".parse().unwrap(),
                alias: "100.127.0.0/16".parse().unwrap(),
                ipv6: None,
                budget: Some(PARSING),
            }
            .run()
        }));
        go
    }

    #[tokio::test]
    async fn a_loop_turns_while_documents_are_read() {
        let mut readings = Readings::default();
        let go = slow(&mut readings);
        let mut turns = 0;
        let read = loop {
            tokio::select! {
                biased;
                step = readings.next() => break step,
                () = tokio::time::sleep(Duration::from_millis(1)) => turns += 1,
            }
            // Wanted meanwhile: afterwards, and once.
            readings.want(Instant::now());
            if turns == 20 {
                go.send(()).unwrap();
            }
        };
        assert!(matches!(read, Step::Read(Some(_))) && turns >= 20, "{turns}");
        assert!(matches!(readings.next().await, Step::Due));
    }
}
