//! The order in which a plan is carried out. All of it is here; what each step writes is in [`super::kernel_state`].
//!
//! | step | what is true after it | if the agent dies after it, the next one |
//! |---|---|---|
//! | 1 what belongs to gone workloads is removed | the address of a workload that is gone is worth nothing | finds it gone, too |
//! | 2 aliases, targets and VIPs are written | the engine may call whom it will hear of | takes an alias that only the kernel knows as in use, until the engine has closed its connections |
//! | 3 aliases, numbers and the revision are saved | no alias or revision is ever given twice | plans the same again |
//! | 4 the engine gets the snapshot, and closes connections of lost aliases | | gives a higher revision to what it plans; asks again to close what was not given |
//! | – the engine says that it serves the plan, or is down, or [`ENGINE_PATIENCE`] is over | no request is decided by older documents | |
//! | 5 new callers are written, then attached: those alone whose entries were all written | the first packet finds its workload, and an engine that knows it | attaches what lacks |
//! | 6 what is not wanted any more is removed | | removes it |
//! | 7 VIPs are announced to each workload that was attached | a workload that asked too early need not wait | (it asks again after a second) |
//!
//! So the engine never calls whom the kernel does not know, and never hears of a caller that it does not know itself. Each start reads the
//! kernel's maps and plans anew, so that it writes what lacks and removes what is too much, wherever the last one stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use brattice_loader::announce::Announcer;
use brattice_loader::first_packets::FirstPackets;
use brattice_model::Model;
use brattice_wire::rarely;
use tracing::{debug, warn};

use super::Actuator;
use crate::clock::unix_seconds;
use crate::planner::{Changes, Now, Planner};
use crate::reconcile::Unattached;

/// The second half of a plan waits for the engine this long at most: a change of the documents is live within a second.
const ENGINE_PATIENCE: Duration = Duration::from_millis(300);
/// Many new workloads are attached in parts of this length. Between two, what was seen meanwhile is planned: the removal of a workload
/// that is gone does not wait until a thousand others are attached.
const ATTACHING: Duration = Duration::from_millis(250);
/// Most VIPs of services that are announced to workloads that are attached at once; they ask for others again after a second.
const MAX_ANNOUNCED: usize = 16_384;

/// The second half of a plan, which waits until the engine serves it.
pub(super) struct Unfinished {
    revision: u64,
    pub(super) deadline: Instant,
    /// It was begun, and only interfaces are left to attach.
    attaching: bool,
}

impl Actuator {
    /// Plans, and carries the plan out, up to where it waits for the engine.
    pub(super) async fn plan(&mut self) {
        self.planned = Instant::now();
        let now = Now { instant: self.planned, unix: unix_seconds() };
        let before = self.planner.clone();
        let changes = Arc::make_mut(&mut self.planner).plan(&self.observed.inputs, now);
        let (decisions, interfaces) = (&self.planner.decisions, &self.observed.inputs.interfaces);
        Arc::make_mut(&mut self.noticed).decided(&before.decisions, decisions, interfaces, now.instant);
        drop(before);
        debug!(took = ?self.planned.elapsed(), revision = self.planner.snapshot.revision, "planned");
        self.begin(changes).await;
    }

    /// Steps 1 to 4.
    async fn begin(&mut self, changes: Changes) {
        let began = Instant::now();
        self.kernel.want(self.planner.desired.clone());
        self.kernel.remove_gone(&changes.gone);

        self.kernel.put_aliases();
        self.kernel.put_targets();
        self.kernel.put_listeners();
        self.kernel.add_host_aliases().await;
        self.kernel.set_mtu().await;
        let written = began.elapsed();

        self.keeper.save(&self.planner);
        debug!(?written, saved = ?began.elapsed().saturating_sub(written), "written before the engine");

        if changes.snapshot {
            self.engine.snapshot(self.planner.snapshot.clone()).await;
        }
        if !changes.lost.is_empty() {
            self.engine.close(changes.lost).await;
        }
        self.wait_for_engine().await;
    }

