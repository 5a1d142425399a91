//! Which role a workload calls as.

use std::collections::HashMap;

use crate::documents::Evidence;
use crate::model::{Model, Role, Workload};

/// The roles of a model, indexed by the workloads that they trust.
#[derive(Debug)]
pub struct Roles<'m> {
    roles: &'m [Role],
    /// Positions of roles that trust a workload by name.
    by_workload: HashMap<&'m str, Vec<usize>>,
    /// Of those that trust without a name, in a VPC.
    by_vpc: HashMap<&'m str, Vec<usize>>,
    /// Of those that trust by labels alone: the first label.
    by_label: HashMap<(&'m str, &'m str), Vec<usize>>,
}

/// Why a workload is anonymous although some role was meant for it.
#[derive(Clone, Debug, PartialEq)]
pub enum NoRole<'m> {
    /// `roleIdentifier` names a role that is not there or not in force.
    Missing(&'m str),
    /// `roleIdentifier` names a role that does not trust the workload.
    NotTrusted(&'m Role),
    /// Several roles trust it, and it does not say which it is.
    Several(Vec<&'m Role>),
}

impl<'m> Roles<'m> {
    /// Indexes the roles of a model.
    pub fn new(model: &'m Model) -> Self {
        let mut own =
            Self { roles: &model.roles, by_workload: HashMap::new(), by_vpc: HashMap::new(), by_label: HashMap::new() };
        for (position, role) in model.roles.iter().enumerate().filter(|(_, role)| role.status.is_active()) {
            for trusted in &role.trust {
                for name in &trusted.workloads {
                    push(own.by_workload.entry(name).or_default(), position);
                }
                if !trusted.workloads.is_empty() {
                    continue;
                }
                if let Some(vpc) = &trusted.vpc {
                    push(own.by_vpc.entry(vpc).or_default(), position);
                } else if let Some((key, value)) = trusted.labels.first_key_value() {
                    push(own.by_label.entry((key, value)).or_default(), position);
                }
            }
        }
        own
    }

    /// Positions in [`Model::roles`] of all roles in force that trust a workload, ascending.
    fn trusting(&self, vpc: &str, workload: Option<&Workload>, evidence: &[Evidence]) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        if let Some(workload) = workload {
            found.extend(self.by_workload.get(workload.name.as_str()).into_iter().flatten());
            for (key, value) in &workload.labels {
                found.extend(self.by_label.get(&(key.as_str(), value.as_str())).into_iter().flatten());
            }
        }
        found.extend(self.by_vpc.get(vpc).into_iter().flatten());
        found.sort_unstable();
        found.dedup();
        found.retain(|position| self.roles[*position].trusts(vpc, workload, evidence));
        found
    }

    /// The role that a workload of a VPC (by qualified name) calls as: the one its
    /// document names, else the only one that trusts it. `None`: none was meant for it, and it calls as anonymous.
    ///
    /// # Errors
    /// Some was meant and cannot be; it calls as anonymous all the same.
    pub fn of<'w: 'm>(
        &self,
        vpc: &str,
        workload: Option<&'w Workload>,
        evidence: &[Evidence],
    ) -> Result<Option<&'m Role>, NoRole<'m>> {
        if let Some(name) = workload.and_then(|workload| workload.role.as_deref()) {
            let found = self.roles.binary_search_by(|role| role.name.as_str().cmp(name));
            let position = found.ok().filter(|position| self.roles[*position].status.is_active());
            let position = position.ok_or(NoRole::Missing(name))?;
            let role = &self.roles[position];
            return if role.trusts(vpc, workload, evidence) { Ok(Some(role)) } else { Err(NoRole::NotTrusted(role)) };
        }
        match self.trusting(vpc, workload, evidence)[..] {
            [] => Ok(None),
            [only] => Ok(Some(&self.roles[only])),
            ref several => Err(NoRole::Several(several.iter().map(|position| &self.roles[*position]).collect())),
        }
    }
}

/// Positions come in ascending order.
fn push(list: &mut Vec<usize>, position: usize) {
    if list.last() != Some(&position) {
        list.push(position);
    }
}
