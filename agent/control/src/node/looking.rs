//! Looks at the host: interfaces, places of workloads, and changes by others of what is ours.

use std::sync::Arc;
use std::time::Instant;

use brattice_loader::interfaces::inventory;
use brattice_loader::{Ipv6, ipv6};
use brattice_wire::rarely;
use tracing::{error, info, warn};

use super::{Node, pace};
use crate::attachments::{Wishes, paired};

impl Node {
    /// Looks at everything at once.
    pub(super) async fn look_at_network(&mut self) {
        self.look_at_interfaces().await;
        self.look_after_ours(true).await;
    }

    /// Finds what others removed or changed, and puts it back; with `table` the firewall's table, too.
    pub(super) async fn look_after_ours(&mut self, table: bool) {
        // The table is asked for by a process, `nft`, which takes longer than all else: not for each new interface.
        let repaired = if table || self.host.unrepaired.is_some() {
            self.host.datapath.repair().await
        } else {
            self.host.datapath.repair_except_table().await
        };
        match repaired {
            Ok(repaired) => {
                if !repaired.is_empty() {
                    self.actuator.refresh();
                }
                for what in repaired {
                    rarely!(warn, what, "another program removed or changed it; it was put back");
                    *Arc::make_mut(&mut self.host.repairs).entry(what.to_owned()).or_default() += 1;
                    Arc::make_mut(&mut self.noticed).repaired(what, Instant::now());
                }
                self.host.unrepaired = None;
            }
            Err(e) => {
                let text = e.to_string();
                if self.host.unrepaired.as_ref() != Some(&text) {
                    error!(error = %e, "cannot restore what was removed");
                }
                self.host.unrepaired = Some(text);
            }
        }
        self.look_for_strays();
        let now = ipv6();
        if now != self.host.ipv6 {
            self.host.ipv6 = now;
            if self.host.datapath.options().ipv6.is_some() {
                warn!("IPv6 is {}", now.text());
                // Services get or lose their IPv6 VIPs.
                self.documents.ipv6(now == Ipv6::On).await;
            }
        }
        if self.actuator.lacks_attachments() || self.actuator.lacks() {
            self.reconcile().await;
        }
    }

    /// Workloads that came, went or changed.
    pub(super) async fn look_at_interfaces(&mut self) {
        match inventory().await {
            Ok(interfaces) => {
                if interfaces != *self.inputs.interfaces {
                    self.inputs.interfaces = interfaces.into();
                    self.look_at_places();
                    self.reconcile().await;
                }
            }
            Err(e) => error!(error = %e, "the interfaces cannot be listed"),
        }
    }

    /// Logs routes and rules that lead packets to aliases and VIPs elsewhere.
    fn look_for_strays(&mut self) {
        let found = self
            .host
            .datapath
            .detours()
            .unwrap_or_else(|e| vec![format!("whether the kernel finds our routes cannot be asked: {e}")]);
        for text in found.iter().filter(|text| !self.host.astray.contains(text)) {
            error!("{text}");
        }
        if found.is_empty() && !self.host.astray.is_empty() {
            info!("the kernel finds our routes again");
        }
        self.host.astray = found;
    }

    /// Cgroups or mounts changed.
    pub(super) async fn places_changed(&mut self, heard: brattice_loader::Result<()>) {
        if let Err(e) = heard {
            warn!(error = %e, "cannot watch changes of cgroups and mounts");
            tokio::time::sleep(pace::MAX_PAUSE).await;
        }
        if self.look_at_places() {
            self.reconcile().await;
        }
    }

    /// Looks where the namespaces are that documents find by path or cgroup. Says whether they are elsewhere than before.
    pub(super) fn look_at_places(&mut self) -> bool {
        let asked = Wishes::of(&self.inputs.model).asked();
        match self.host.place_watch.look(&asked, &paired(&self.inputs.interfaces)) {
            Ok(places) if places == *self.inputs.places => false,
            Ok(places) => {
                self.inputs.places = places.into();
                true
            }
            Err(e) => {
                error!(error = %e, "cannot look for network namespaces of workloads");
                false
            }
        }
    }
}
