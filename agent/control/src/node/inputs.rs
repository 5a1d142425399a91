//! What the loop sees: documents, interfaces, places of workloads, and whether the host does IPv6.

use std::sync::Arc;

use brattice_loader::interfaces::{Interface, PlaceWatch};
use brattice_loader::{Ipv6, ipv6};
use brattice_sources::worker::{self, Accepted, Update};
use tracing::{error, warn};

use crate::actuator::Observed;
use crate::attachments::{Wishes, paired};
use crate::planner::Inputs;

/// All that is looked at, as it was seen last.
pub(super) struct Seen {
    observed: Observed,
    documents: worker::Handle,
    place_watch: PlaceWatch,
    /// Whether services get IPv6 VIPs where the host does IPv6.
    wants_ipv6: bool,
}

impl Seen {
    pub(super) fn new(
        update: Update,
        interfaces: Vec<Interface>,
        documents: worker::Handle,
        place_watch: PlaceWatch,
        (ipv6, wants_ipv6): (Ipv6, bool),
    ) -> Self {
        let Update { linked, owners, unkept, .. } = update;
        let observed = Observed {
            inputs: Inputs { model: linked.model.clone(), interfaces: interfaces.into(), places: Arc::default() },
            linked,
            owners,
            unkept: unkept.into(),
            ipv6,
            updates: 0,
            changes: 0,
            disturbed: 0,
            table_disturbed: 0,
        };
        let mut seen = Self { observed, documents, place_watch, wants_ipv6 };
        seen.look_at_places();
        seen
    }

    /// For the actuator.
    pub(super) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Takes in documents. Returns whom to tell when a picture shows that this update is in force.
    pub(super) fn follow(&mut self, update: Update) -> Option<(u64, Accepted)> {
        let Update { linked, owners, changed, unkept, accepted } = update;
        let observed = &mut self.observed;
        observed.updates += 1;
        observed.changes += u64::from(changed);
        (observed.owners, observed.unkept) = (owners, unkept.into());
        let number = observed.updates;
        // The same: nothing was linked again.
        if !Arc::ptr_eq(&observed.inputs.model, &linked.model) {
            observed.inputs.model = linked.model.clone();
            observed.linked = linked;
            self.look_at_places();
        }
        accepted.map(|accepted| (number, accepted))
    }

    /// Workloads that came, went or changed. With `table`, firewall rules may have changed, too.
    pub(super) async fn take_host(&mut self, interfaces: brattice_loader::Result<Vec<Interface>>, table: bool) {
        match interfaces {
            Ok(interfaces) => {
                if interfaces != *self.observed.inputs.interfaces {
                    self.observed.inputs.interfaces = interfaces.into();
                    self.look_at_places();
                }
            }
            Err(e) => error!(error = %e, "the interfaces cannot be listed"),
        }
        let now = ipv6();
        if now != self.observed.ipv6 {
            self.observed.ipv6 = now;
            if self.wants_ipv6 {
                warn!("IPv6 is {}", now.text());
                // Services get or lose their IPv6 VIPs.
                self.documents.ipv6(now == Ipv6::On).await;
            }
        }
        self.observed.disturbed += 1;
        self.observed.table_disturbed += u64::from(table);
    }

    /// Returns when cgroups or mounts changed.
    pub(super) async fn places_change(&mut self) -> brattice_loader::Result<()> {
        self.place_watch.changed().await
    }

    /// Looks where the namespaces are that documents find by path or cgroup. Says whether they are elsewhere than before.
    pub(super) fn look_at_places(&mut self) -> bool {
        let inputs = &mut self.observed.inputs;
        let asked = Wishes::of(&inputs.model).asked();
        match self.place_watch.look(&asked, &paired(&inputs.interfaces)) {
            Ok(places) if places == *inputs.places => false,
            Ok(places) => {
                inputs.places = places.into();
                true
            }
            Err(e) => {
                error!(error = %e, "cannot look for network namespaces of workloads");
                false
            }
        }
    }
}
