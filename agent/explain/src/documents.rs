//! The state of a node from documents alone: every workload in them exists, and every target can be reached.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use brattice_model::{Binding, Evidence, Model, Numbers, plan};
use brattice_wire::snapshot::{AliasGeneration, Snapshot, WorkloadNumber};

use crate::world::World;

/// Documents, planned as if all that they name were on this node.
#[derive(Debug)]
pub struct Documents<'m> {
    model: &'m Model,
    snapshot: Snapshot,
}

impl<'m> Documents<'m> {
    /// Plans a model.
    pub fn new(model: &'m Model) -> Self {
        let mut bindings = Vec::new();
        let mut held: BTreeSet<(&str, IpAddr)> = BTreeSet::new();
        let mut add = |vpc: &'m str, address: IpAddr, name: &str, evidence: Option<Vec<Evidence>>| {
            // Several without an address of their own may be in one VPC.
            if !address.is_unspecified() && !held.insert((vpc, address)) {
                return;
            }
            let number = u32::try_from(bindings.len() + 1).expect("documents are bounded far below");
            bindings.push(Binding {
                vpc: vpc.to_owned(),
                address,
                // Never shown: there is no alias without a node.
                alias: IpAddr::V4(Ipv4Addr::from(number)),
                name: name.to_owned(),
                documented: evidence.is_some(),
                evidence: evidence.unwrap_or_else(|| vec![Evidence::Interface]),
                number: WorkloadNumber::new(number),
                generation: AliasGeneration::new(1),
            });
        };
        for workload in model.workloads.iter().filter(|workload| workload.status.is_active()) {
            let evidence = workload.evidence();
            let unknown = [IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
            let addresses = if workload.addresses.is_empty() { &unknown[..] } else { &workload.addresses };
            for address in addresses {
                add(&workload.vpc, *address, &workload.name, Some(evidence.clone()));
            }
        }
        for group in model.target_groups.iter().filter(|group| group.status.is_active()) {
            for (address, _) in &group.targets {
                add(&group.vpc, *address, &address.to_string(), None);
            }
        }
        let snapshot = plan(model, &bindings, &mut Numbers::default(), 0).snapshot;
        Self { model, snapshot }
    }

    /// What can be explained by them, at a time in seconds since 1970.
    pub fn world(&self, now: i64) -> World<'_> {
        World { model: self.model, snapshot: &self.snapshot, facts: None, now }
    }
}
