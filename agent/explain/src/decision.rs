//! What the policies decide, level by level.

use std::collections::BTreeMap;

use brattice_iam::{
    Caller as Principal, CallerKind, Cause, Chain, Change, Compiled, Denial, Explanation, Failed, Guard, Http, Key,
    Level, LevelReport, Network, Query, Request, Scratch, State,
};
use brattice_model::{Model, PolicyResource};
use brattice_wire::auth::AuthType;
use brattice_wire::explain::{DecisionView, LevelView, MismatchView, NearMissView};
use brattice_wire::{auth, snapshot};

use crate::caller::Caller;
use crate::request::{Asked, Headers};
use crate::roles;
use crate::world::World;

/// What was decided, for the rest of the explanation.
pub(crate) struct Decided {
    pub(crate) view: DecisionView,
    /// Why it is refused, in a sentence.
    pub(crate) summary: String,
    pub(crate) remedy: Vec<String>,
    /// Header fields that a policy asks about.
    pub(crate) asks: Vec<String>,
}

/// The policies that a call passes.
struct Levels<'w> {
    identity: Option<Compiled>,
    networks: Vec<(&'w auth::Network, Option<Compiled>)>,
    service: Option<Compiled>,
}

/// The networks that VPC and service have in common, in order.
pub(crate) fn common<'w>(
    world: &World<'w>,
    vpc: &snapshot::Vpc,
    service: &snapshot::Service,
) -> Vec<&'w auth::Network> {
    let both = vpc.networks.iter().filter(|index| service.networks.contains(index));
    both.filter_map(|index| world.snapshot.networks.get(usize::try_from(*index).ok()?)).collect()
}

impl<'w> Levels<'w> {
    fn new(world: &World<'w>, caller: &Caller<'_>, service: &snapshot::Service) -> Self {
        let model = world.model;
        let of = |resource: &PolicyResource| {
            let own = model.policy(resource)?;
            Some(Compiled::new(own.policy.clone(), own.resource.name(), own.mode))
        };
        let role = caller.role.as_ref().and_then(|role| model.role(&role.name));
        Self {
            identity: role.and_then(|role| {
                Some(Compiled::new(role.policy.clone()?, role.name.as_str(), brattice_iam::Mode::Enforce))
            }),
            networks: common(world, caller.from, service)
                .into_iter()
                .map(|network| {
                    let own = of(&PolicyResource::ServiceNetwork(network.name.clone()));
                    (network, own.filter(|_| network.auth_type == AuthType::AwsIam))
                })
                .collect(),
            service: of(&PolicyResource::Service(service.name.clone()))
                .filter(|_| service.auth_type == AuthType::AwsIam),
        }
    }
}

fn guard<'p>(auth: AuthType, policy: Option<&'p Compiled>, name: &'p str) -> Guard<'p> {
    match (auth, policy) {
        (AuthType::None, _) => Guard::Open,
        (AuthType::AwsIam, Some(policy)) => Guard::Policy(policy),
        (AuthType::AwsIam, None) => Guard::Missing(name),
    }
}

