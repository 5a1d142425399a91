//! Latency of a client beside clients that stall or flood on the same worker.
//!
//! Bare hyper is measured as a control: it shows what the shared core alone does to both.

use std::{
    io::Write,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Result;

use super::Plan;
use crate::{
    daemon,
    load::{held, open_loop},
    peers::{Kind, Peer, Peers},
    sample::{self, Care, Figure},
    site::{LARGE_PATH, STALLED_PATH},
    table::Table,
};

/// Requests a second of the measured client.
const RATE: f64 = 1_000.0;
/// Connections of the measured client.
const CONNECTIONS: usize = 8;
/// Connections that stall.
const STALLED: usize = 32;
/// Connections of the flooding client.
const FLOOD: usize = 64;
/// How much longer than a sample a flood lasts.
const MARGIN: Duration = Duration::from_secs(2);

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for kind in [Kind::Brattice, Kind::Hyper] {
        let peer = peers.start(kind)?;
        let mut table = Table::new(
            format!("{}, 1,000 requests a second beside others on the same worker", peer.name),
            "peer, server and flood on one core, the client on another; counted from when a request was due",
            &[Figure::P50, Figure::P99, Figure::P999],
        );
        // Fills pools and caches, and lets what was started come to rest.
        open_loop::load(&peer, CONNECTIONS, RATE, plan.length)?;
        for _ in 0..plan.rounds {
            measure("alone", &peer, plan, plan.care, &mut table)?;
            let clients = stall(&peer, LARGE_PATH)?;
            measure(
                &format!("beside {STALLED} clients that do not read 1 MiB each"),
                &peer,
                plan,
                plan.care,
                &mut table,
            )?;
            drop(clients);
            let clients = stall(&peer, STALLED_PATH)?;
            measure(
                &format!("beside {STALLED} requests that the target does not answer"),
                &peer,
                plan,
                plan.care,
                &mut table,
            )?;
            drop(clients);
            let mut flood = flood(&peer, plan.length + MARGIN)?;
            let care = Care { beside: Some(flood.id().cast_signed()), ..plan.care };
            let measured =
                measure(&format!("beside a workload at full load, {FLOOD} connections"), &peer, plan, care, &mut table);
            flood.wait()?;
            measured?;
        }
        table.against = Some(("alone".into(), Figure::P99));
        tables.push(table);
    }
    Ok(tables)
}

fn measure(row: &str, peer: &Peer, plan: &Plan, care: Care, table: &mut Table) -> Result<()> {
    let load = |peer: &Peer| open_loop::load(peer, CONNECTIONS, RATE, plan.length);
    let sample = sample::take(peer, care, &mut table.dropped, load)?;
    table.add(row, sample);
    Ok(())
}

/// Clients that ask and read nothing.
fn stall(peer: &Peer, path: &str) -> Result<Vec<TcpStream>> {
    let mut all = Vec::new();
    for _ in 0..STALLED {
        let mut stream = daemon::connect(peer.client(), peer.http1, Duration::from_secs(5))?;
        stream.write_all(held::request(peer.host, path).as_bytes())?;
        all.push(stream);
    }
    Ok(all)
}

/// Another workload calls as fast as it can. (It is the target's, which calls itself through the peer.)
fn flood(peer: &Peer, length: Duration) -> Result<Child> {
    let mut command: Command = peer.site.target.namespace.command("taskset");
    peer.site.target.namespace.ip(&format!("route replace {} dev eth0", peer.http1.ip()));
    command.args(["-c", &peer.site.core.to_string(), "wrk", "-t1"]);
    command.args([format!("-c{FLOOD}"), format!("-d{}s", length.as_secs().max(1))]);
    command.args(["-H", &format!("Host: {}", peer.host)]).arg(format!("http://{}/", peer.http1));
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}
