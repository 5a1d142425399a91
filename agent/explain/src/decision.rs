//! What the policies decide, level by level.

use brattice_decide::{Asked as PoliciesAsked, Authorizer, Connection, Untraced};
use brattice_iam::{
    Cause, Chain, Change, Compiled, Denial, Explanation, Failed, Guard, Key, Level, LevelReport, Request, State,
};
use brattice_model::{Evidence, Model, PolicyResource, session_arn};
use brattice_wire::auth::AuthType;
use brattice_wire::explain::{DecisionView, LevelView, MismatchView, NearMissView};
use brattice_wire::index::NetworkIndex;
use brattice_wire::{auth, snapshot};

use crate::caller::{Caller, as_role};
use crate::request::Asked;
use crate::roles::{Roleless, put_first, roles_that_may};
use crate::scope::{self, Scope};
use crate::world::World;

/// What was decided, for the rest of the explanation.
pub(crate) struct Decided {
    pub(crate) view: DecisionView,
    /// Why it is refused, in a sentence.
    pub(crate) summary: String,
    pub(crate) remedy: Vec<String>,
    /// Header fields that a policy asks about.
    pub(crate) asks: Vec<String>,
    /// Where the explanation differs from the decision: nothing but a fault of Brattice.
    pub(crate) doubt: Option<String>,
}

/// The networks that VPC and service have in common, in order.
pub(crate) fn common<'w>(
    world: &World<'w>,
    vpc: &snapshot::Vpc,
    service: &snapshot::Service,
) -> Vec<&'w auth::Network> {
    let both = vpc.networks.iter().filter(|index| service.networks.contains(index));
    both.filter_map(|index| world.snapshot.networks.get(index.position())).collect()
}

impl Decided {
    /// What the policies decided when they were asked.
    pub(crate) fn new(world: &World<'_>, caller: &Caller<'_>, service: &str, asked: &PoliciesAsked<'_>) -> Self {
        let explanation = asked.chain.explain(asked.request);
        let doubt = (explanation.decision != *asked.decision).then(|| {
            let word = if asked.decision.is_allowed() { "allow" } else { "deny" };
            format!("the policies {word} it, but not as shown here: this is a fault of Brattice, please report it")
        });
        let name = |index: &NetworkIndex| {
            let network = world.snapshot.networks.get(index.position());
            network.map_or("", |network| network.name.as_str())
        };
        let names: Vec<&str> = asked.networks.iter().map(name).collect();
        let teller = Teller { chain: asked.chain, networks: &names, caller, service };
        Self {
            view: teller.view(&explanation, asked.request),
            summary: teller.summary(&explanation),
            remedy: explanation.remedy.iter().flat_map(|change| teller.remedy(world.model, change)).collect(),
            asks: asks(asked.chain),
            doubt,
        }
    }

    /// Puts first which roles would let a workload pass that has none: then no policy needs to be touched.
    pub(crate) fn suggest_roles(&mut self, world: &World<'_>, scope: &Scope, caller: &Caller<'_>, asked: &Asked) {
        if self.view.allowed || caller.role.is_some() {
            return;
        }
        let Some(name) = &caller.view.workload else { return };
        let (model, vpc) = (world.model, caller.view.vpc.as_str());
        let document = model.workloads.iter().find(|workload| workload.name == *name && workload.vpc == vpc);
        let known = |evidence: &Evidence| caller.evidence.iter().any(|word| word == evidence.word());
        let evidence: Vec<Evidence> = Evidence::ALL.into_iter().filter(known).collect();
        let authorizer = Authorizer::default();
        let roles = roles_that_may(model, Roleless { vpc, document, evidence: &evidence }, |role| {
            let caller = &Caller {
                role: Some(as_role(model, role)),
                attested: Some(session_arn(role, model, name)),
                ..caller.clone()
            };
            let own = scope::identity(model, caller);
            let call = scope.call(world, caller, &own, asked.port);
            let connection = Connection::default();
            authorizer.authorize(&scope.compiled, &connection, &call, Some(asked), &mut Untraced).is_ok()
        });
        put_first(roles, &mut self.remedy);
    }
}

/// Header fields that the policies ask about.
fn asks(chain: &Chain<'_>) -> Vec<String> {
    let networks = chain.networks.iter().map(|network| network.guard);
    let guards = std::iter::once(chain.identity).chain(networks).chain([chain.service]);
    let policies = guards.filter_map(|guard| if let Guard::Policy(compiled) = guard { Some(compiled) } else { None });
    let keys = policies.flat_map(|compiled| compiled.policy().keys());
    keys.filter_map(|key| match key {
        Key::RequestHeader(name) => Some(name.to_string()),
        Key::UserAgent => Some("user-agent".to_owned()),
        _ => None,
    })
    .collect()
}

/// Tells of a decision.
struct Teller<'a, 'w> {
    chain: &'a Chain<'a>,
    networks: &'a [&'a str],
    caller: &'a Caller<'w>,
    service: &'a str,
}

impl Teller<'_, '_> {
    fn network(&self, number: Option<u32>) -> Option<&str> {
        self.networks.get(usize::try_from(number?).ok()?).copied()
    }

