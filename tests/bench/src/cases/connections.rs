//! A new connection for each request.

use anyhow::Result;

use super::{Plan, interleave, start};
use crate::{
    load::wrk::{self, Ask},
    peers::Peers,
    sample::Figure,
    table::Table,
};

/// Connections open at once.
const AT_ONCE: usize = 16;

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let peers = start(peers, plan)?;
    let mut table = Table::new(
        "a new connection for each request",
        format!("client, peer and server on one core; {AT_ONCE} at once; answers of 1 KiB"),
        &[Figure::PerSecond, Figure::P50, Figure::P99, Figure::Proxy, Figure::Path],
    );
    interleave(&mut table, &peers, plan, |peer| wrk::load(peer, Ask::NewConnection, AT_ONCE, plan.length))?;
    Ok(vec![table])
}
