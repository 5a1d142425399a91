//! The levels a request must pass, and the decision.

use crate::compiled::{Compiled, Mode, Says};
use crate::policy::Statement;
use crate::request::{Facts, Request, Scratch, Work};

/// A level that a request must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The policy of the caller's role.
    Identity,
    /// The policy of a service network.
    Network,
    /// The policy of the service.
    Service,
}

impl Level {
    /// Lattice's `authDeniedReason`.
    pub const fn denied_reason(self) -> &'static str {
        match self {
            Self::Identity => "Identity",
            Self::Network => "Network",
            Self::Service => "Service",
        }
    }

    /// As ids and messages have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Network => "network",
            Self::Service => "service",
        }
    }
}

/// The policy at a level, or its absence.
#[derive(Clone, Copy, Debug, Default)]
pub enum Guard<'p> {
    /// Nothing: `authType` is `NONE`; a role without a policy; a caller without a role.
    #[default]
    Open,
    /// A policy.
    Policy(&'p Compiled),
    /// `authType` is `AWS_IAM` and there is no policy: all is refused. With the name of what lacks it.
    Missing(&'p str),
}

/// A service network that caller's VPC and service share.
#[derive(Clone, Copy, Debug)]
pub struct Network<'p> {
    /// ARN.
    pub arn: &'p str,
    /// Its policy, or the absence of one.
    pub guard: Guard<'p>,
}

/// All that a request must pass.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'p> {
    /// The caller's role.
    pub identity: Guard<'p>,
    /// The networks that the call could come through: none may deny, one must allow.
    pub networks: &'p [Network<'p>],
    /// The service.
    pub service: Guard<'p>,
}

/// Why a level refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A Deny statement is about the request: its position in the policy.
    Statement(u32),
    /// No Allow statement is about it.
    Default,
    /// There is no policy to allow it.
    NoPolicy,
    /// Caller and service share no service network.
    NoNetwork,
}

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The level that decided.
    pub level: Level,
    /// The network through which the request was looked at, by its place in the chain; of a denial by role or service the
    /// one with which it came furthest.
    pub network: Option<u32>,
    /// Why.
    pub cause: Cause,
}

/// The decision. Small, and made without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why it was refused; none: it is allowed.
    pub denial: Option<Denial>,
    /// The network it comes through, if it is allowed, by its place in the chain.
    pub network: Option<u32>,
    /// The statements that allow it at identity, network and service level; none where the level is open or audited.
    pub statements: [Option<u32>; 3],
    /// The denial that would have refused it, had it not been a policy in audit mode: the first one.
    pub audited: Option<Denial>,
}

impl Decision {
    /// Whether the request may pass.
    pub const fn is_allowed(&self) -> bool {
        self.denial.is_none()
    }

    /// Lattice's `authDeniedReason`.
    pub fn denied_reason(&self) -> Option<&'static str> {
        self.denial.map(|denial| denial.level.denied_reason())
    }
}

/// The outcome of a level for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass(Option<u32>),
    Refuse(Cause),
}

impl Chain<'_> {
    /// Decides. Explicit denials anywhere come first, in the order identity, network, service; then the first level that
    /// does not allow, seen through the network with which the request comes furthest.
    pub fn decide(&self, request: &Request<'_>, scratch: &mut Scratch) -> Decision {
        let Scratch { resource, work } = scratch;
        resource.clear();
        resource.push_str(request.service_arn);
        resource.push_str(request.http.map_or("", |http| http.path));
        let mut state = State::default();
        let (mut identity, mut service) = (None, None);
        for (number, network) in (0u32..).zip(self.networks) {
            let facts = Facts { request, network: Some(network.arn) };
            // What does not ask for the network is asked once.
            let at_identity = *identity.get_or_insert_with(|| self.identity.outcome(resource, &facts, work));
            let at_network = network.guard.outcome(resource, &facts, work);
            let at_service = *service.get_or_insert_with(|| self.service.outcome(resource, &facts, work));
            state.add(self, number, [at_identity, at_network, at_service]);
            if self.identity.reads_network() {
                identity = None;
            }
            if self.service.reads_network() {
                service = None;
            }
        }
        state.finish()
    }

    /// The policy at a level, or its absence.
    pub fn guard(&self, level: Level, network: Option<u32>) -> Option<Guard<'_>> {
        match level {
            Level::Identity => Some(self.identity),
            Level::Service => Some(self.service),
            Level::Network => {
                let network = self.networks.get(usize::try_from(network?).ok()?)?;
                Some(network.guard)
            }
        }
    }

    /// The policy at a level.
    pub fn policy(&self, level: Level, network: Option<u32>) -> Option<&Compiled> {
        match self.guard(level, network)? {
            Guard::Policy(compiled) => Some(compiled),
            _ => None,
        }
    }

    /// The statement that refused.
    pub fn statement(&self, denial: &Denial) -> Option<(&Compiled, &Statement)> {
        let Cause::Statement(position) = denial.cause else { return None };
        let compiled = self.policy(denial.level, denial.network)?;
        Some((compiled, compiled.policy().statements.get(usize::try_from(position).ok()?)?))
    }
}