    fn view(&self, explanation: &Explanation, request: &Request<'_>) -> DecisionView {
        let decision = &explanation.decision;
        DecisionView {
            allowed: decision.is_allowed(),
            denied_at: decision.denied_reason().map(str::to_owned),
            id: decision.denial.map(|denial| denial.id(self.chain)),
            audited: decision.audited.map(|denial| denial.id(self.chain)),
            network: self.network(decision.network).map(str::to_owned),
            message: decision.denial.map(|denial| denial.client_message(request)),
            levels: explanation.levels.iter().map(|report| self.level(report)).collect(),
        }
    }

    fn level(&self, report: &LevelReport) -> LevelView {
        let compiled = self.chain.policy(report.level, report.network.or(Some(0)));
        let statement = |position: &u32| compiled.map_or_else(String::new, |compiled| statement(compiled, *position));
        let name = match report.level {
            Level::Identity => match &self.caller.role {
                Some(role) => format!("role {}", role.name),
                None => "anonymous".to_owned(),
            },
            Level::Network => format!("service network {}", self.network(report.network).unwrap_or_default()),
            Level::Service => format!("service {}", self.service),
        };
        let denies = !report.denying.is_empty();
        let (state, verdict) = match report.state {
            State::Open => ("open", "passes"),
            State::Missing => ("no-policy", "does not allow"),
            State::Enforced if denies => ("policy", "denies"),
            State::Enforced if report.allowing.is_empty() => ("policy", "does not allow"),
            State::Enforced => ("policy", "passes"),
            State::Audited if denies => ("audit", "passes, would deny"),
            State::Audited if report.allowing.is_empty() => ("audit", "passes, would not allow"),
            State::Audited => ("audit", "passes"),
        };
        LevelView {
            level: report.level.word().to_owned(),
            name,
            state: state.to_owned(),
            verdict: verdict.to_owned(),
            denying: report.denying.iter().map(statement).collect(),
            allowing: report.allowing.iter().map(statement).collect(),
            near: report
                .near
                .iter()
                .map(|near| NearMissView {
                    statement: statement(&near.position),
                    failed: near.failed.iter().map(mismatch).collect(),
                })
                .collect(),
        }
    }

    /// Why it is refused.
    fn summary(&self, explanation: &Explanation) -> String {
        let Some(denial) = explanation.decision.denial else { return String::new() };
        let (whose, id) = (self.whose(&denial), denial.id(self.chain));
        match denial.cause {
            Cause::Statement(_) => format!("the statement {id} of {whose} denies it"),
            Cause::Default => format!("no statement of {whose} allows it ({id})"),
            Cause::NoPolicy => format!("{whose} is missing, and authType is AWS_IAM ({id})"),
            Cause::NoNetwork => "caller and service share no service network (no-network)".to_owned(),
        }
    }

    fn whose(&self, denial: &Denial) -> String {
        match denial.level {
            Level::Identity => {
                let role = self.caller.role.as_ref().map_or("", |role| &role.name);
                format!("the policy of the role {role}")
            }
            Level::Network => {
                format!("the policy of the service network {}", self.network(denial.network).unwrap_or_default())
            }
            Level::Service => format!("the policy of the service {}", self.service),
        }
    }

    fn remedy(&self, model: &Model, change: &Change) -> Vec<String> {
        let Change::Create { policy, document } = change else { return change.lines() };
        // Where it should be written is known here.
        let origin = match policy.level {
            Level::Network => model.network(&policy.name).map(|network| &network.origin),
            _ => model.service(&policy.name).map(|service| &service.origin),
        };
        let beside = origin.map_or_else(String::new, |origin| format!(" beside {}", origin.file()));
        vec![format!("write an AuthPolicy for {} {}{beside}: {document}", policy.level.word(), policy.name)]
    }
}

/// `file:line#Sid`, as decisions name it.
fn statement(compiled: &Compiled, position: u32) -> String {
    compiled.policy().statement_id(position as usize)
}

fn mismatch(failed: &Failed) -> MismatchView {
    match failed {
        Failed::Principal { expected, actual } => {
            MismatchView { what: "Principal".to_owned(), expected: expected.clone(), actual: actual.clone() }
        }
        Failed::Action { expected, actual } => {
            MismatchView { what: "Action".to_owned(), expected: expected.clone(), actual: (*actual).to_owned() }
        }
        Failed::Resource { expected, actual, .. } => MismatchView {
            what: "Resource".to_owned(),
            expected: format!("{expected}{}", failed.note()),
            actual: actual.clone(),
        },
        Failed::Condition { key, operator, negated, expected, actual, at, .. } => {
            let list =
                |values: &[String]| values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
            let wants = match (operator.as_str(), *negated, expected.len()) {
                ("Null", ..) => expected.join(" or "),
                (_, true, _) => format!("none of {}", list(expected)),
                (_, false, 1) => list(expected),
                (_, false, _) => format!("one of {}", list(expected)),
            };
            MismatchView {
                what: format!("{operator} {key} (line {})", at.line),
                expected: format!("{wants}{}", failed.note()),
                actual: if actual.is_empty() { "nothing".to_owned() } else { list(actual) },
            }
        }
    }
}

/// Whether a policy stands behind this attachment that is not in force.
pub(crate) fn inactive(model: &Model, resource: &PolicyResource, auth: AuthType) -> Option<String> {
    let policy = model.policy(resource).filter(|_| auth == AuthType::None)?;
    Some(format!(
        "the policy of {resource} ({}) is Inactive: authType is NONE, so it refuses no caller",
        crate::networks::place(&policy.origin)
    ))
}
