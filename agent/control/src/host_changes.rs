//! Whether something changed on the host since the agent's loop looked last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brattice_loader::PinWatch;
use brattice_loader::interfaces::Watch as NetworkWatch;
use tokio::sync::Notify;
use tracing::warn;

/// It holds one change, however many there were.
#[derive(Debug, Default)]
pub struct HostChanges {
    changed: Notify,
    table: AtomicBool,
}

impl HostChanges {
    /// Something changed; with `table`, firewall rules may have, perhaps Brattice's.
    pub fn notify(&self, table: bool) {
        self.table.fetch_or(table, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Returns when something changed since the last return.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether firewall rules may have changed since this was asked last.
    pub fn take_table(&self) -> bool {
        self.table.swap(false, Ordering::Relaxed)
    }
}

/// Listens in a task of its own, so that no change is lost while the loop is busy with something else.
pub fn listen(host_changes: Arc<HostChanges>, mut network: NetworkWatch, mut pins: PinWatch) {
    tokio::spawn(async move {
        loop {
            let table = tokio::select! {
                change = network.changed() => change.map(|change| change.firewall),
                change = pins.changed() => change.map(|()| false),
            };
            if let Err(e) = &table {
                // Looking once a second instead.
                warn!(error = %e, "cannot watch changes of interfaces and pins");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            host_changes.notify(table.unwrap_or(true));
        }
    });
}
