//! Authorization: calls `brattice-decide`, makes the fields that tell targets about the caller, and ends what is
//! revoked.
//!
//! - [`facts`]: what policies may ask about a request after it has gone.
//! - [`latest`]: what was let through on a connection, and why it is ended.
//! - [`identity_fields`]: the header fields that tell targets about caller and route.

mod facts;
mod identity_fields;
mod latest;

use std::time::{SystemTime, UNIX_EPOCH};

use brattice_decide::Call;
use brattice_wire::index::ServiceIndex;

use crate::state::{Caller, State};

pub(crate) use facts::{Facts, Origin};
pub use identity_fields::CallerFields;
pub(crate) use identity_fields::{IdentityFields, TargetFields};
pub(crate) use latest::{CALLER_GONE, Latest, Revoked};

/// A call of a workload. None: the caller is not of this state.
pub(crate) fn call<'s>(state: &'s State, caller: &Caller<'_>, service: ServiceIndex, port: u16) -> Option<Call<'s>> {
    Some(Call {
        identity: state.policies.identity(caller.index)?,
        vpc: caller.vpc,
        address: Some(caller.address),
        service,
        port,
        // Clients are not offered TLS.
        tls: false,
        now: now(),
    })
}

/// Whether connections of a caller to a service may be relayed as TCP: no policy could refuse a request.
pub(crate) fn may_pass_unread(state: &State, caller: &Caller<'_>, service: ServiceIndex) -> bool {
    unread(state, caller, service).is_some_and(|call| state.policies.unreadable(&call).is_none())
}

/// Why a connection of a caller to a service is not relayed as TCP any more; `None`: it still is.
pub(crate) fn revoked_unread(state: &State, caller: &Caller<'_>, service: ServiceIndex) -> Option<Revoked> {
    let Some(call) = unread(state, caller, service) else { return Some(Revoked::Gone) };
    state.policies.refusal_unread(&call).map(|refusal| Revoked::Denied(Box::new(refusal)))
}

/// A call whose requests are not read: a connection is not relayed as TCP where a policy asks for the port.
fn unread<'s>(state: &'s State, caller: &Caller<'_>, service: ServiceIndex) -> Option<Call<'s>> {
    call(state, caller, service, 0)
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).expect("the kernel counts seconds in an i64")
}
