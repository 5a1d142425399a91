//! Finds the parts of Brattice that others removed or changed, and puts them back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brattice_wire::rarely;
use tracing::{error, info};

use super::Actuator;

/// A new workload comes with a burst of changes. What others may have removed is looked for when none came for this long ...
const QUIET: Duration = Duration::from_millis(5);
/// ... or this long after the first.
const AT_MOST: Duration = Duration::from_millis(50);

/// Something may have been changed.
#[derive(Clone, Copy, Debug)]
struct Due {
    first: Instant,
    latest: Instant,
    /// Firewall rules, too.
    table: bool,
}

/// What was put back, and what could not be.
#[derive(Default)]
pub(super) struct Repairs {
    due: Option<Due>,
    /// What was put back, and how often.
    pub(super) counts: Arc<BTreeMap<String, u64>>,
    /// Why something that vanished could not be put back last time.
    pub(super) failed: Option<String>,
    /// Routes and rules of others that lead elsewhere, as logged.
    detours: Vec<String>,
}

impl Repairs {
    /// Something changed; with `table`, firewall rules, too.
    pub(super) fn disturbed(&mut self, table: bool, now: Instant) {
        let due = self.due.get_or_insert(Due { first: now, latest: now, table });
        due.latest = now;
        due.table |= table;
    }

    /// When to look; none: there is no need.
    pub(super) fn at(&self) -> Option<Instant> {
        self.due.map(|due| (due.latest + QUIET).min(due.first + AT_MOST))
    }
}

impl Actuator {
    /// Finds what others removed or changed, and puts it back.
    pub(super) async fn look_after_ours(&mut self) {
        let table = self.repairs.due.take().is_some_and(|due| due.table);
        // The table is asked for by a process, `nft`, which takes longer than all else: not for each new interface.
        let repaired = if table || self.repairs.failed.is_some() {
            self.datapath.repair().await
        } else {
            self.datapath.repair_except_table().await
        };
        match repaired {
            Ok(repaired) => {
                if !repaired.is_empty() {
                    self.kernel.refresh();
                }
                for what in repaired {
                    rarely!(warn, what, "another program removed or changed it; it was put back");
                    *Arc::make_mut(&mut self.repairs.counts).entry(what.to_owned()).or_default() += 1;
                    Arc::make_mut(&mut self.noticed).repaired(what, Instant::now());
                }
                self.repairs.failed = None;
            }
            Err(e) => {
                let text = e.to_string();
                if self.repairs.failed.as_ref() != Some(&text) {
                    error!(error = %e, "cannot restore what was removed");
                }
                self.repairs.failed = Some(text);
            }
        }
        self.look_for_detours();
        if self.kernel.lacks_attachments() || self.kernel.lacks() {
            self.plan().await;
        }
    }

    /// Logs routes and rules that lead packets to aliases and VIPs elsewhere.
    fn look_for_detours(&mut self) {
        let found = self
            .datapath
            .detours()
            .unwrap_or_else(|e| vec![format!("whether the kernel finds our routes cannot be asked: {e}")]);
        for text in found.iter().filter(|text| !self.repairs.detours.contains(text)) {
            error!("{text}");
        }
        if found.is_empty() && !self.repairs.detours.is_empty() {
            info!("the kernel finds our routes again");
        }
        self.repairs.detours = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_looked_after_when_a_burst_is_over_and_soon_in_one_without_end() {
        let start = Instant::now();
        let mut repairs = Repairs::default();
        assert_eq!(repairs.at(), None, "nothing changed");
        repairs.disturbed(false, start);
        assert_eq!(repairs.at(), Some(start + QUIET));
        for ms in 1..200 {
            repairs.disturbed(ms == 7, start + Duration::from_millis(ms));
            assert!(repairs.at() <= Some(start + AT_MOST), "put off after {ms} ms");
        }
        assert!(repairs.due.is_some_and(|due| due.table), "the table is remembered");
    }
}
