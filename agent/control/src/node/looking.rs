//! What the host shows: interfaces, places of workloads, and what others did to what is ours.

use std::time::Instant;

use brattice_loader::interfaces::inventory;
use brattice_loader::ipv6;
use brattice_wire::rarely;
use tracing::{error, info, warn};

use super::Node;
use crate::attachments::{Wishes, paired};

impl Node {
    /// Looks at everything at once.
    pub(super) async fn look_at_network(&mut self) {
        self.look_at_interfaces().await;
        self.look_after_ours(true).await;
    }

    /// Looks for what others removed or changed of ours, and puts it back; with `table` the firewall's table, too.
    pub(super) async fn look_after_ours(&mut self, table: bool) {
        // The table is asked for by a process, `nft`, which takes longer than all else: not for each new interface.
        let repaired = if table || self.unmended.is_some() {
            self.datapath.repair().await
        } else {
            self.datapath.repair_except_table().await
        };
        match repaired {
            Ok(mended) => {
                if !mended.is_empty() {
                    self.maps.refresh();
                }
                for what in mended {
                    rarely!(warn, what, "somebody removed or changed it; it was put back");
                    *self.repairs.entry(what.to_owned()).or_default() += 1;
                    self.noticed.repaired(what, Instant::now());
                }
                self.unmended = None;
            }
            Err(e) => {
                let text = e.to_string();
                if self.unmended.as_ref() != Some(&text) {
                    error!(error = %e, "what vanished cannot be put back");
                }
                self.unmended = Some(text);
            }
        }
        self.look_for_strays();
        let now = ipv6();
        if now != self.ipv6 {
            self.ipv6 = now;
            if self.datapath.options().ipv6.is_some() {
                warn!("IPv6 is {}", now.text());
                // Services get or lose their IPv6 VIPs.
                self.readings.want(Instant::now());
            }
        }
        if self.attachments_differ() || self.something_to_do() {
            self.reconcile().await;
        }
    }

    /// Workloads that came, went or changed.
    pub(super) async fn look_at_interfaces(&mut self) {
        match inventory().await {
            Ok(interfaces) => {
                let places = self.places.clone();
                let differ = interfaces != self.interfaces;
                self.interfaces = interfaces;
                if differ {
                    self.look_at_places();
                }
                if differ || places != self.places {
                    self.reconcile().await;
                }
            }
            Err(e) => error!(error = %e, "the interfaces cannot be listed"),
        }
    }

    /// Logs who leads elsewhere what goes to aliases and VIPs.
    fn look_for_strays(&mut self) {
        let found = self
            .datapath
            .astray()
            .unwrap_or_else(|e| vec![format!("whether the kernel finds our routes cannot be asked: {e}")]);
        for text in found.iter().filter(|text| !self.astray.contains(text)) {
            error!("{text}");
        }
        if found.is_empty() && !self.astray.is_empty() {
            info!("the kernel finds our routes again");
        }
        self.astray = found;
    }

    /// Looks where the namespaces are that documents find by path or cgroup.
    pub(super) fn look_at_places(&mut self) {
        let asked = Wishes::of(&self.model).asked();
        match self.place_watch.look(&asked, &paired(&self.interfaces)) {
            Ok(places) => self.places = places,
            Err(e) => error!(error = %e, "namespaces of workloads cannot be looked for"),
        }
    }
}
