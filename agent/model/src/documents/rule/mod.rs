//! Rules of a listener.

mod action;
mod filters;
mod matches;
mod value;

use std::collections::HashMap;

use brattice_wire::snapshot::{Filters, FixedResponse, Match, Precedence, Redirect, Stickiness};

use crate::diagnostic::{Diagnostic, Located, Position, quote};
use crate::ids::Identifier;
use crate::limits::{MAX_PRIORITY, MAX_RULES};
use crate::names;
use crate::yaml::{Decoder, Node};

/// A rule of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleDocument {
    /// Name.
    pub name: Located<String>,
    /// 1 to 2000; where the order is by specificity, the place in the list, from 1.
    pub priority: Located<u16>,
    /// Conditions.
    pub matches: MatchDocument,
    /// The action.
    pub action: ActionDocument,
    /// Where it is.
    pub at: Position,
}

/// Conditions of a rule.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MatchDocument {
    /// All but the callers' VPCs.
    pub conditions: Match,
    /// Where the condition on the host is, if there is one.
    pub host_at: Option<Position>,
    /// Where the condition on the port is, if there is one.
    pub port_at: Option<Position>,
    /// VPCs, one of which must be the caller's; none = any.
    pub source_vpcs: Option<Vec<Located<Identifier>>>,
}

/// The action for a request, with its filters.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionDocument {
    /// The action itself.
    pub kind: ActionKind,
    /// Changes of request and response.
    pub filters: Filters,
    /// Where it is.
    pub at: Position,
}

/// The action for a request.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionKind {
    /// To target groups by weight.
    Forward {
        /// The shares.
        groups: Vec<WeightedDocument>,
        /// Stickiness: keeps a caller at a group.
        stickiness: Option<Stickiness>,
    },
    /// A fixed response.
    FixedResponse(FixedResponse),
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

/// A share of a forward.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedDocument {
    /// The target group.
    pub target_group: Located<Identifier>,
    /// 0 to 999.
    pub weight: u16,
}

/// `defaultAction` of a listener.
pub(super) fn default_action(d: &mut Decoder<'_>, node: &Node) -> Option<ActionDocument> {
    action::decode(d, node, None)
}

/// `rules` of a listener, in the order in which they are tried where that is by priority.
pub(super) fn decode(d: &mut Decoder<'_>, node: &Node, precedence: Precedence) -> Vec<RuleDocument> {
    let mut rules = Vec::new();
    for (place, item) in (1u16..).zip(d.list(node, 0..=MAX_RULES, "rules").unwrap_or_default()) {
        rules.extend(rule(d, item, precedence, place));
    }
    unique(d, &rules);
    rules.sort_by_key(|rule: &RuleDocument| rule.priority.value);
    rules
}

fn unique(d: &mut Decoder<'_>, rules: &[RuleDocument]) {
    let (mut by_priority, mut by_name) = (HashMap::new(), HashMap::new());
    for rule in rules {
        if let Some(first) = by_priority.insert(rule.priority.value, &rule.priority.at) {
            let first: &Position = first;
            let message = format!("priority {} is taken by the rule at {}", rule.priority.value, first.place());
            d.report(Diagnostic::error(&rule.priority.at, message).expected("each rule of a listener to have its own"));
        }
        if let Some(first) = by_name.insert(&rule.name.value, &rule.name.at) {
            let first: &Position = first;
            let message = format!("the rule {} is there twice; first at {}", quote(&rule.name), first.place());
            d.report(Diagnostic::error(&rule.name.at, message));
        }
    }
}

fn rule(d: &mut Decoder<'_>, node: &Node, precedence: Precedence, place: u16) -> Option<RuleDocument> {
    let mut fields = d.fields(node, "a rule")?;
    let at = d.at(node.mark);
    let name = fields.need(d, "name").and_then(|node| d.name(node, names::RULE));
    let priority = match precedence {
        Precedence::Priority => fields.need(d, "priority").and_then(|node| {
            let value = d.number(node, 1..=MAX_PRIORITY, "a priority")?;
            Some(Located { value: u16::try_from(value).ok()?, at: d.at(node.mark) })
        }),
        Precedence::MostSpecific => {
            if let Some(node) = fields.take(d, "priority") {
                let diagnostic =
                    d.error(node.mark, "the listener's `rulePrecedence` is `mostSpecific`, so no rule has a priority");
                d.report(diagnostic.help("leave the priority out, or say `rulePrecedence: priority`"));
            }
            Some(Located { value: place, at: at.clone() })
        }
    };
    let matches = fields.need(d, "match").and_then(|node| matches::decode(d, node));
    let path = matches.as_ref().and_then(|matches| matches.conditions.path.as_ref()).map(|path| path.kind);
    let action = fields.need(d, "action").and_then(|node| action::decode(d, node, path));
    fields.read_only(d, &["id", "arn", "isDefault", "createdAt", "lastUpdatedAt"]);
    fields.finish(d);
    Some(RuleDocument { name: name?, priority: priority?, matches: matches?, action: action?, at })
}