impl Guard<'_> {
    fn reads_network(&self) -> bool {
        matches!(self, Self::Policy(compiled) if compiled.reads_network())
    }

    fn is_audited(&self) -> bool {
        matches!(self, Self::Policy(compiled) if compiled.mode() == Mode::Audit)
    }

    fn outcome(&self, resource: &str, facts: &Facts<'_>, work: &mut Work) -> Outcome {
        match self {
            Self::Open => Outcome::Pass(None),
            Self::Missing(_) => Outcome::Refuse(Cause::NoPolicy),
            Self::Policy(compiled) => match compiled.says(resource, facts, work) {
                Says::Allow(position) => Outcome::Pass(Some(position)),
                Says::Deny(position) => Outcome::Refuse(Cause::Statement(position)),
                Says::Nothing => Outcome::Refuse(Cause::Default),
            },
        }
    }
}

const LEVELS: [Level; 3] = [Level::Identity, Level::Network, Level::Service];

/// The decision as far as networks were looked at.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The first explicit denial of each level.
    explicit: [Option<Denial>; 3],
    /// The refusal of the network with which the request came furthest.
    furthest: Option<Denial>,
    allowed: Option<(u32, [Option<u32>; 3])>,
    audited: Option<Denial>,
}

impl State {
    /// What the levels do with the request through one network.
    pub(crate) fn add(&mut self, chain: &Chain<'_>, number: u32, outcomes: [Outcome; 3]) {
        let mut statements = [None; 3];
        let mut refusal = None;
        for (index, (level, outcome)) in LEVELS.into_iter().zip(outcomes).enumerate() {
            let cause = match outcome {
                Outcome::Pass(statement) => {
                    statements[index] = statement;
                    continue;
                }
                Outcome::Refuse(cause) => cause,
            };
            let denial = Denial { level, network: Some(number), cause };
            if chain.guard(level, Some(number)).is_some_and(|guard| guard.is_audited()) {
                self.audited.get_or_insert(denial);
                continue;
            }
            if matches!(cause, Cause::Statement(_)) {
                self.explicit[index].get_or_insert(denial);
            }
            refusal.get_or_insert(denial);
        }
        match refusal {
            None => {
                self.allowed.get_or_insert((number, statements));
            }
            Some(denial) if self.furthest.is_none_or(|best| denial.level > best.level) => self.furthest = Some(denial),
            Some(_) => {}
        }
    }

    pub(crate) fn finish(self) -> Decision {
        let [identity, network, service] = self.explicit;
        let denied =
            |denial| Decision { denial: Some(denial), network: None, statements: [None; 3], audited: self.audited };
        if let Some(denial) = identity.or(network).or(service) {
            return denied(denial);
        }
        match (self.allowed, self.furthest) {
            (Some((network, statements)), _) => {
                Decision { denial: None, network: Some(network), statements, audited: self.audited }
            }
            (None, Some(denial)) => denied(denial),
            (None, None) => denied(Denial { level: Level::Network, network: None, cause: Cause::NoNetwork }),
        }
    }
}
