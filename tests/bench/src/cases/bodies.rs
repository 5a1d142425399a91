//! Bodies of 1 MiB.

use anyhow::Result;

use super::{Plan, interleave, start};
use crate::{
    load::wrk::{self, Ask},
    peers::Peers,
    sample::Figure,
    table::Table,
};

const AT_ONCE: usize = 4;

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let peers = start(peers, plan)?;
    let mut tables = Vec::new();
    for (ask, title) in [(Ask::Download, "answers of 1 MiB"), (Ask::Upload, "requests of 1 MiB")] {
        let mut table = Table::new(
            title,
            format!("client, peer and server on one core; {AT_ONCE} at once"),
            &[Figure::PerSecond, Figure::ProxyPerGib, Figure::PathPerGib],
        );
        interleave(&mut table, &peers, plan, |peer| wrk::load(peer, ask, AT_ONCE, plan.length))?;
        tables.push(table);
    }
    Ok(tables)
}
