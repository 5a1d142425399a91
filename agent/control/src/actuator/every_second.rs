//! Polls once a second what sends no event.

use std::sync::Arc;
use std::time::Instant;

use brattice_wire::engine::FailingTarget;
use brattice_wire::rarely;
use tracing::warn;

use super::{Actuator, RETRY};
use crate::api::problems::target_name;
use crate::failing_targets::Change;
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
            self.log_targets(&stats.failing, now);
        }
        let behind = {
            let view = self.engine.view.borrow();
            view.state == "running" && view.revision.min(self.applied) != self.planner.snapshot.revision
        };
        if behind != self.noticed.is_behind() {
            Arc::make_mut(&mut self.noticed).set_behind(behind.then_some(now));
        }
    }

    /// Logs targets that began to fail, and those that do not any more.
    fn log_targets(&mut self, failing: &[FailingTarget], now: Instant) {
        let engine = self.engine.view.borrow().pid;
        let changes = self.failing_targets.seen(engine, failing, now);
        if changes.is_empty() {
            return;
        }
        let picture = self.picture();
        for (target, change) in changes {
            // One without a name: its alias was given back, with its workload.
            let Some(name) = target_name(&picture, target) else { continue };
            match change {
                Change::Fails(why) => rarely!(warn, "{name} cannot be reached: {why}"),
                Change::Serves => rarely!(info, "{name} can be reached again"),
                Change::Untried => rarely!(info, "{name} could not be reached, and was not called for a minute"),
            }
        }
    }
}
