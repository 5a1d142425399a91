//! What is noted of a decision while it is made: of policies, of rules, of the target group.

use std::borrow::Cow;

use brattice_decide::{Asked as Policies, Rule, Trace};
use brattice_router::rewrite::RewriteError;
use brattice_router::{Failed, RequestHead};
use brattice_wire::explain::{MismatchView, PassedView, RuleView};
use brattice_wire::index::{TargetGroupIndex, VpcIndex};
use brattice_wire::snapshot::{self, Listener, Precedence};

use crate::MAX_PASSED;
use crate::caller::Caller;
use crate::decision::Decided;
use crate::networks::place;
use crate::world::World;

/// Notes the steps of a decision.
pub(crate) struct Noted<'n, 'w> {
    pub(crate) world: &'n World<'w>,
    pub(crate) caller: &'n Caller<'w>,
    /// Name of the service.
    pub(crate) service: &'n str,
    /// None: it has no listener on the port.
    pub(crate) listener: Option<&'n Listener>,
    /// What policies say, where they were asked.
    pub(crate) policies: Option<Decided>,
    /// The rule, where one was looked for.
    pub(crate) rules: Option<RulesNoted>,
    /// The target group that was chosen.
    pub(crate) group: Option<TargetGroupIndex>,
}

/// The rule that is taken, and those before it.
pub(crate) struct RulesNoted {
    /// Position in the listener's list; none: the default action.
    pub(crate) position: Option<usize>,
    /// The path for a target.
    pub(crate) path: Result<String, RewriteError>,
    pub(crate) passed: Vec<PassedView>,
    /// How many more were passed over than are shown.
    pub(crate) passed_more: usize,
    /// Header fields that rules up to the one taken ask about.
    pub(crate) asks: Vec<String>,
    /// Rules whose conditions say otherwise than the router: nothing but a fault of Brattice.
    pub(crate) doubts: Vec<String>,
}

impl<'n, 'w> Noted<'n, 'w> {
    pub(crate) fn new(
        world: &'n World<'w>,
        caller: &'n Caller<'w>,
        service: &'n str,
        listener: Option<&'n Listener>,
    ) -> Self {
        Self { world, caller, service, listener, policies: None, rules: None, group: None }
    }
}

impl Trace for Noted<'_, '_> {
    const POLICIES: bool = true;

    fn policies(&mut self, asked: &Policies<'_>) {
        self.policies = Some(Decided::new(self.world, self.caller, self.service, asked));
    }

    fn rule<R: RequestHead + ?Sized>(&mut self, request: &R, position: Option<usize>, rule: &Rule) {
        let Some(listener) = self.listener else { return };
        let path = match &rule.filters {
            Some(filters) => filters.rewrite(request.path()).map(Cow::into_owned),
            None => Ok(request.path().to_owned()),
        };
        let vpcs = &self.world.snapshot.vpcs;
        let vpc = |index: VpcIndex| {
            let vpc = vpcs.get(index.position());
            vpc.map_or_else(|| index.to_string(), |vpc| format!("`{}`", vpc.name))
        };
        self.rules = Some(RulesNoted::new(listener.precedence, &listener.rules, request, (position, path), &vpc));
    }

    fn group(&mut self, index: TargetGroupIndex) {
        self.group = Some(index);
    }
}

impl RulesNoted {
    /// Why the rules before the one that the router took were passed over; with the position of that one, and the path for a
    /// target. VPCs get their names from `vpc`.
    fn new<R: RequestHead + ?Sized>(
        precedence: Precedence,
        rules: &[snapshot::Rule],
        request: &R,
        (position, path): (Option<usize>, Result<String, RewriteError>),
        vpc: &dyn Fn(VpcIndex) -> String,
    ) -> Self {
        let before = brattice_router::passed_over(precedence, rules, position, request, vpc);
        let taken = position.and_then(|position| rules.get(position));
        let mut doubts = Vec::new();
        let mut failed = Vec::new();
        for own in &before {
            let rule = &rules[own.rule];
            match &own.failed {
                Some(why) => failed.push((rule, why)),
                None => doubts.push(doubt(rule, "passed over", "the request fits all its conditions")),
            }
        }
        if let Some(taken) = taken
            && let Some(why) = brattice_router::mismatch(taken, request, vpc)
        {
            let why = format!("{} wants {}, the request has {}", why.subject, why.wanted, why.found);
            doubts.push(doubt(taken, "taken", &why));
        }
        let passed_more = failed.len().saturating_sub(MAX_PASSED);
        let passed =
            failed[passed_more..].iter().map(|(rule, why)| PassedView { rule: rule_view(rule), because: because(why) });
        let looked_at = before.iter().map(|own| &rules[own.rule]).chain(taken);
        let headers = looked_at.flat_map(|rule| &rule.matches.headers);
        let asks = headers.map(|header| header.name.clone()).collect();
        Self { position, path, passed: passed.collect(), passed_more, asks, doubts }
    }
}

