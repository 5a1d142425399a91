//! Listeners and rules of the snapshot.

use brattice_wire::snapshot;

use super::Planner;
use crate::model::{Action, Listener, Rule};

impl<'m> Planner<'m> {
    pub(super) fn listener(&mut self, listener: &'m Listener) -> snapshot::Listener {
        snapshot::Listener {
            name: listener.name.clone(),
            id: listener.id.clone(),
            port: listener.port,
            protocol: listener.protocol,
            forwarded_headers: listener.forwarded_headers,
            precedence: listener.precedence,
            rules: listener.rules.iter().map(|rule| self.rule(rule)).collect(),
            default_filters: listener.default_filters.clone(),
            default_action: self.action(&listener.default_action),
            origin: listener.origin.clone(),
        }
    }

    fn rule(&mut self, rule: &'m Rule) -> snapshot::Rule {
        snapshot::Rule {
            name: rule.name.clone(),
            id: rule.id.clone(),
            priority: rule.priority,
            // VPCs have the same positions in model and snapshot.
            matches: rule.matches.clone(),
            filters: rule.filters.clone(),
            action: self.action(&rule.action),
            origin: rule.origin.clone(),
        }
    }

    fn action(&mut self, action: &'m Action) -> snapshot::Action {
        match action {
            Action::FixedResponse(response) => snapshot::Action::FixedResponse(response.clone()),
            Action::Redirect(redirect) => snapshot::Action::Redirect(redirect.clone()),
            Action::Forward { groups, stickiness } => snapshot::Action::Forward(snapshot::Forward {
                groups: groups
                    .iter()
                    .filter_map(|(name, weight)| {
                        let target_group = self.target_group(name)?;
                        Some(snapshot::WeightedTargetGroup { target_group, weight: *weight })
                    })
                    .collect(),
                stickiness: stickiness.clone(),
            }),
        }
    }
}
