//! Another engine because somebody asks for it: an operator, or documents that the next one may not stumble over.

use std::time::Duration;

use brattice_wire::engine::ToEngine;
use tokio::time::Instant;
use tracing::info;

use super::{Supervisor, grace_ms};

/// An engine that is replaced is ended this long after the time it has to finish.
const LATE: Duration = Duration::from_millis(500);

impl Supervisor {
    /// Starts an engine that stays down; nothing otherwise.
    pub(super) fn revive(&mut self, why: &str) {
        let gave_up = self.view.send_if_modified(|view| view.given_up.take().is_some());
        if gave_up && self.stopping.is_none() {
            info!("the engine is started again: {why}");
            self.failures.forget();
            self.start_at = Some(Instant::now());
        }
    }

    /// Replaces the engine: it finishes what is in flight, what comes meanwhile waits for its successor.
    pub(super) fn restart(&mut self, grace: Duration) {
        if self.process.is_none() {
            // Between two tries: the next one is now.
            if self.adoption.is_none() && self.start_at.is_some() {
                self.failures.forget();
                self.start_at = Some(Instant::now());
            }
            return self.revive("an operator restarts it");
        }
        if self.restarting.is_none() && self.stopping.is_none() {
            info!("an operator restarts the engine");
            self.failures.forget();
            self.restarting = Some(Instant::now() + grace + LATE);
            if self.link.is_none() {
                return self.kill("it is restarted while it is not connected");
            }
            self.tell(&ToEngine::Shutdown { grace_ms: grace_ms(grace) });
        }
    }
}