    /// Leaves the rest until the engine serves the plan, if it does not yet, and if there is any.
    async fn wait_for_engine(&mut self) {
        self.kernel.refresh_attached();
        if !self.kernel.is_unfinished() {
            return;
        }
        let revision = self.planner.snapshot.revision;
        let (applied, down) = {
            let view = self.engine.view.borrow();
            (view.revision >= revision, view.state == "down")
        };
        let deadline = Instant::now() + ENGINE_PATIENCE;
        // One change after the other must not put the first off for good.
        let before = self.unfinished.as_ref().filter(|unfinished| !unfinished.attaching);
        let deadline = before.map_or(deadline, |unfinished| unfinished.deadline.min(deadline));
        self.unfinished = Some(Unfinished { revision, deadline, attaching: false });
        if applied || down {
            self.finish().await;
        }
    }

    /// Steps 5 to 7.
    pub(super) async fn finish(&mut self) {
        let going_on = self.unfinished.take().is_some_and(|unfinished| unfinished.attaching);
        let began = Instant::now();
        self.kernel.put_callers();
        let announcing = Announcing {
            planner: &self.planner,
            model: &self.observed.inputs.model,
            announcer: &self.announcer,
            first_packets: self.first_packets.as_ref(),
        };
        let mut left = MAX_ANNOUNCED;
        let announce = |ifindex| left = left.saturating_sub(announcing.announce(ifindex, left));
        let more = self.kernel.attach(!going_on, ATTACHING, announce).await;

        self.kernel.remove_unwanted();
        self.kernel.remove_host_aliases().await;
        self.kernel.detach().await;

        if *self.kernel.unattached() != Unattached::default() {
            Arc::make_mut(&mut self.planner).not_attached(self.kernel.unattached());
        }
        debug!(took = ?began.elapsed(), "written after the engine");
        if more {
            let revision = self.planner.snapshot.revision;
            self.unfinished = Some(Unfinished { revision, deadline: Instant::now(), attaching: true });
        }
    }

    /// The engine serves `revision`: what waits for it is carried out.
    pub(super) async fn serves(&mut self, revision: u64) {
        if self.unfinished.as_ref().is_some_and(|unfinished| unfinished.revision <= revision) {
            self.finish().await;
        }
    }

    /// No engine will serve the plan soon: what waits for it is carried out.
    pub(super) async fn engine_is_down(&mut self) {
        if self.unfinished.is_some() {
            self.finish().await;
        }
    }

    /// The engine serves `revision` of an earlier agent: what is planned gets a higher number, saved before it is sent.
    pub(super) async fn number_above(&mut self, revision: u64) {
        let known = self.planner.state.revision;
        if !Arc::make_mut(&mut self.planner).number_above(revision) {
            return;
        }
        warn!(
            serving = revision,
            known, "the engine serves a revision that the state directory does not know; numbers go on from there"
        );
        self.keeper.save(&self.planner);
        self.engine.snapshot(self.planner.snapshot.clone()).await;
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.revision = self.planner.snapshot.revision;
        }
    }
}

/// What an announcement needs to know.
struct Announcing<'a> {
    planner: &'a Planner,
    model: &'a Model,
    announcer: &'a Announcer,
    first_packets: Option<&'a FirstPackets>,
}

impl Announcing<'_> {
    /// Announces to a workload that was just attached the MACs that it may have asked for before, when there was no
    /// answer, and lets what it sent before arrive.
    fn announce(&self, ifindex: u32, most: usize) -> usize {
        let (planner, model) = (self.planner, self.model);
        let Some(decision) = planner.decisions.iter().find(|decision| decision.ifindex == ifindex) else { return 0 };
        let mut vips = vec![model.dns_vip()];
        vips.extend(model.dns_vip6());
        let vpc = planner.snapshot.vpcs.iter().find(|vpc| vpc.name == decision.vpc);
        let services = vpc
            .into_iter()
            .flat_map(|vpc| &vpc.services)
            .filter_map(|index| planner.snapshot.services.get(index.position()));
        vips.extend(services.flat_map(|service| std::iter::once(service.vip).chain(service.vip6)).take(most));
        let announced = self.announcer.announce(ifindex, decision.mac, &decision.addresses, &vips);
        match self.first_packets.map_or(Ok(0), |first| first.release(ifindex)) {
            Ok(0) => {}
            Ok(count) => debug!(ifindex, count, "packets from before the attachment arrive"),
            // They are sent again.
            Err(e) => rarely!(warn, ifindex, error = %e, "what a new workload sent before its attachment is lost"),
        }
        match announced {
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
