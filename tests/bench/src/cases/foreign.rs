//! The cost of a packet that is not ours: every packet of an attached interface passes the program.

use anyhow::{Result, ensure};
use brattice_tests::packets::{
    corpus,
    node::{Hook, Node},
};

use super::Plan;
use crate::{
    peers::Peers,
    sample::{Figure, Sample},
    table::Table,
};

/// Runs of the program for each packet.
const REPEAT: u32 = 20_000;
/// Packets of the corpus, of all kinds.
const PACKETS: usize = 200;

pub(super) fn run(_peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let mut table = Table::new(
        "foreign packets through `workload_ingress`",
        format!(
            "BPF_PROG_TEST_RUN, {REPEAT} runs of each of {PACKETS} packets of a mixed corpus; without the hook's own cost"
        ),
        &[Figure::PerPacket],
    );
    let packets = corpus::foreign(7, PACKETS);
    for _ in 0..plan.rounds {
        for (row, mut node) in [("not configured", Node::unconfigured()), ("configured", Node::new())] {
            let time = |packet: &Vec<u8>| node.time_ns(Hook::Ingress, packet, REPEAT);
            let times: Vec<f64> = packets.iter().filter_map(time).collect();
            ensure!(times.len() > PACKETS / 2, "the kernel ran only {} of {PACKETS} packets", times.len());
            table.add(row, Sample::from([(Figure::PerPacket, times.iter().sum::<f64>() / times.len() as f64)]));
        }
    }
    Ok(vec![table])
}
