//! The latest sampled drops, for `brattice status` and the log; and how many events each interface or alias had, by
//! reason, for `brattice explain`.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use brattice_abi::{DropEvent, DropReason};
use brattice_explain::Dropped;
use brattice_loader::{Datapath, EbpfLog, describe_drop};
use tracing::{debug, info, warn};

use crate::clock::boottime_ns;

/// How many are kept.
pub const KEPT: usize = 16;
/// Most tallies; a new one takes the place of that which was added to longest ago.
pub const MAX_TALLIES: usize = 1_024;

/// The latest drops, shared with the task that reads them.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Newest first.
    latest: VecDeque<DropEvent>,
    tallies: BTreeMap<Tallied, (u64, DropEvent)>,
}

/// Drops that are counted together: those of an interface, or of an alias behind a program that many share, for one
/// reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tallied {
    ifindex: u32,
    alias: Option<IpAddr>,
    reason: u32,
}

impl Tallied {
    fn of(event: &DropEvent) -> Self {
        let alias = match event.program {
            // Many workloads share the device of these.
            2 => Some(event.destination),
            3 => Some(event.source),
            _ => None,
        };
        Self { ifindex: event.ifindex, alias: alias.map(IpAddr::from), reason: event.reason }
    }
}

impl Drops {
    /// Newest first, a line each.
    pub fn lines(&self) -> Vec<String> {
        let now = boottime_ns();
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.latest.iter().map(|event| line(event, now)).collect()
    }

    /// How many events came, with the latest, by interface or alias and reason.
    pub fn tallies(&self) -> Vec<Dropped> {
        let now = boottime_ns();
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.tallies
            .values()
            .map(|(events, event)| {
                let reason = DropReason::from_u32(event.reason);
                Dropped {
                    ifindex: event.ifindex,
                    events: *events,
                    source: event.source.into(),
                    destination: event.destination.into(),
                    port: event.destination_port,
                    reason: reason.map_or("?", DropReason::name).to_owned(),
                    text: reason.map_or(UNKNOWN, DropReason::text).to_owned(),
                    seconds_ago: now.saturating_sub(event.at_ns) / 1_000_000_000,
                }
            })
            .collect()
    }

    fn push(&self, event: DropEvent) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.latest.truncate(KEPT - 1);
        kept.latest.push_front(event);
        let key = Tallied::of(&event);
        if kept.tallies.len() >= MAX_TALLIES && !kept.tallies.contains_key(&key) {
            let oldest = kept.tallies.iter().min_by_key(|(_, (_, event))| event.at_ns).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                kept.tallies.remove(&oldest);
            }
        }
        let tally = kept.tallies.entry(key).or_insert((0, event));
        *tally = (tally.0 + 1, event);
    }
}

const UNKNOWN: &str = "a reason this version does not know";

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

/// Most debug lines of the programs that are logged in a second. Any workload that sends packets can cause such lines,
/// also when this is switched on for a while.
const LINES_PER_SECOND: u32 = 200;

/// Logs the lines that the programs send, if they were asked to (`--ebpf-log debug`), until the data path ends.
pub async fn log(datapath: Arc<Datapath>, wanted: EbpfLog) {
    if wanted == EbpfLog::Off {
        return;
    }
    let mut lines = match datapath.debug_log() {
        Ok(lines) => lines,
        Err(e) => return warn!(error = %e, "no line of the eBPF programs will be logged"),
    };
    let (mut second, mut logged, mut left_out) = (Instant::now(), 0, 0_u64);
    loop {
        let line = match lines.next().await {
            Ok(line) => line,
            Err(e) => return warn!(error = %e, "no line of the eBPF programs will be logged any more"),
        };
        if second.elapsed() >= Duration::from_secs(1) {
            if left_out > 0 {
                info!("ebpf: {left_out} more lines were left out: at most {LINES_PER_SECOND} are logged in a second");
            }
            (second, logged, left_out) = (Instant::now(), 0, 0);
        }
        if logged < LINES_PER_SECOND {
            logged += 1;
            info!("ebpf: {line}");
        } else {
            left_out += 1;
        }
    }
}

fn line(event: &DropEvent, now: u64) -> String {
    format!("{} s ago: {}", now.saturating_sub(event.at_ns) / 1_000_000_000, describe_drop(event))
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
        assert_eq!(drops.0.lock().unwrap().latest.front().unwrap().reason, 39);
    }

    #[test]
    fn drops_are_counted_by_interface_alias_and_reason() {
        let drops = Drops::default();
        let on = |ifindex, program, at_ns| DropEvent { ifindex, program, at_ns, ..event(1) };
        for at_ns in [1, 2] {
            drops.push(on(7, 1, at_ns));
        }
        drops.push(DropEvent { source: Address::v4([10, 0, 0, 99]), ..on(7, 1, 3) });
        drops.push(on(8, 1, 4));
        // Of programs that all workloads share, by alias.
        drops.push(on(2, 3, 5));
        drops.push(DropEvent { source: Address::v4([100, 127, 0, 9]), ..on(2, 3, 6) });
        let counted = |drops: &Drops| -> Vec<(u32, u64)> {
            drops.tallies().iter().map(|dropped| (dropped.ifindex, dropped.events)).collect()
        };
        assert_eq!(counted(&drops), [(2, 1), (2, 1), (7, 3), (8, 1)]);
        assert_eq!(drops.tallies()[2].source, IpAddr::from([10, 0, 0, 99]), "the latest is shown");
        for ifindex in 0..2_000 {
            drops.push(on(1_000 + ifindex, 1, 10 + u64::from(ifindex)));
        }
        let all = counted(&drops);
        assert_eq!(all.len(), MAX_TALLIES);
        assert!(!all.contains(&(7, 3)) && all.contains(&(2_999, 1)), "the oldest went");
    }

    #[test]
    fn a_line_says_what_and_why() {
        assert_eq!(
            line(&event(15), 3_000_000_000),
            "2 s ago: NoListener by vip_listener on interface 4: TCP 10.0.0.10:4000 → 169.254.64.32:80 (no service listens on this VIP and port)"
        );
    }
}
