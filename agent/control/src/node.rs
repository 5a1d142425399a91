//! One node: the loop that sees what changes on the host and in documents, and hands it to the [actuator](crate::actuator), which has
//! it planned and carries the plan out on a thread of its own. The loop waits for neither; questions are answered beside
//! both, from the picture that the actuator publishes.

mod inputs;
mod pace;
mod starting;

use std::sync::Arc;
use std::time::Instant;

use brattice_loader::interfaces::inventory;
use brattice_sources::worker::{Accepted, Update};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use self::inputs::Seen;
use crate::actuator;
use crate::api::calls::STOP_GRACE;
use crate::host_changes::HostChanges;
use crate::notify::Notifier;
use crate::picture::Picture;

pub use starting::{AgentError, run};

/// What the loop owns: what goes in, and the way to what carries it out.
struct Node {
    seen: Seen,
    actuator: actuator::Handle,
}

/// What the loop is woken by, besides the actuator.
struct Wakes<S> {
    documents: mpsc::Receiver<Update>,
    host_changes: Arc<HostChanges>,
    hangups: Signal,
    stop: S,
}

impl Node {
    /// Until a signal says stop, or something ended that the agent cannot be without.
    async fn serve<S: Future<Output = ()> + Unpin>(
        mut self,
        wakes: Wakes<S>,
        ready: impl FnOnce(),
    ) -> Result<(), AgentError> {
        let Wakes { mut documents, host_changes, mut hangups, mut stop } = wakes;
        let mut ready = Some(ready);
        let mut notifier = Notifier::default();
        let (mut pace, mut look) = (pace::Pace::new(Instant::now()), None);
        // A list of the interfaces that is being made, on a thread of its own.
        let mut looking = None;
        // An operator's order that waits until a picture shows it in force. Further documents wait meanwhile.
        let mut waiting: Option<(u64, Accepted)> = None;
        let mut longest = Turns::default();
        let outcome = loop {
            let woken;
            tokio::select! {
                biased;
                () = &mut stop => break Ok(()),
                published = self.actuator.picture.changed() => {
                    woken = Instant::now();
                    if published.is_err() {
                        break Err(AgentError::Ended("plans are not carried out"));
                    }
                    let picture = self.actuator.picture.borrow_and_update().clone();
                    if let Some((_, accepted)) = waiting.take_if(|(update, _)| *update <= picture.updates) {
                        accepted.tell();
                    }
                    if let Some(ready) = ready.take_if(|_| picture.ready) {
                        ready();
                    }
                    // It is published once a second at least: the service manager learns if loop or actuator hang.
                    notifier.tell(&picture.engine.view.borrow());
                    longest.ended(woken);
                    continue;
                }
                update = documents.recv(), if waiting.is_none() => {
                    woken = Instant::now();
                    let Some(update) = update else { break Err(AgentError::Ended("documents are not read")) };
                    waiting = self.seen.follow(update);
                }
                () = host_changes.changed(), if look.is_none() && looking.is_none() => {
                    look = Some(pace.next(Instant::now()));
                    continue;
                }
                () = at(look) => {
                    look = None;
                    looking = Some((Box::pin(inventory()), pace::Began::now(), host_changes.take_table()));
                    continue;
                }
                interfaces = made(&mut looking) => {
                    woken = Instant::now();
                    if let Some((_, began, table)) = looking.take() {
                        self.seen.take_host(interfaces, table).await;
                        pace.looked(began);
                    }
                }
                changed = self.seen.places_change() => {
                    woken = Instant::now();
                    if let Err(e) = changed {
                        warn!(error = %e, "cannot watch changes of cgroups and mounts");
                        tokio::time::sleep(pace::MAX_PAUSE).await;
                    }
                    if !self.seen.look_at_places() {
                        continue;
                    }
                }
                Some(()) = hangups.recv() => {
                    let engine = self.picture().engine.clone();
                    engine.reopen().await;
                    continue;
                }
            }
            self.actuator.observe(self.seen.observed().clone());
            longest.ended(woken);
        };
        Notifier::stopping();
        self.end().await;
        outcome
    }

    /// What the actuator published last.
    fn picture(&self) -> Arc<Picture> {
        self.actuator.picture.borrow().clone()
    }

    async fn end(self) {
        let picture = self.picture();
        self.actuator.end().await;
        if picture.settings.stop_engine_on_exit {
            picture.engine.stop(STOP_GRACE).await;
        }
    }
}

/// The list that is being made.
async fn made<F: Future + Unpin, A, B>(looking: &mut Option<(F, A, B)>) -> F::Output {
    match looking {
        Some((list, ..)) => list.await,
        None => std::future::pending().await,
    }
}

/// The longest turn so far.
#[derive(Default)]
struct Turns(std::time::Duration);

impl Turns {
    fn ended(&mut self, began: Instant) {
        let took = began.elapsed();
        if took > self.0 {
            self.0 = took;
            debug!(?took, "the longest turn of the agent's loop so far");
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
