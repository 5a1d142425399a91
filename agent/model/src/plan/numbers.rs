//! Numbers of services on this node.

use std::collections::{BTreeMap, BTreeSet};

use brattice_wire::snapshot::ServiceNumber;
use serde::{Deserialize, Serialize};

use crate::model::Model;

/// Numbers of services on this node: stable for as long as a service exists, never given twice. Kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Numbers {
    /// The last number given.
    last: ServiceNumber,
    /// Service id → number.
    services: BTreeMap<String, ServiceNumber>,
}

impl Numbers {
    /// The number of a service by id.
    pub fn get(&self, service_id: &str) -> Option<ServiceNumber> {
        self.services.get(service_id).copied()
    }

    /// Numbers for all services of a model; forgets those that are gone.
    pub(super) fn update(&mut self, model: &Model) {
        let ids: BTreeSet<&str> = model.services.iter().map(|service| service.id.as_str()).collect();
        self.services.retain(|id, _| ids.contains(id.as_str()));
        // A state file written by hand could say less than what is in use.
        self.last = self.services.values().copied().fold(self.last, ServiceNumber::max);
        for id in ids {
            if !self.services.contains_key(id) {
                // 0 means "no service" in the kernel maps. 4 billion services later numbers start again; none of the
                // first lives that long beside them.
                self.last = ServiceNumber::new(self.last.get().checked_add(1).unwrap_or(1));
                self.services.insert(id.to_owned(), self.last);
            }
        }
    }
}
