//! What is measured.

mod bodies;
mod connections;
mod fairness;
mod foreign;
mod growth;
mod http1;
mod http2;
mod latency;
mod memory;

use std::time::Duration;

use anyhow::Result;

use crate::{
    load::Seen,
    peers::{Kind, Peer, Peers},
    sample::{self, Care, Figure},
    table::Table,
};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// Small requests over kept HTTP/1.1 connections: 1, 32 and 128 of them.
    Http1,
    /// A new connection for each request.
    Connections,
    /// HTTP/2: 8 connections with 16 streams each.
    Http2,
    /// Bodies of 1 MiB, both ways.
    Bodies,
    /// Latency at half of what the peer can do, at a fixed rate.
    Latency,
    /// Memory with no, 1,000 and 10,000 kept connections.
    Memory,
    /// What services, rules, statements and workloads cost: memory, time until in force, time of a request.
    Growth,
    /// Cost of a packet that is not ours.
    Foreign,
    /// Latency of a client beside clients that stall or flood.
    Fairness,
}

/// How much of it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
    pub(crate) quick: bool,
    pub(crate) care: Care,
}

impl Case {
    /// Measures; the tables.
    ///
    /// # Errors
    /// When something does not start, or cannot be measured.
    pub(crate) fn run(self, peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
        match self {
            Self::Http1 => http1::run(peers, plan),
            Self::Connections => connections::run(peers, plan),
            Self::Http2 => http2::run(peers, plan),
            Self::Bodies => bodies::run(peers, plan),
            Self::Latency => latency::run(peers, plan),
            Self::Memory => memory::run(peers, plan),
            Self::Growth => growth::run(peers, plan),
            Self::Foreign => foreign::run(peers, plan),
            Self::Fairness => fairness::run(peers, plan),
        }
    }
}

/// Starts what the plan compares.
fn start(peers: &mut Peers, plan: &Plan) -> Result<Vec<Peer>> {
    plan.kinds.iter().map(|kind| peers.start(*kind)).collect()
}

/// A B C A B C ...: each round all peers, so that whatever drifts drifts for all.
fn interleave(
    table: &mut Table,
    peers: &[Peer],
    plan: &Plan,
    mut generator: impl FnMut(&Peer) -> Result<Seen>,
) -> Result<()> {
    for peer in peers {
        // Fills pools and caches.
        generator(peer)?;
    }
    for round in 0..plan.rounds {
        for peer in peers {
            let sample = sample::take(peer, plan.care, &mut table.dropped, &mut generator)?;
            table.add(peer.name, sample);
        }
        eprint!("\r  {}: round {} of {}   ", table.title, round + 1, plan.rounds);
    }
    eprintln!();
    if let Some(first) = peers.first() {
        table.against = Some((first.name.to_owned(), Figure::PerSecond));
    }
    Ok(())
}
