//! HTTP/2 with prior knowledge.

use anyhow::Result;

use super::{Plan, interleave, start};
use crate::{load::h2load, peers::Peers, sample::Figure, table::Table};

const CONNECTIONS: usize = 8;
const STREAMS: usize = 16;

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let peers = start(peers, plan)?;
    let mut table = Table::new(
        format!("HTTP/2, {CONNECTIONS} connections with {STREAMS} streams each"),
        "client, peer and server on one core; HTTP/1.1 from the peer to the server; answers of 1 KiB",
        &[Figure::PerSecond, Figure::Proxy, Figure::Path],
    );
    interleave(&mut table, &peers, plan, |peer| h2load::load(peer, CONNECTIONS, STREAMS, plan.length))?;
    Ok(vec![table])
}
