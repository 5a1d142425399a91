//! One turn: a plan, its first half in the kernel, the engine, its second half in the kernel.

use std::sync::Arc;
use std::time::Instant;

use brattice_wire::rarely;
use tokio::task::block_in_place;
use tracing::{debug, warn};

use super::{ENGINE_PATIENCE, MAX_ANNOUNCED, Node, Pending};
use crate::clock::unix_seconds;
use crate::planner::Now;

impl Node {
    /// Brings kernel and engine to what documents and interfaces say. First the kernel learns whom the engine may call
    /// and which VIPs there are, then the engine gets its snapshot, and when it has applied that, new workloads may call
    /// and what is gone is removed ([`Self::finish`]): so the engine never calls whom the kernel does not know, and never
    /// hears of a caller that it does not know.
    pub(super) async fn reconcile(&mut self) {
        self.reconciled = Instant::now();
        let now = Now { instant: self.reconciled, unix: unix_seconds() };
        let before = self.planner.clone();
        // As long as there are documents: other tasks are not to wait for this thread.
        let changes = block_in_place(|| Arc::make_mut(&mut self.planner).plan(&self.inputs, now));
        let decisions = &self.planner.decisions;
        Arc::make_mut(&mut self.noticed).decided(&before.decisions, decisions, &self.inputs.interfaces);

        self.actuator.begin(self.planner.desired.clone(), &changes.gone).await;
        // On disk before it is published: a revision or an alias is never used twice.
        self.save();
        if changes.snapshot {
            self.engine.snapshot(self.planner.snapshot.clone()).await;
        }
        if !changes.lost.is_empty() {
            self.engine.close(changes.lost).await;
        }
        if self.actuator.is_unfinished() {
            let (applied, down) = {
                let view = self.engine.view.borrow();
                (view.revision >= self.planner.snapshot.revision, view.state == "down")
            };
            let deadline = Instant::now() + ENGINE_PATIENCE;
            // One change after the other must not put the first off for good.
            let deadline = self.pending.as_ref().map_or(deadline, |pending| pending.deadline.min(deadline));
            self.pending = Some(Pending { revision: self.planner.snapshot.revision, deadline });
            if applied || down {
                self.finish().await;
            }
        }
    }

    /// The engine serves `revision` of an earlier agent: what is planned gets a higher number.
    pub(super) async fn number_above(&mut self, revision: u64) {
        let known = self.planner.state.revision;
        if !Arc::make_mut(&mut self.planner).number_above(revision) {
            return;
        }
        warn!(
            serving = revision,
            known, "the engine serves a revision that the state directory does not know; numbers go on from there"
        );
        self.save();
        self.engine.snapshot(self.planner.snapshot.clone()).await;
        if let Some(pending) = &mut self.pending {
            pending.revision = self.planner.snapshot.revision;
        }
    }

    /// The second half, after the engine: workloads may call, and what is not wanted any more is removed.
    pub(super) async fn finish(&mut self) {
        self.pending = None;
        let new = self.actuator.finish().await;
        if !self.actuator.attach_errors().is_empty() {
            Arc::make_mut(&mut self.planner).not_attached(self.actuator.attach_errors());
        }
        let mut left = MAX_ANNOUNCED;
        for ifindex in new {
            left = left.saturating_sub(self.announce(ifindex, left));
        }
    }

    /// Announces to a workload that was just attached the MACs that it may have asked for before, when there was no
    /// answer.
    fn announce(&self, ifindex: u32, most: usize) -> usize {
        let planner = &self.planner;
        let Some(decision) = planner.decisions.iter().find(|decision| decision.ifindex == ifindex) else { return 0 };
        let mut vips = vec![self.inputs.model.dns_vip()];
        vips.extend(self.inputs.model.dns_vip6());
        let vpc = planner.snapshot.vpcs.iter().find(|vpc| vpc.name == decision.vpc);
        let services = vpc
            .into_iter()
            .flat_map(|vpc| &vpc.services)
            .filter_map(|at| planner.snapshot.services.get(usize::try_from(*at).ok()?));
        vips.extend(services.flat_map(|service| std::iter::once(service.vip).chain(service.vip6)).take(most));
        match self.host.announcer.announce(ifindex, decision.mac, &decision.addresses, &vips) {
            Ok(count) => {
                debug!(ifindex, count, "VIPs announced");
                count
            }
            // It asks again after a second.
            Err(e) => {
                rarely!(warn, ifindex, error = %e, "the VIPs cannot be announced to a new workload");
                0
            }
        }
    }
}
