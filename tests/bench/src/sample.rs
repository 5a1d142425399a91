//! One measurement of one peer, with its cost and the other processes that ran meanwhile.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};

use crate::{
    cpu::{self, Clock},
    load::Seen,
    peers::Peer,
};

/// A sample in which others used more than this share of a core is not valid.
const MOST_OTHERS: f64 = 0.05;
/// ... nor one in which more than this share of requests failed.
const MOST_FAILED: f64 = 0.01;
/// How often a sample is taken again before it is given up.
const TRIES: usize = 5;

/// What is measured; the text is the column's title.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Requests (or connections) a second.
    PerSecond,
    /// Median latency, µs.
    P50,
    /// 99th percentile, µs.
    P99,
    /// 99.9th percentile, µs.
    P999,
    /// µs of the peer's processes a request.
    Proxy,
    /// µs of the core a request: client, peer, server and kernel, softirq included.
    Path,
    /// CPU seconds of the peer a GiB.
    ProxyPerGib,
    /// CPU seconds of the core a GiB.
    PathPerGib,
    /// Resident memory, MiB.
    Mib,
    /// Memory of a kept connection, KiB.
    KibPerConnection,
    /// Memory of the agent, MiB.
    AgentMib,
    /// Until a change was in force on every worker, ms.
    InForce,
    /// ns a packet.
    PerPacket,
}

impl Figure {
    /// Title of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::PerSecond => "per s",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::P999 => "p99.9 µs",
            Self::Proxy => "proxy CPU µs",
            Self::Path => "path CPU µs",
            Self::ProxyPerGib => "proxy CPU s/GiB",
            Self::PathPerGib => "path CPU s/GiB",
            Self::Mib => "MiB",
            Self::KibPerConnection => "KiB/connection",
            Self::AgentMib => "agent MiB",
            Self::InForce => "in force ms",
            Self::PerPacket => "ns/packet",
        }
    }
}

/// The figures of a sample.
pub(crate) type Sample = BTreeMap<Figure, f64>;

/// How samples are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Care {
    /// Keep samples during which others ran.
    pub(crate) allow_noise: bool,
    /// A process that runs beside what is measured on purpose, with all that it started.
    pub(crate) beside: Option<i32>,
}

/// Runs a generator against a peer. Invalid samples are counted in `dropped` and taken again.
///
/// # Errors
/// When the generator fails, or no sample was good in several tries.
pub(crate) fn take(
    peer: &Peer,
    care: Care,
    dropped: &mut usize,
    mut generator: impl FnMut(&Peer) -> Result<Seen>,
) -> Result<Sample> {
    let mut last = String::new();
    for _ in 0..TRIES {
        // Threads and processes may be new.
        peer.pin();
        let own: i32 = std::process::id().cast_signed();
        let mut bystanders = peer.site.server_pids();
        bystanders.extend(peer.agent);
        bystanders.extend(care.beside.map(cpu::with_children).unwrap_or_default());
        bystanders.insert(own);
        let groups = [peer.pids(), bystanders];
        let (begin, children) = (Clock::now(&groups), children());
        let seen = generator(peer)?;
        let generated = self::children() - children;
        let used = begin.until(&Clock::now(&groups), peer.site.core);
        let others = (used.others.0 - generated).max(0.0) / seen.seconds.max(0.1);
        if seen.failed > MOST_FAILED * (seen.requests + seen.failed) || seen.requests < 1.0 {
            last = format!("{} of {} requests failed", seen.failed, seen.failed + seen.requests);
        } else if others > MOST_OTHERS && !care.allow_noise {
            last = format!("others used {:.0} % of a core", others * 100.0);
            std::thread::sleep(Duration::from_secs(1));
        } else {
            return Ok(figures(&seen, used.groups[0].0, used.core.0));
        }
        *dropped += 1;
    }
    bail!("no good sample of {} in {TRIES} tries; the last: {last}", peer.name)
}

fn figures(seen: &Seen, proxy: f64, core: f64) -> Sample {
    let gib = seen.requests * crate::site::LARGE as f64 / (1u64 << 30) as f64;
    let mut sample = Sample::from([
        (Figure::PerSecond, seen.requests / seen.seconds),
        (Figure::Proxy, proxy * 1e6 / seen.requests),
        (Figure::Path, core * 1e6 / seen.requests),
        (Figure::ProxyPerGib, proxy / gib),
        (Figure::PathPerGib, core / gib),
    ]);
    for (figure, value) in [(Figure::P50, seen.p50), (Figure::P99, seen.p99), (Figure::P999, seen.p999)] {
        if let Some(value) = value {
            sample.insert(figure, value);
        }
    }
    sample
}

/// CPU seconds of generators that have ended.
fn children() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return 0.0 };
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Memory of a peer's processes, MiB.
pub(crate) fn memory(peer: &Peer) -> f64 {
    cpu::resident(&peer.pids()) as f64 / f64::from(1 << 20)
}
