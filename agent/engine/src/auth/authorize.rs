//! The decision about a request.

use std::{
    cell::RefCell,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use brattice_iam::{Cause, Decision, Denial, Http, Level, Scratch};
use brattice_router::hash::FastMap;
use http::HeaderValue;

use super::{
    guards::{Guards, Parties},
    said::{self, Said},
};

/// Ways of which a worker keeps `x-amzn-lattice-target`; when there are more, it begins anew.
const MOST_WAYS: usize = 4_096;

/// What of a call differs from request to request, and the caller's own address.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The caller's real address in its VPC.
    pub address: IpAddr,
    /// The port that it called.
    pub port: u16,
    /// The request; the path as routed.
    pub http: Http<'a>,
}

/// A request may pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Index of the service network it comes through.
    pub network: Option<u32>,
    /// Id of what would have refused it, had that policy not been in audit mode.
    pub audited: Option<Box<str>>,
}

/// A request may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The level that refuses.
    pub level: Level,
    /// Id of the decision: the statement's place, or that of the default denial.
    pub decision: Box<str>,
    /// For the caller.
    pub text: String,
}

/// What is known on a client connection of the service that it called last: the networks in common, and the decision
/// where that is the same for all requests.
#[derive(Debug, Default)]
pub struct Session(RefCell<Known>);

#[derive(Debug, Default)]
struct Known {
    /// [`Guards::edition`]; 0 is none's.
    edition: u64,
    parties: Option<Parties>,
    common: Vec<u32>,
    /// The policies concerned ask for nothing that requests differ in.
    per_connection: bool,
    decision: Option<Decision>,
}

/// A worker's room for decisions.
#[derive(Debug, Default)]
pub struct Authorizer {
    scratch: RefCell<Scratch>,
    common: RefCell<Vec<u32>>,
    ways: RefCell<Ways>,
}

/// `x-amzn-lattice-target` by service, network and target group.
#[derive(Debug, Default)]
struct Ways {
    edition: u64,
    said: FastMap<(u32, Option<u32>, u32), HeaderValue>,
}

impl Authorizer {
    /// Decides about a request. Costs no allocation where it may pass, but for the first request of a connection to a
    /// service at a revision, and for what is audited.
    pub fn authorize(
        &self,
        guards: &Guards,
        session: &Session,
        parties: &Parties,
        call: &Call<'_>,
    ) -> Result<Passed, Box<Refusal>> {
        let mut known = session.0.borrow_mut();
        let known = &mut *known;
        if known.edition != guards.edition() || known.parties != Some(*parties) {
            guards.common(parties, &mut known.common);
            known.edition = guards.edition();
            known.parties = Some(*parties);
            known.per_connection = guards.per_connection(parties, &known.common);
            known.decision = None;
        }
        if !guards.enforced() {
            return Ok(Passed { network: known.common.first().copied(), audited: None });
        }
        let decision = match known.decision {
            Some(decision) => decision,
            None => self.decide(guards, parties, &known.common, call),
        };
        known.decision = Some(decision).filter(|_| known.per_connection);
        // guard: policies
        if let Some(denial) = decision.denial {
            return Err(refusal(guards, parties, &known.common, call, &denial));
        }
        let network = decision.network.and_then(|place| known.common.get(place as usize).copied());
        let audited = decision
            .audited
            .and_then(|denial| guards.with_chain(parties, &known.common, |chain| denial.id(chain).into_boxed_str()));
        Ok(Passed { network, audited })
    }

    /// Why a request that was let through before would be refused now.
    pub(super) fn review(&self, guards: &Guards, parties: &Parties, call: &Call<'_>) -> Option<Box<Refusal>> {
        if !guards.enforced() {
            return None;
        }
        let mut common = self.common.borrow_mut();
        guards.common(parties, &mut common);
        let denial = self.decide(guards, parties, &common, call).denial?;
        Some(refusal(guards, parties, &common, call, &denial))
    }

    fn decide(&self, guards: &Guards, parties: &Parties, common: &[u32], call: &Call<'_>) -> Decision {
        let mut scratch = self.scratch.borrow_mut();
        let decision = guards.with_chain(parties, common, |chain| {
            guards.with_request(parties, call, now(), |request| chain.decide(request, &mut scratch))
        });
        // Parties come from the same snapshot; were one missing, nothing may pass.
        decision.flatten().unwrap_or(Decision {
            denial: Some(Denial { level: Level::Network, network: None, cause: Cause::NoNetwork }),
            network: None,
            statements: [None; 3],
            audited: None,
        })
    }

    /// What the target of a request is told; `network`: through which service network it comes.
    pub(crate) fn said(&self, guards: &Guards, parties: &Parties, network: Option<u32>, group: u32) -> Said {
        let [identity, tags] = guards.identity(parties.workload).map_or([None; 2], super::identity::Identity::said);
        let [of_vpc, source_vpc] = guards.said_of_vpc(parties.vpc);
        Said {
            identity: identity.cloned(),
            tags: tags.cloned(),
            network: of_vpc.cloned(),
            target: self.target(guards, parties.service, network, group),
            source_vpc: source_vpc.cloned(),
        }
    }

    fn target(&self, guards: &Guards, service: u32, network: Option<u32>, group: u32) -> Option<HeaderValue> {
        let mut ways = self.ways.borrow_mut();
        if ways.edition != guards.edition() || ways.said.len() >= MOST_WAYS {
            ways.edition = guards.edition();
            ways.said.clear();
        }
        if let Some(value) = ways.said.get(&(service, network, group)) {
            return Some(value.clone());
        }
        let network_arn = network.and_then(|network| guards.network_arn(network));
        let value = said::target(guards.service_arn(service)?, network_arn, guards.group_arn(group)?)?;
        ways.said.insert((service, network, group), value.clone());
        Some(value)
    }
}

fn refusal(guards: &Guards, parties: &Parties, common: &[u32], call: &Call<'_>, denial: &Denial) -> Box<Refusal> {
    let decision = guards.with_chain(parties, common, |chain| denial.id(chain));
    let text = guards.with_request(parties, call, 0, |request| denial.client_message(request));
    Box::new(Refusal {
        level: denial.level,
        decision: decision.unwrap_or_default().into(),
        text: text.unwrap_or_else(|| "AccessDeniedException".into()),
    })
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
