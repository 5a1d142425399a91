//! What follows of each event of the engine.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use brattice_wire::snapshot::AliasGeneration;
use tracing::{error, info};

use super::Actuator;
use crate::engine::Event;

impl Actuator {
    pub(super) async fn engine_event(&mut self, event: Event) {
        match event {
            Event::Applied(revision) => {
                info!(revision, "the engine serves");
                self.refused = None;
                self.serves(revision).await;
                self.applied = revision;
            }
            Event::Adopted(revision) => {
                Arc::make_mut(&mut self.noticed).adopted();
                self.number_above(revision).await;
            }
            Event::Refused { revision, reason } => {
                error!(revision, reason, "the engine refused the snapshot and keeps the one before");
                self.refused = Some(format!("revision {revision}: {reason}"));
            }
            Event::Closed(aliases) => self.closed(&aliases),
            Event::Down => {
                self.applied = 0;
                self.engine_is_down().await;
            }
        }
        // The view may be ahead of the events that were carried out: only after one of them is everything in the kernel.
        self.ready |= self.engine.view.borrow().state == "running";
    }

    /// The engine has no connection of these aliases any more: what the kernel still has is destroyed, and they rest.
    fn closed(&mut self, aliases: &[(IpAddr, AliasGeneration)]) {
        let mut not_destroyed = BTreeSet::new();
        for (alias, _) in aliases {
            if let Err(e) = brattice_loader::sockets::destroy(*alias) {
                // It stays closing and is never given again: no workload may get the connections of another one.
                error!(%alias, error = %e, "connections of an alias cannot be destroyed; it is not given again");
                not_destroyed.insert(*alias);
            }
        }
        let free: Vec<(IpAddr, AliasGeneration)> =
            aliases.iter().filter(|(alias, _)| !not_destroyed.contains(alias)).copied().collect();
        Arc::make_mut(&mut self.planner).aliases.closed(&free, Instant::now());
        self.keeper.save(&self.planner);
    }
}
