//! What a connected engine says, and whether it makes sense. What does not, ends the engine.

use std::time::Duration;

use brattice_wire::engine::{FailingTarget, FromEngine, Stats};
use tokio::time::Instant;
use tracing::debug;

use super::machine::Input;
use super::{MAX_MESSAGES_PER_SECOND, Supervisor};
use crate::engine::handle::Event;
use crate::engine::link::{LinkError, Received};

/// Most names in [`Stats`].
const MAX_STATS_NAMES: usize = 64;
/// Longest of them, bytes.
pub(super) const MAX_STATS_NAME: usize = 256;
/// Longest reason of a refusal, bytes.
const MAX_REASON: usize = 4_096;

/// Messages within the current second.
pub(super) struct Rate {
    since: Instant,
    messages: u32,
}

impl Rate {
    /// None so far.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, messages: 0 }
    }

    /// Whether another message is within the limit.
    fn admits(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        self.messages += 1;
        self.messages <= MAX_MESSAGES_PER_SECOND
    }
}

impl Supervisor {
    pub(super) async fn received(&mut self, received: Result<Received, LinkError>) {
        match self.read(received).await {
            Ok(Some(input)) => self.take_in(input).await,
            Ok(None) => {}
            Err(why) => self.take_in(Input::Misbehaved { why }).await,
        }
    }

    /// What a message means for the machine; an error ends the engine.
    async fn read(&mut self, received: Result<Received, LinkError>) -> Result<Option<Input>, String> {
        let received = match received {
            Ok(received) => received,
            Err(LinkError::Closed | LinkError::Io(_)) => {
                self.link = None;
                return Ok(Some(Input::LinkLost));
            }
            Err(e) => return Err(e.to_string()),
        };
        if !self.rate.admits(Instant::now()) {
            return Err("it sends more messages than the agent requested".to_owned());
        }
        if !received.descriptors.is_empty() {
            return Err("it sent file descriptors that the agent did not request".to_owned());
        }
        match received.message {
            FromEngine::Applied { revision } => Ok(Some(Input::Applied { revision })),
            FromEngine::Refused { revision, reason } if reason.len() <= MAX_REASON => {
                Ok(Some(Input::Refused { revision, reason }))
            }
            FromEngine::Pong => Ok(Some(Input::Pong)),
            FromEngine::AliasesClosed { token } => match self.closes.waiting.remove(&token) {
                Some(aliases) => {
                    let _ = self.events.send(Event::Closed(aliases)).await;
                    Ok(None)
                }
                None => Err("it closed aliases that the agent did not ask it to close".to_owned()),
            },
            FromEngine::Stats(stats) if plausible(&stats) => {
                for waiting in self.stats.drain(..) {
                    let _ = waiting.send(Some(stats.clone()));
                }
                Ok(None)
            }
            other => {
                debug!(?other, "message");
                Err("it sent a message that makes no sense now".to_owned())
            }
        }
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
