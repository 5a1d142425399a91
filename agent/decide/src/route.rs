//! Routing by a listener's rules.

use std::{borrow::Cow, sync::Arc};

use brattice_router::rewrite::{RewriteError, Target};
use brattice_wire::index::{NetworkIndex, TargetGroupIndex};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::{
    compiled::{Compiled, Group, Listener},
    filters::Filters,
    head::{Head, Routed},
    request::Request,
    rules::{Action, Forward, Redirect},
    sticky,
    trace::Trace,
    verdict::Refusal,
};

/// What happens to a request.
#[derive(Debug)]
pub enum Decision<'s> {
    /// Policies refuse it: 403.
    Denied(Box<Refusal>),
    /// It cannot be served as its rule says.
    Refused(Refused),
    /// A rule has the response.
    Respond(OwnResponse<'s>),
    /// A target group has it.
    Forward(Route<'s>),
}

/// Our own response.
#[derive(Debug)]
pub struct OwnResponse<'s> {
    /// Its status.
    pub status: StatusCode,
    /// `content-type`.
    pub content_type: Option<&'s HeaderValue>,
    /// `location`.
    pub location: Option<HeaderValue>,
    /// Empty for a status that has none.
    pub body: Bytes,
    /// Changes of the request and response.
    pub filters: Option<&'s Arc<Filters>>,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Route<'s> {
    /// The service network it comes through.
    pub network: Option<NetworkIndex>,
    /// The position of the target group.
    pub index: TargetGroupIndex,
    /// The target group; it has a target.
    pub group: &'s Group,
    /// What is changed on the way.
    pub filters: Option<&'s Arc<Filters>>,
    /// `set-cookie` that keeps the caller at its target group, where it has none yet.
    pub cookie: Option<&'s HeaderValue>,
}

/// Why a request cannot be served as its rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No target group has a weight, or the one chosen has no target that can be reached: 503.
    #[error("no target of the service can be reached")]
    NoTarget,
    /// The path, or the location of a redirect, cannot be what the rule makes of it: 400.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// The location of a redirect cannot be a field's value: 400.
    #[error("the location of the redirect cannot be sent")]
    Location,
}

impl Route<'_> {
    /// The path for the target; borrowed where it stays as it is.
    ///
    /// # Errors
    /// When the rule's rewrite makes no path of it.
    pub fn path<'p>(&'p self, path: &'p str) -> Result<Cow<'p, str>, Refused> {
        match self.filters {
            Some(filters) => Ok(filters.rewrite(path)?),
            None => Ok(Cow::Borrowed(path)),
        }
    }
}

/// What the listener's rules make of a request that policies let through by the service network `network`. See
/// [`crate::decide()`], whose second half this is.
pub fn route<'a, H: Head + ?Sized>(
    compiled: &'a Compiled,
    request: &Request<'a, H>,
    network: Option<NetworkIndex>,
    share: impl FnOnce(&Forward) -> Option<usize>,
    trace: &mut impl Trace,
) -> Decision<'a> {
    let call = &request.call;
    let head = Routed { head: request.head, host: request.host, port: call.port, vpc: call.vpc };
    let (position, rule) = request.listener.rule(&head);
    trace.rule(&head, position, rule);
    let filters = rule.filters.as_ref();
    match &rule.action {
        Action::Fixed(fixed) => Decision::Respond(OwnResponse {
            status: fixed.status,
            content_type: fixed.content_type.as_ref(),
            location: None,
            body: fixed.body.clone(),
            filters,
        }),
        Action::Redirect(redirect) => match location(redirect, request) {
            Ok(location) => Decision::Respond(OwnResponse {
                status: redirect.status,
                content_type: None,
                location: Some(location),
                body: Bytes::new(),
                filters,
            }),
            Err(why) => Decision::Refused(why),
        },
        Action::Forward(forward) => {
            let Some((index, cookie)) = sticky::group(compiled, forward, call, request.head, share) else {
                return Decision::Refused(Refused::NoTarget);
            };
            trace.group(index);
            match compiled.group(index).filter(|group| !group.targets.is_empty()) {
                Some(group) => Decision::Forward(Route { network, index, group, filters, cookie }),
                None => Decision::Refused(Refused::NoTarget),
            }
        }
    }
}

/// The target group of a connection that is handled as TCP, with its index: one of the default action's, as `share` says. None:
/// the default action is no forward, or the group has no target that can be reached.
pub fn route_connection<'a>(
    compiled: &'a Compiled,
    listener: &Listener,
    share: impl FnOnce(&Forward) -> Option<usize>,
) -> Option<(TargetGroupIndex, &'a Group)> {
    // The other actions are HTTP, which is not read here.
    let Action::Forward(forward) = listener.default_action() else { return None };
    let index = *forward.groups.get(share(forward)?)?;
    let group = compiled.group(index).filter(|group| !group.targets.is_empty())?;
    Some((index, group))
}

fn location<H: Head + ?Sized>(redirect: &Redirect, request: &Request<'_, H>) -> Result<HeaderValue, Refused> {
    let head = request.head;
    let (host, port) = (request.host, request.call.port);
    let from = Target { scheme: "http", host, port, path: head.path(), query: head.query() };
    HeaderValue::try_from(redirect.to.location(&from)?).map_err(|_| Refused::Location)
}