fn doubt(rule: &snapshot::Rule, became: &str, though: &str) -> String {
    format!(
        "the rule {} ({}) was {became}, though {though}: this is a fault of Brattice, please report it",
        rule.name,
        place(&rule.origin)
    )
}

pub(crate) fn rule_view(rule: &snapshot::Rule) -> RuleView {
    RuleView { name: rule.name.clone(), id: rule.id.clone(), priority: rule.priority, origin: place(&rule.origin) }
}

fn because(failed: &Failed) -> MismatchView {
    MismatchView { what: failed.subject.to_string(), expected: failed.wanted.clone(), actual: failed.found.clone() }
}

#[cfg(test)]
mod tests {
    use brattice_wire::rules::{Action, FixedResponse, Match};
    use brattice_wire::snapshot::Origin;

    use super::*;

    struct Get;

    impl RequestHead for Get {
        fn method(&self) -> &str {
            "GET"
        }

        fn host(&self) -> &str {
            "orders"
        }

        fn path(&self) -> &str {
            "/a"
        }

        fn query(&self) -> &str {
            ""
        }

        fn header(&self, _: &str, _: &mut dyn FnMut(&[u8])) {}

        fn port(&self) -> u16 {
            80
        }

        fn source_vpc(&self) -> VpcIndex {
            VpcIndex::new(1)
        }
    }

    /// Why rules about methods and VPCs were passed over, where the router took this one.
    fn noted(taken: Option<usize>) -> RulesNoted {
        let rule = |(name, priority, method, vpcs): (&str, _, Option<&str>, Option<&[usize]>)| {
            let matches = Match {
                method: method.map(str::to_owned),
                source_vpcs: vpcs.map(|vpcs| vpcs.iter().copied().map(VpcIndex::new).collect()),
                ..Match::default()
            };
            snapshot::Rule {
                name: name.to_owned(),
                id: String::new(),
                priority,
                matches,
                filters: snapshot::Filters::default(),
                action: Action::FixedResponse(FixedResponse { status: 200, content_type: None, body: String::new() }),
                origin: Origin::default(),
            }
        };
        let rules =
            [("get", 3, Some("GET"), None), ("post", 1, Some("POST"), None), ("green", 2, None, Some(&[0, 2][..]))];
        let vpc = |index: VpcIndex| {
            ["`green`", "`blue`"].get(index.position()).map_or_else(|| index.to_string(), |name| (*name).to_owned())
        };
        let rules = rules.map(rule);
        RulesNoted::new(Precedence::Priority, &rules, &Get, (taken, Ok("/a".to_owned())), &vpc)
    }

    #[test]
    fn rules_before_the_one_that_was_taken_have_reasons_and_vpcs_their_names() {
        let noted = noted(Some(0));
        let shown: Vec<String> = noted
            .passed
            .iter()
            .map(|own| {
                format!("{}: {} {} {}", own.rule.name, own.because.what, own.because.expected, own.because.actual)
            })
            .collect();
        assert_eq!(shown, ["post: method `POST` `GET`", "green: source VPC `green` or 2 `blue`"]);
        assert!(noted.doubts.is_empty(), "{:?}", noted.doubts);
    }

    #[test]
    fn a_router_that_took_another_rule_than_its_conditions_say_is_reported() {
        for (taken, doubts) in [
            (None, &["the rule get (:0) was passed over, though the request fits all its conditions"][..]),
            (Some(1), &["the rule post (:0) was taken, though method wants `POST`, the request has `GET`"]),
            (Some(2), &["the rule green (:0) was taken, though source VPC wants `green` or 2, the request has `blue`"]),
        ] {
            let found = noted(taken).doubts;
            let found: Vec<&str> = found.iter().map(|doubt| doubt.split(": ").next().unwrap_or_default()).collect();
            assert_eq!(found, doubts, "{taken:?}");
        }
    }
}
