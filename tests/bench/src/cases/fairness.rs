//! Whether one who stalls or floods is felt by others on the same worker.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Result;

use super::Plan;
use crate::{
    daemon,
    load::{held, open_loop},
    peers::{Features, Peer, Peers, Scale},
    sample::{self, Figure},
    table::Table,
};

/// Requests a second of the one who is measured.
const RATE: f64 = 1_000.0;
/// Connections that stall.
const STALLED: usize = 32;

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let peer = peers.brattice(Features::All, &Scale::default())?;
    let mut table = Table::new(
        "Brattice, 1,000 requests a second beside others on the same worker",
        "peer and server on one core, the client on another; counted from when a request was due",
        &[Figure::P50, Figure::P99, Figure::P999],
    );
    for _ in 0..plan.rounds {
        let alone = measure(&peer, plan, &mut table)?;
        table.add("alone", alone);
        let stalled = stall(&peer)?;
        let beside = measure(&peer, plan, &mut table)?;
        table.add(&format!("beside {STALLED} clients that do not read 1 MiB each"), beside);
        drop(stalled);
        let mut flood = flood(&peer, plan.length + Duration::from_secs(2))?;
        let beside = measure(&peer, plan, &mut table)?;
        let _ = flood.wait();
        table.add("beside a workload at full load, 64 connections", beside);
    }
    table.against = Some(("alone".into(), Figure::P99));
    Ok(vec![table])
}

fn measure(peer: &Peer, plan: &Plan, table: &mut Table) -> Result<sample::Sample> {
    // The flood is ours, too.
    let care = sample::Care { allow_noise: true };
    sample::take(peer, care, &mut table.dropped, |peer| open_loop::load(peer, 8, RATE, plan.length))
}

/// Clients that ask for much and read nothing.
fn stall(peer: &Peer) -> Result<Vec<std::net::TcpStream>> {
    let mut all = Vec::new();
    for _ in 0..STALLED {
        let mut stream = daemon::connect(peer.client(), peer.http1, Duration::from_secs(5))?;
        stream.write_all(held::request(peer.host, crate::site::LARGE_PATH).as_bytes())?;
        all.push(stream);
    }
    Ok(all)
}

/// Another workload calls as fast as it can. (It is the target's, which calls itself through the service.)
fn flood(peer: &Peer, length: Duration) -> Result<std::process::Child> {
    let mut command: Command = peer.site.target.namespace.command("taskset");
    peer.site.target.namespace.ip(&format!("route replace {} dev eth0", peer.http1.ip()));
    command.args(["-c", &peer.site.core.to_string(), "wrk", "-t1", "-c64", &format!("-d{}s", length.as_secs().max(1))]);
    command.args(["-H", &format!("Host: {}", peer.host)]).arg(format!("http://{}/", peer.http1));
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}