/// Hands the policies that a call passes, and the call, to `use_it`.
fn with_chain<R>(
    world: &World<'_>,
    caller: &Caller<'_>,
    service: &snapshot::Service,
    asked: &Asked,
    use_it: impl FnOnce(&Levels<'_>, &Chain<'_>, &Request<'_>) -> R,
) -> R {
    let levels = Levels::new(world, caller, service);
    let networks: Vec<Network<'_>> = levels
        .networks
        .iter()
        .map(|(network, policy)| Network {
            arn: &network.arn,
            guard: guard(network.auth_type, policy.as_ref(), &network.name),
        })
        .collect();
    let chain = Chain {
        identity: levels.identity.as_ref().map_or(Guard::Open, Guard::Policy),
        networks: &networks,
        service: guard(service.auth_type, levels.service.as_ref(), &service.name),
    };
    let tags = |tags: &[(String, String)]| -> BTreeMap<String, String> { tags.iter().cloned().collect() };
    let (caller_tags, service_tags) =
        (tags(caller.role.as_ref().map_or(&[], |role| role.tags.as_slice())), tags(&service.tags));
    let role = caller.role.as_ref();
    let paths: Vec<&str> = role.map_or(&[][..], |role| &role.organization_paths).iter().map(String::as_str).collect();
    let evidence: Vec<&str> = caller.evidence.iter().map(String::as_str).collect();
    let (headers, query) = (Headers(asked), Query(&asked.query));
    let request = Request {
        caller: match role {
            None => Principal::anonymous(),
            Some(role) => Principal {
                kind: CallerKind::Role,
                name: &role.arn,
                session: caller.attested.as_deref(),
                provider: None,
                account: Some(&role.account),
                organization: role.organization.as_deref(),
                organization_paths: &paths,
                tags: &caller_tags,
                user_id: None,
            },
        },
        attested: caller.attested.as_deref(),
        evidence: &evidence,
        service_arn: &service.arn,
        service_account: &service.account,
        service_tags: &service_tags,
        port: asked.port,
        source_vpc: Some(&caller.from.id),
        source_vpc_account: Some(caller.from.account.as_str()).filter(|account| !account.is_empty()),
        source_ip: caller.address,
        secure: false,
        now: world.now,
        http: Some(Http {
            method: &asked.method,
            path: asked.path.as_deref().unwrap_or_default(),
            headers: &headers,
            query: &query,
        }),
    };
    use_it(&levels, &chain, &request)
}

/// Decides about a call and says why.
pub(crate) fn decide(world: &World<'_>, caller: &Caller<'_>, service: &snapshot::Service, asked: &Asked) -> Decided {
    let mut decided = with_chain(world, caller, service, asked, |levels, chain, request| {
        let explanation = chain.explain(request);
        // What is shown is what is enforced: the engine's way of deciding has the last word.
        debug_assert_eq!(explanation.decision, chain.decide(request, &mut Scratch::default()));
        let names: Vec<&str> = levels.networks.iter().map(|(network, _)| network.name.as_str()).collect();
        let teller = Teller { chain, networks: &names, caller, service: &service.name };
        Decided {
            view: teller.view(&explanation, request),
            summary: teller.summary(&explanation),
            remedy: explanation.remedy.iter().map(|change| teller.remedy(world.model, change)).collect(),
            asks: asks(levels),
        }
    });
    if !decided.view.allowed && caller.role.is_none() {
        let roles = roles::that_may(world, caller, |caller| {
            with_chain(world, caller, service, asked, |_, chain, request| {
                chain.decide(request, &mut Scratch::default()).is_allowed()
            })
        });
        // The least change comes first: no policy is touched where the workload can be somebody who may.
        if !roles.is_empty()
            && let Some(first) = decided.remedy.first_mut()
        {
            *first = format!("or, for this workload alone and without a role: {first}");
        }
        decided.remedy.splice(0..0, roles);
    }
    decided
}

/// Header fields that the policies ask about.
fn asks(levels: &Levels<'_>) -> Vec<String> {
    let networks = levels.networks.iter().filter_map(|(_, policy)| policy.as_ref());
    let all = levels.identity.iter().chain(networks).chain(&levels.service);
    let keys = all.flat_map(|compiled| compiled.policy().keys());
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

    fn remedy(&self, model: &Model, change: &Change) -> String {
        let Change::Create { policy, document } = change else { return change.to_string() };
        // Where it should be written is known here.
        let origin = match policy.level {
            Level::Network => model.network(&policy.name).map(|network| &network.origin),
            _ => model.service(&policy.name).map(|service| &service.origin),
        };
        let beside = origin.map_or_else(String::new, |origin| format!(" beside {}", origin.file()));
        format!("write an AuthPolicy for {} {}{beside}: {document}", policy.level.word(), policy.name)
    }
}

/// `file:line#Sid`, as decisions name it.
fn statement(compiled: &Compiled, position: u32) -> String {
    compiled.policy().statement_id(usize::try_from(position).unwrap_or(usize::MAX))
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
        "the policy of {resource} ({}) is Inactive: authType is NONE, so it refuses nobody",
        crate::networks::place(&policy.origin)
    ))
}
