//! Latency at half of what a peer can do.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::{Plan, interleave, start};
use crate::{
    cpu,
    load::{
        open_loop,
        wrk::{self, Ask},
    },
    peers::Peers,
    sample::Figure,
    table::Table,
};

/// Connections that requests are sent over.
const CONNECTIONS: usize = 32;

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    ensure!(cpu::online() > 1, "the client needs a core of its own");
    let peers = start(peers, plan)?;
    let mut rates = BTreeMap::new();
    for peer in &peers {
        let seen = wrk::load(peer, Ask::Small, CONNECTIONS, plan.length)?;
        rates.insert(peer.name, seen.requests / seen.seconds / 2.0);
    }
    let least = rates.values().copied().fold(f64::INFINITY, f64::min);
    let mut tables = Vec::new();
    for (title, same) in [
        ("at half of each peer's own capacity", false),
        ("at the same rate for all, half of the slowest's capacity", true),
    ] {
        let mut table = Table::new(
            format!("latency {title}"),
            format!(
                "peer and server on one core, the client on another; {CONNECTIONS} connections; counted from when a request was due"
            ),
            &[Figure::PerSecond, Figure::P50, Figure::P99, Figure::P999],
        );
        interleave(&mut table, &peers, plan, |peer| {
            let rate = if same { least } else { rates[peer.name] };
            open_loop::load(peer, CONNECTIONS, rate, plan.length)
        })?;
        table.against = peers.first().map(|first| (first.name.to_owned(), Figure::P99));
        tables.push(table);
    }
    Ok(tables)
}
