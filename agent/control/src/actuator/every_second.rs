//! Polls once a second what sends no event.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::{Actuator, RETRY};
use crate::switches;

impl Actuator {
    pub(super) async fn every_second(&mut self) {
        let now = Instant::now();
        if self.planner.aliases.has_rested(now) {
            Arc::make_mut(&mut self.planner).aliases.rested(now);
            self.keeper.save(&self.planner);
        }
        if let Err(e) = switches::sweep(&self.datapath.maps.switches()) {
            warn!(error = %e, "ended switches cannot be removed; they are ignored anyway");
        }
        match self.datapath.whole() {
            Ok(true) if self.repairs.failed.is_none() => {}
            // An interface may be another one: the loop looks at them first, and then has this repaired.
            Ok(_) => self.host_changes.notify(true),
            Err(e) => warn!(error = %e, "cannot check whether all programs are attached"),
        }
        self.notice(now);
        let failed = self.kernel.has_failed() || self.keeper.unsaved().is_some();
        if self.planner.is_due(now) || (failed && self.planned.elapsed() >= RETRY) {
            self.plan().await;
        }
    }

    fn notice(&mut self, now: Instant) {
        if let Some(stats) = self.noticed.stats() {
            Arc::make_mut(&mut self.noticed).dropped(stats.log_lines[1], now);
        }
        let behind = {
            let view = self.engine.view.borrow();
            view.state == "running" && view.revision.min(self.applied) != self.planner.snapshot.revision
        };
        if behind != self.noticed.is_behind() {
            Arc::make_mut(&mut self.noticed).set_behind(behind.then_some(now));
        }
    }
}
