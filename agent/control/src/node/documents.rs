//! Puts in force what was read: the documents come linked, from a thread of their own.

use std::sync::Arc;

use brattice_sources::worker::{Accepted, Update};

use super::Node;

impl Node {
    /// Puts in force what was read. Documents that changed are a new chance for an engine that stays down. Returns whom to
    /// tell when that can be seen.
    pub(super) async fn follow(&mut self, update: Update) -> Option<Accepted> {
        let Update { linked, owners, changed, unkept, accepted } = update;
        (self.owners, self.unkept) = (owners, unkept.into());
        // The same: nothing was linked again.
        if !Arc::ptr_eq(&self.inputs.model, &linked.model) {
            self.inputs.model = linked.model.clone();
            Arc::make_mut(&mut self.planner).state.vips = linked.vips.clone();
            self.look_at_places();
            self.reconcile().await;
        }
        if changed {
            self.engine.revive().await;
        }
        accepted
    }
}
