//! The decision about a request.

use crate::{
    authorize::{Authorizer, Connection},
    compiled::Compiled,
    head::Head,
    request::Request,
    route::{Decision, route},
    rules::Forward,
    trace::Trace,
};

/// Decides: first the policies, then the rule, then what the rule does. `share` says which target group of a forward comes
/// next by weight, where nothing of the request decides that.
pub fn decide<'a, H: Head + ?Sized>(
    compiled: &'a Compiled,
    (authorizer, connection): (&Authorizer, &Connection),
    request: &Request<'a, H>,
    share: impl FnOnce(&Forward) -> Option<usize>,
    trace: &mut impl Trace,
) -> Decision<'a> {
    let passed = match authorizer.authorize(compiled, connection, &request.call, Some(request.head), trace) {
        Ok(passed) => passed,
        Err(refusal) => return Decision::Denied(refusal),
    };
    route(compiled, request, passed.network, share, trace)
}
