//! What a larger node costs.

use std::time::Instant;

use anyhow::{Context, Result};
use brattice_tests::lab::eventually;

use super::Plan;
use crate::{
    cpu,
    load::wrk::{self, Ask},
    peers::{Features, Peer, Peers, Scale, orders, sound},
    sample::{self, Figure},
    table::Table,
};

/// How long a change may take to be in force.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// What grows: its name, its sizes, and the scale for a size.
type Dimension = (&'static str, &'static [usize], fn(usize) -> Scale);

const DIMENSIONS: &[Dimension] = &[
    ("services x 10 targets", &[10, 1_000, 10_000], |services| Scale { services, ..Scale::default() }),
    ("rules", &[1, 100, 1_000], |rules| Scale { rules, ..Scale::default() }),
    // A policy may have 100 KiB.
    ("statements", &[1, 100, 700], |statements| Scale { statements, ..Scale::default() }),
    ("workloads", &[1, 100, 1_000], |workloads| Scale { workloads, ..Scale::default() }),
];

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for (what, sizes, scale) in DIMENSIONS {
        let mut table = Table::new(
            format!("Brattice by number of {what}"),
            "client, peer and server on one core, 32 kept connections; in force: from the written file to every worker",
            &[Figure::PerSecond, Figure::Proxy, Figure::Path, Figure::Mib, Figure::AgentMib, Figure::InForce],
        );
        let mut sites: Vec<(String, Peer)> = Vec::new();
        for size in *sizes {
            if plan.quick && *size > 1_000 {
                continue;
            }
            let peer = peers.brattice(Features::All, &scale(*size)).with_context(|| format!("{size} {what}"))?;
            sites.push((format!("{size} {what}"), peer));
        }
        for round in 0..plan.rounds {
            for ((row, peer), size) in sites.iter().zip(*sizes) {
                let mut sample = sample::take(peer, plan.care, &mut table.dropped, |peer| {
                    wrk::load(peer, Ask::Small, 32, plan.length)
                })?;
                sample.insert(Figure::Mib, sample::memory(peer));
                let agent = peer.agent.map(|agent| cpu::resident(&[agent].into())).unwrap_or(0);
                sample.insert(Figure::AgentMib, agent as f64 / f64::from(1 << 20));
                sample.insert(Figure::InForce, change(peer, &scale(*size), round)?);
                table.add(row, sample);
            }
        }
        if let Some((first, _)) = sites.first() {
            table.against = Some((first.clone(), Figure::Path));
        }
        tables.push(table);
    }
    Ok(tables)
}

/// Changes the measured service; ms until the change is in force on every worker.
fn change(peer: &Peer, scale: &Scale, round: usize) -> Result<f64> {
    let lab = &peer.site.lab;
    let before = lab.status().revision;
    let begin = Instant::now();
    lab.write("accounts/shop/orders.yaml", &orders(Features::All, scale, round + 2));
    let took = eventually("the change is in force", PATIENCE, || {
        let status = lab.try_status()?;
        let done = status.revision > before && status.engine.revision == status.revision;
        if done { Ok(begin.elapsed()) } else { Err(format!("revision {}", status.revision)) }
    });
    sound(lab)?;
    Ok(took.as_secs_f64() * 1e3)
}
