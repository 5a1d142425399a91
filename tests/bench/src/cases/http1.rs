//! Small requests over kept HTTP/1.1 connections.

use anyhow::Result;

use super::{Plan, interleave, start};
use crate::{
    load::wrk::{self, Ask},
    peers::Peers,
    sample::Figure,
    table::Table,
};

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let peers = start(peers, plan)?;
    let mut tables = Vec::new();
    for connections in [1, 32, 128] {
        let mut table = Table::new(
            format!("HTTP/1.1, kept connections: {connections}"),
            "client, peer and server on one core; answers of 1 KiB",
            &[Figure::PerSecond, Figure::P50, Figure::P99, Figure::Proxy, Figure::Path],
        );
        interleave(&mut table, &peers, plan, |peer| wrk::load(peer, Ask::Small, connections, plan.length))?;
        tables.push(table);
    }
    Ok(tables)
}
