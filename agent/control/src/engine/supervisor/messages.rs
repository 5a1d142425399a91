//! What a connected engine says, and whether it makes sense. What does not, ends the engine.

use std::time::Duration;

use brattice_wire::engine::{FailingTarget, FromEngine, Stats};
use tokio::time::Instant;
use tracing::debug;

use super::{MAX_MESSAGES_PER_SECOND, Supervisor};
use crate::engine::handle::Event;
use crate::engine::link::{LinkError, Received};

/// Most names in [`Stats`].
const MAX_STATS_NAMES: usize = 64;
/// Longest of them, bytes.
pub(super) const MAX_STATS_NAME: usize = 256;
/// Longest reason of a refusal, bytes.
const MAX_REASON: usize = 4_096;

impl Supervisor {
    pub(super) async fn received(&mut self, received: Result<Received, LinkError>) {
        let received = match received {
            Ok(received) => received,
            Err(LinkError::Closed | LinkError::Io(_)) => {
                // Its end is about to be noticed, or it answers a call.
                self.link = None;
                return self.calls.lost();
            }
            Err(e) => return self.kill(&e.to_string()),
        };
        if !self.within_rate() {
            return self.kill("it sends more messages than anybody asked for");
        }
        if !received.descriptors.is_empty() {
            return self.kill("it sent file descriptors that nobody asked for");
        }
        match received.message {
            // guard: engine-claims
            FromEngine::Applied { revision } if revision > 0 && revision <= self.sent => {
                let news = self.applied != revision;
                self.applied = revision;
                self.fill();
                if news {
                    // Before the news: who hears it looks here.
                    self.show();
                    let _ = self.events.send(Event::Applied(revision)).await;
                }
            }
            FromEngine::Refused { revision, reason }
                if revision > self.refused && revision <= self.sent && reason.len() <= MAX_REASON =>
            {
                self.refused = revision;
                let _ = self.events.send(Event::Refused { revision, reason }).await;
            }
            FromEngine::Pong if self.calls.answered() => {}
            FromEngine::AliasesClosed { token } => match self.closes.remove(&token) {
                Some(aliases) => {
                    let _ = self.events.send(Event::Closed(aliases)).await;
                }
                None => self.kill("it closed aliases that nobody asked it to close"),
            },
            FromEngine::Stats(stats) if plausible(&stats) => {
                for waiting in self.stats.drain(..) {
                    let _ = waiting.send(Some(stats.clone()));
                }
            }
            other => {
                debug!(?other, "message");
                self.kill("it sent a message that makes no sense now");
            }
        }
    }

    fn within_rate(&mut self) -> bool {
        if self.messages.0.elapsed() >= Duration::from_secs(1) {
            self.messages = (Instant::now(), 0);
        }
        self.messages.1 += 1;
        self.messages.1 <= MAX_MESSAGES_PER_SECOND
    }
}

fn plausible(stats: &Stats) -> bool {
    stats.limits_hit.len() <= MAX_STATS_NAMES
        && stats.limits_hit.iter().all(|(name, _)| name.len() <= MAX_STATS_NAME)
        && stats.failing.len() <= FailingTarget::MOST
        && stats.failing.iter().all(|failing| failing.why.len() <= MAX_STATS_NAME)
        && stats.sandbox_missing.len() <= MAX_STATS_NAMES
        && stats.sandbox_missing.iter().all(|name| name.len() <= MAX_STATS_NAME)
}
