//! The path in its normal form: these bytes are matched, authorized, logged and sent on.

use std::borrow::Cow;

use brattice_router::path;
use http::{Method, Request, Uri, Version};

use super::{Called, Exchange};
use crate::{
    events::RequestEvent,
    http::{
        client_body::ClientBody,
        head::Head,
        local_reply::{LocalReply, malformed},
    },
    views::View,
};

/// The head as it is decided about.
pub(super) fn normalize<'r>(
    exchange: &Exchange,
    view: &View,
    called: &Called<'r>,
    request: &'r Request<ClientBody>,
    uri: &'r Uri,
) -> Result<Head<'r>, LocalReply> {
    let Some((path, query)) = path_and_query(request.method(), uri, exchange.version) else {
        let text = "the path or the query is malformed or ambiguous";
        return Err(malformed(&exchange.active, false, text));
    };
    let head = Head { method: request.method().as_str(), host: called.name, path, query, headers: request.headers() };
    exchange.active.span.emit(RequestEvent::HeadRead {
        service: called.service.number,
        host: head.host,
        path: &head.path,
        headers: head.headers,
        names: &view.state.names,
    });
    Ok(head)
}

/// The path in its normal form, which is borrowed only where it is the one that came, and the query. `None`: they are
/// refused.
fn path_and_query<'u>(method: &Method, uri: &'u Uri, version: Version) -> Option<(Cow<'u, str>, Option<&'u str>)> {
    let (raw, query) = (uri.path(), uri.query());
    path::check_query(query.unwrap_or_default()).ok()?;
    let path = path::requested(method.as_str(), raw).ok()?;
    // An absolute URI may lack the path (RFC 9110, 4.2.3), and is sent on with one; `:path` may not (RFC 9113, 8.3.1).
    match uri.path_and_query().is_none_or(|target| target.as_str().starts_with('?')) {
        true if version == Version::HTTP_2 => None,
        true => Some((Cow::Owned(path.into_owned()), query)),
        false => Some((path, query)),
    }
}
