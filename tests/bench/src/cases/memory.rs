//! What kept connections cost.

use anyhow::Result;

use super::{Plan, start};
use crate::{
    load::held::Held,
    peers::{Kind, Peers},
    sample::{self, Figure, Sample},
    table::Table,
};

pub(super) fn run(peers: &mut Peers, plan: &Plan) -> Result<Vec<Table>> {
    let kinds = plan.kinds.iter().copied().filter(|kind| *kind != Kind::Direct).collect();
    let peers = start(peers, &Plan { kinds, ..plan.clone() })?;
    let mut table = Table::new(
        "memory of the peer's processes with kept connections",
        "resident; each connection after one answered request",
        &[Figure::Mib, Figure::KibPerConnection],
    );
    for peer in &peers {
        let mut held = Held::none();
        let mut none = 0.0;
        for connections in [0, 1_000, 10_000] {
            if let Err(error) = held.grow(peer, connections) {
                table
                    .note
                    .push_str(&format!("; {}: {connections} connections were not to be had ({error:#})", peer.name));
                break;
            }
            let mib = sample::memory(peer);
            let mut sample = Sample::from([(Figure::Mib, mib)]);
            if connections == 0 {
                none = mib;
            } else {
                sample.insert(Figure::KibPerConnection, (mib - none) * 1_024.0 / connections as f64);
            }
            table.add(&format!("{}, {connections} connections", peer.name), sample);
        }
    }
    Ok(vec![table])
}
