//! What is noted of a decision while it is made: of policies, of rules, of the target group.

use std::borrow::Cow;

use brattice_decide::{Asked as Policies, Rule, Trace};
use brattice_router::rewrite::RewriteError;
use brattice_router::{Failed, RequestHead, Subject};
use brattice_wire::explain::{MismatchView, PassedView, RuleView};
use brattice_wire::index::TargetGroupIndex;
use brattice_wire::snapshot::{self, Listener, Snapshot};

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
        let verdicts = brattice_router::explain(listener.precedence, &listener.rules, request);
        let taken = verdicts.last().filter(|verdict| verdict.failed.is_none()).map(|verdict| verdict.rule);
        // The reasons are of the rules that were passed over, so both must have taken the same one.
        debug_assert_eq!(taken, position, "explained and taken rule differ");
        let failed: Vec<_> = verdicts.iter().filter_map(|own| Some((own.rule, own.failed.as_ref()?))).collect();
        let passed_more = failed.len().saturating_sub(MAX_PASSED);
        let passed = failed[passed_more..].iter().map(|(rule, failed)| PassedView {
            rule: rule_view(&listener.rules[*rule]),
            because: because(self.world.snapshot, failed),
        });
        let asks = verdicts.iter().flat_map(|verdict| {
            let headers = listener.rules[verdict.rule].matches.headers.iter();
            headers.map(|header| header.name.clone())
        });
        self.rules = Some(RulesNoted { position, path, passed: passed.collect(), passed_more, asks: asks.collect() });
    }

    fn group(&mut self, index: TargetGroupIndex) {
        self.group = Some(index);
    }
}

pub(crate) fn rule_view(rule: &snapshot::Rule) -> RuleView {
    RuleView { name: rule.name.clone(), id: rule.id.clone(), priority: rule.priority, origin: place(&rule.origin) }
}

fn because(snapshot: &Snapshot, failed: &Failed) -> MismatchView {
    let (expected, actual) = match failed.subject {
        // The router knows VPCs by number.
        Subject::SourceVpc => (vpcs(snapshot, &failed.wanted), vpcs(snapshot, &failed.found)),
        _ => (failed.wanted.clone(), failed.found.clone()),
    };
    MismatchView { what: failed.subject.to_string(), expected, actual }
}

/// Numbers of VPCs, as the router lists them, by name.
fn vpcs(snapshot: &Snapshot, numbers: &str) -> String {
    let name = |number: &str| {
        let vpc = number.parse::<usize>().ok().and_then(|index| snapshot.vpcs.get(index));
        vpc.map_or_else(|| number.to_owned(), |vpc| format!("`{}`", vpc.name))
    };
    numbers.split(" or ").map(name).collect::<Vec<_>>().join(" or ")
}
