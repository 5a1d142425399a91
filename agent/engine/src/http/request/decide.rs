//! Policies, then rule: denied, a response of our own, or a target group. `brattice-decide` decides.

use brattice_decide::{Decision, OwnResponse, Passed, Refusal, Refused, Route as Chosen, Rule, Trace};
use brattice_router::{RequestHead, rewrite::RewriteError};
use brattice_wire::index::TargetGroupIndex;

use super::{Called, Exchange};
use crate::{
    auth,
    events::{RequestEvent, request::RequestSpan},
    http::{
        head::Head,
        local_reply::{self, Denied, LocalReply, NOWHERE, Own, UNCHANGEABLE, caller_gone, malformed, unavailable},
    },
    state::Caller,
    views::View,
};

const LONG_LOCATION: &str = "the location of the service's redirect would be too long";
const NO_LOCATION: &str = "the location of the service's redirect cannot be sent";

/// The target group that the request goes to, if policies let it through and no rule has the response.
pub(super) fn decide<'d>(
    exchange: &Exchange,
    view: &'d View,
    caller: &Caller<'_>,
    called: &Called<'d>,
    head: &'d Head<'_>,
) -> Result<Chosen<'d>, LocalReply> {
    let (session, active) = (&exchange.session, &exchange.active);
    let state = &view.state;
    let call = auth::call(state, caller, called.service.index, session.port).ok_or_else(|| caller_gone(active))?;
    let asked = brattice_decide::Request { call, listener: called.listener, host: called.name, head };
    let mut trace = AsEvents(&active.span);
    let memory = (&session.server.authorizer, &session.auth);
    let mut balance = view.balance.borrow_mut();
    let decided = brattice_decide::decide(state, memory, &asked, |forward| balance.share(forward), &mut trace);
    if !matches!(decided, Decision::Denied(_)) {
        let origin = session.origin();
        active.passed(session.control.latest.note(|facts| {
            let line = (head.method, &*head.path, head.query.unwrap_or_default());
            facts.set(origin, called.service.number, line, head.headers);
        }));
    }
    match decided {
        Decision::Denied(refusal) => {
            let grpc = local_reply::is_grpc(head.headers);
            Err(LocalReply::Denied(Box::new(Denied { refusal, grpc })))
        }
        Decision::Refused(Refused::NoTarget) => Err(unavailable(NOWHERE)),
        Decision::Refused(Refused::Rewrite(RewriteError::LongLocation)) => Err(malformed(active, false, LONG_LOCATION)),
        Decision::Refused(Refused::Rewrite(_)) => Err(malformed(active, false, UNCHANGEABLE)),
        Decision::Refused(Refused::Location) => Err(malformed(active, false, NO_LOCATION)),
        Decision::Respond(response) => Err(LocalReply::Own(Box::new(own(response)))),
        Decision::Forward(chosen) => Ok(chosen),
    }
}

fn own(response: OwnResponse<'_>) -> Own {
    Own {
        status: response.status,
        content_type: response.content_type.cloned(),
        location: response.location,
        body: response.body,
        filters: response.filters.cloned(),
    }
}

/// Emits the steps of the decision as events.
struct AsEvents<'r>(&'r RequestSpan);

impl Trace for AsEvents<'_> {
    fn denied(&mut self, refusal: &Refusal) {
        self.0.emit(RequestEvent::Denied(refusal));
    }

    fn passed(&mut self, passed: &Passed) {
        self.0.emit(RequestEvent::Allowed(passed));
    }

    fn rule<R: RequestHead + ?Sized>(&mut self, _: &R, _: Option<usize>, rule: &Rule) {
        self.0.emit(RequestEvent::RuleMatched { id: &rule.id });
    }

    fn group(&mut self, group: TargetGroupIndex) {
        self.0.emit(RequestEvent::GroupChosen { group });
    }
}
