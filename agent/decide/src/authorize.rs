//! Authorization of a call by policies.

use std::cell::RefCell;

use brattice_iam::{Cause, Decision, Denial, Http, Level, Query, Scratch};
use brattice_wire::index::{NetworkIndex, ServiceIndex};

use crate::{
    call::Call,
    compiled::Compiled,
    head::{Fields, Head},
    trace::{Asked, Trace, Untraced},
    verdict::{Passed, Refusal},
};

/// What is known on a client connection of the service that it called last: the networks in common, and the decision where
/// that is the same for all requests. A connection has one caller, one port and one transport for as
/// long as it lives: code that makes up identities makes one `Connection` for each.
#[derive(Debug, Default)]
pub struct Connection(RefCell<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Compilation that the rest is about; 0: none.
    edition: u64,
    /// Where the caller's identity lies in that compilation.
    identity: usize,
    service: Option<ServiceIndex>,
    common: Vec<NetworkIndex>,
    /// The policies concerned ask for nothing that requests differ in.
    per_connection: bool,
    decision: Option<Decision>,
}

/// A thread's buffers for decisions.
#[derive(Debug, Default)]
pub struct Authorizer {
    scratch: RefCell<Scratch>,
    common: RefCell<Vec<NetworkIndex>>,
}

impl Authorizer {
    /// Decides about a request; without a head, about a connection that is not read. Costs no allocation where it may pass,
    /// but for the first request of a connection to a service at a revision, and for what is audited.
    ///
    /// # Errors
    /// When policies refuse it.
    pub fn authorize<H: Head + ?Sized, T: Trace>(
        &self,
        compiled: &Compiled,
        connection: &Connection,
        call: &Call<'_>,
        head: Option<&H>,
        trace: &mut T,
    ) -> Result<Passed, Box<Refusal>> {
        let mut known = connection.0.borrow_mut();
        let known = &mut *known;
        let about = (compiled.edition(), std::ptr::from_ref(call.identity).addr(), Some(call.service));
        if (known.edition, known.identity, known.service) != about {
            compiled.policies.common(call, &mut known.common);
            (known.edition, known.identity, known.service) = about;
            known.per_connection = compiled.policies.per_connection(call, &known.common);
            known.decision = None;
        }
        if !compiled.policies.enforced() && !T::POLICIES {
            let passed = Passed { network: known.common.first().copied(), audited: None };
            trace.passed(&passed);
            return Ok(passed);
        }
        let decision = match known.decision.filter(|_| !T::POLICIES) {
            Some(decision) => decision,
            None => self.decide(compiled, call, &known.common, head, trace),
        };
        known.decision = Some(decision).filter(|_| known.per_connection);
        // guard: policies
        if let Some(denial) = decision.denial {
            let refusal = refusal(compiled, call, &known.common, head, &denial);
            trace.denied(&refusal);
            return Err(refusal);
        }
        let network = decision.network.and_then(|place| known.common.get(usize::try_from(place).ok()?).copied());
        let audited = decision.audited.and_then(|denial| {
            compiled.policies.with_chain(call, &known.common, |chain| denial.id(chain).into_boxed_str())
        });
        let passed = Passed { network, audited };
        trace.passed(&passed);
        Ok(passed)
    }

    /// Why a request that was let through before would be refused now.
    pub fn review<H: Head + ?Sized>(&self, compiled: &Compiled, call: &Call<'_>, head: &H) -> Option<Box<Refusal>> {
        if !compiled.policies.enforced() {
            return None;
        }
        let mut common = self.common.borrow_mut();
        compiled.policies.common(call, &mut common);
        let denial = self.decide(compiled, call, &common, Some(head), &mut Untraced).denial?;
        Some(refusal(compiled, call, &common, Some(head), &denial))
    }

    fn decide<H: Head + ?Sized, T: Trace>(
        &self,
        compiled: &Compiled,
        call: &Call<'_>,
        common: &[NetworkIndex],
        head: Option<&H>,
        trace: &mut T,
    ) -> Decision {
        let mut scratch = self.scratch.borrow_mut();
        let decision = compiled.policies.with_chain(call, common, |chain| {
            with_http(head, |http| {
                compiled.policies.with_request(call, http, |request| {
                    let decision = chain.decide(request, &mut scratch);
                    if T::POLICIES {
                        trace.policies(&Asked { chain, networks: common, request, decision: &decision });
                    }
                    decision
                })
            })
        });
        // VPC and service come from the same snapshot; were one missing, nothing may pass.
        decision.flatten().unwrap_or(Decision {
            denial: Some(Denial { level: Level::Network, network: None, cause: Cause::NoNetwork }),
            network: None,
            statements: [None; 3],
            audited: None,
        })
    }
}

/// The part of a request that only HTTP has, for as long as `use_it` takes.
fn with_http<H: Head + ?Sized, R>(head: Option<&H>, use_it: impl FnOnce(Option<Http<'_>>) -> R) -> R {
    let Some(head) = head else { return use_it(None) };
    let (headers, query) = (Fields(head), Query(head.query()));
    use_it(Some(Http { method: head.method(), path: head.path(), headers: &headers, query: &query }))
}

fn refusal<H: Head + ?Sized>(
    compiled: &Compiled,
    call: &Call<'_>,
    common: &[NetworkIndex],
    head: Option<&H>,
    denial: &Denial,
) -> Box<Refusal> {
    let decision = compiled.policies.with_chain(call, common, |chain| denial.id(chain));
    let text =
        with_http(head, |http| compiled.policies.with_request(call, http, |request| denial.client_message(request)));
    Box::new(Refusal {
        level: denial.level,
        decision: decision.unwrap_or_default().into(),
        text: text.unwrap_or_else(|| "AccessDeniedException".into()),
    })
}
