//! The latest sampled drops, for `brattice status` and the log.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use brattice_abi::{DropEvent, DropReason};
use brattice_loader::Datapath;
use tracing::{debug, warn};

use crate::clock::boottime_ns;

/// How many are kept.
pub const KEPT: usize = 16;

/// The latest drops, shared with the task that reads them.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<Mutex<VecDeque<DropEvent>>>);

impl Drops {
    /// Newest first, a line each.
    pub fn lines(&self) -> Vec<String> {
        let now = boottime_ns();
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().map(|event| line(event, now)).collect()
    }

    fn push(&self, event: DropEvent) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.truncate(KEPT - 1);
        events.push_front(event);
    }
}

/// Reads events until the data path ends.
pub async fn read(datapath: Arc<Datapath>, drops: Drops) {
    let mut events = match datapath.events() {
        Ok(events) => events,
        Err(e) => return warn!(error = %e, "drop events cannot be read; drops are still counted"),
    };
    loop {
        match events.next().await {
            Ok(event) => {
                debug!("{}", line(&event, event.at_ns));
                drops.push(event);
            }
            Err(e) => return warn!(error = %e, "drop events cannot be read any more; drops are still counted"),
        }
    }
}

fn line(event: &DropEvent, now: u64) -> String {
    let reason = DropReason::from_u32(event.reason);
    let protocol = match event.protocol {
        brattice_abi::IPPROTO_TCP => "TCP".to_owned(),
        brattice_abi::IPPROTO_UDP => "UDP".to_owned(),
        other => format!("protocol {other}"),
    };
    let program = match event.program {
        1 => brattice_abi::WORKLOAD_INGRESS,
        2 => brattice_abi::WORKLOAD_EGRESS,
        3 => brattice_abi::VIP_LISTENER,
        _ => "?",
    };
    format!(
        "{} s ago: {} by {program} on interface {}: {protocol} {}:{} → {}:{} ({})",
        now.saturating_sub(event.at_ns) / 1_000_000_000,
        reason.map_or("?", DropReason::name),
        event.ifindex,
        IpAddr::from(event.source),
        event.source_port,
        IpAddr::from(event.destination),
        event.destination_port,
        reason.map_or("a reason this version does not know", DropReason::text),
    )
}

#[cfg(test)]
mod tests {
    use brattice_abi::Address;

    use super::*;

    fn event(reason: u32) -> DropEvent {
        DropEvent {
            at_ns: 1_000_000_000,
            reason,
            ifindex: 4,
            source: Address::v4([10, 0, 0, 10]),
            destination: Address::v4([169, 254, 64, 32]),
            source_port: 4000,
            destination_port: 80,
            protocol: 6,
            program: 3,
            pad: [0; 2],
        }
    }

    #[test]
    fn the_newest_are_kept() {
        let drops = Drops::default();
        for n in 0..40 {
            drops.push(event(n));
        }
        assert_eq!(drops.lines().len(), KEPT);
        assert_eq!(drops.0.lock().unwrap().front().unwrap().reason, 39);
    }

    #[test]
    fn a_line_says_what_and_why() {
        assert_eq!(
            line(&event(15), 3_000_000_000),
            "2 s ago: NoListener by vip_listener on interface 4: TCP 10.0.0.10:4000 → 169.254.64.32:80 (no service listens on this VIP and port)"
        );
    }
}
