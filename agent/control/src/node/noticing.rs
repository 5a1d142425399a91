//! Polls once a second what sends no event.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::Node;

impl Node {
    /// To be called once a second.
    pub(super) fn notice(&mut self) {
        let now = Instant::now();
        if let Some(stats) = self.noticed.stats() {
            Arc::make_mut(&mut self.noticed).dropped(stats.log_lines[1], now);
        }
        let (asker, to) = (self.engine.asker(), self.noticed.stats_cell());
        // An engine that is slow to answer delays nothing else.
        tokio::spawn(async move {
            let stats = asker.stats().await;
            *to.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        });
        let behind = {
            let view = self.engine.view.borrow();
            view.state == "running" && view.revision.min(self.applied) != self.planner.snapshot.revision
        };
        if behind != self.noticed.is_behind() {
            Arc::make_mut(&mut self.noticed).set_behind(behind.then_some(now));
        }
    }
}
