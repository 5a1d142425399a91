//! `action` of a rule and `defaultAction` of a listener.

use brattice_wire::snapshot::{Filters, FixedResponse, PathMatchKind, Redirect, Stickiness};

use super::filters::{header_edits, path_rewrite, rewrite};
use super::value::{self, is_token};
use super::{ActionDocument, ActionKind, WeightedDocument};
use crate::diagnostic::{Diagnostic, quote};
use crate::ids::IdKind;
use crate::limits::{
    DEFAULT_CONTENT_TYPE, DEFAULT_REDIRECT_STATUS, DEFAULT_WEIGHT, MAX_COOKIE_AGE_SECONDS, MAX_COOKIE_NAME,
    MAX_FIXED_BODY, MAX_FORWARD_TARGET_GROUPS, MAX_WEIGHT,
};
use crate::names;
use crate::yaml::{Decoder, Node};

/// `rule_path`: how the rule compares the path, if at all.
pub(super) fn decode(d: &mut Decoder<'_>, node: &Node, rule_path: Option<PathMatchKind>) -> Option<ActionDocument> {
    let mut fields = d.fields(node, "an action")?;
    let kinds = ["forward", "fixedResponse", "redirect"];
    let [forward_node, fixed_node, redirect_node] = kinds.map(|name| fields.take(d, name));
    let given: Vec<&str> = kinds.into_iter().filter(|name| fields.has(name)).collect();
    let [rewrite_node, request_node, response_node] =
        ["rewrite", "requestHeaders", "responseHeaders"].map(|name| fields.take(d, name));
    let one = fields.finish(d) && d.exactly_one(node.mark, &given, "`forward`, `fixedResponse` and `redirect`");
    // Only a forward sends a request on.
    for (name, node) in [("rewrite", rewrite_node), ("requestHeaders", request_node)] {
        if let (Some(node), [kind @ ("fixedResponse" | "redirect")]) = (node, &given[..]) {
            let diagnostic = d.error(node.mark, format!("`{name}` with `{kind}`: no request is sent on"));
            d.report(diagnostic.help(if name == "rewrite" && *kind == "redirect" {
                "the redirect's own `hostname` and `path` say where the client is sent"
            } else {
                "leave it out"
            }));
        }
    }
    let own: &[(&str, &str)] = match given[..] {
        ["fixedResponse"] => &[("content-type", "the fixedResponse's `contentType`")],
        ["redirect"] => &[("location", "the redirect")],
        _ => &[],
    };
    let filters = Filters {
        request_headers: request_node.map(|node| header_edits(d, node, "requestHeaders", &[])).unwrap_or_default(),
        response_headers: response_node.map(|node| header_edits(d, node, "responseHeaders", own)).unwrap_or_default(),
        rewrite: rewrite_node.map(|node| rewrite(d, node, rule_path)).unwrap_or_default(),
    };
    let forward = forward_node.and_then(|node| forward(d, node));
    let fixed = fixed_node.and_then(|node| fixed_response(d, node)).map(ActionKind::FixedResponse);
    let redirect = redirect_node.and_then(|node| redirect(d, node, rule_path)).map(ActionKind::Redirect);
    let kind = forward.or(fixed).or(redirect).filter(|_| one)?;
    Some(ActionDocument { kind, filters, at: d.at(node.mark) })
}

fn fixed_response(d: &mut Decoder<'_>, node: &Node) -> Option<FixedResponse> {
    let mut fields = d.fields(node, "a fixedResponse")?;
    let status = fields.need(d, "statusCode").and_then(|node| d.number(node, 200..=599, "a final status code"));
    let type_node = fields.take(d, "contentType");
    let content_type = type_node.and_then(|node| content_type(d, node));
    let body_node = fields.take(d, "body");
    let body = body_node.and_then(|node| {
        let text = d.string(node, "the body of the answer")?;
        if text.len() > MAX_FIXED_BODY {
            let diagnostic = d.error(node.mark, format!("the body has {} bytes; at most {MAX_FIXED_BODY}", text.len()));
            d.report(diagnostic.help("serve longer ones from a target"));
            return None;
        }
        Some(text.to_owned())
    });
    if let Some(node) = fields.take(d, "headers") {
        let diagnostic = d.error(node.mark, "a fixedResponse has no `headers` of its own");
        d.report(diagnostic.help("say `responseHeaders: {set: …}` beside `fixedResponse`"));
    }
    fields.finish(d);
    let body = body.unwrap_or_default();
    if let (Some(node), Some(status @ (204 | 205 | 304))) = (body_node, status) {
        let diagnostic = d.error(node.mark, format!("an answer {status} has no body"));
        d.report(diagnostic.help("leave the body out, or choose another status"));
    } else if let (Some(node), None) = (type_node, body_node) {
        let diagnostic = d.error(node.mark, "a content type without a body");
        d.report(diagnostic.help("give it a body, or leave `contentType` out"));
    }
    let content_type = content_type.or_else(|| (!body.is_empty()).then(|| DEFAULT_CONTENT_TYPE.to_owned()));
    Some(FixedResponse { status: u16::try_from(status?).ok()?, content_type, body })
}

fn content_type(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let text = value::field_value(d, node)?;
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let fits = essence
        .split_once('/')
        .is_some_and(|(kind, sub)| [kind, sub].iter().all(|part| !part.is_empty() && part.bytes().all(is_token)));
    if !fits {
        let diagnostic = d.error(node.mark, format!("{} is no content type", quote(&text)));
        d.report(diagnostic.expected("one like `text/plain; charset=utf-8`"));
        return None;
    }
    Some(text)
}

fn redirect(d: &mut Decoder<'_>, node: &Node, rule_path: Option<PathMatchKind>) -> Option<Redirect> {
    let mut fields = d.fields(node, "a redirect")?;
    let schemes = [("http", "http"), ("https", "https")];
    let scheme = fields.take(d, "scheme").and_then(|node| d.choice(node, "scheme", &schemes, &[]));
    let host = fields.take(d, "hostname").and_then(|node| value::host(d, node, false));
    let port = fields.take(d, "port").and_then(|node| d.number(node, 1..=65535, "a port"));
    let path = fields.take(d, "path").and_then(|node| path_rewrite(d, node, rule_path));
    let status = match fields.take(d, "statusCode") {
        Some(node) => {
            let status = d.number(node, 300..=399, "a status code");
            if let Some(status) = status
                && !matches!(status, 301 | 302 | 303 | 307 | 308)
            {
                let diagnostic = d.error(node.mark, format!("{status} is no redirect"));
                d.report(diagnostic.expected("301, 302, 303, 307 or 308"));
            }
            status.and_then(|status| u16::try_from(status).ok())?
        }
        None => DEFAULT_REDIRECT_STATUS,
    };
    let empty = !["scheme", "hostname", "port", "path"].into_iter().any(|name| fields.has(name));
    if fields.finish(d) && empty {
        let diagnostic = d.error(node.mark, "the redirect leads to where the request came to");
        d.report(diagnostic.expected("`scheme`, `hostname`, `port`, `path`, or several of them"));
    }
    let port = port.and_then(|port| u16::try_from(port).ok());
    Some(Redirect { scheme: scheme.map(str::to_owned), host, port, path, status })
}

fn forward(d: &mut Decoder<'_>, node: &Node) -> Option<ActionKind> {
    let mut fields = d.fields(node, "a forward")?;
    let list = fields.need(d, "targetGroups");
    let stickiness = fields.take(d, "stickiness").and_then(|node| stickiness(d, node));
    fields.finish(d);
    let items = d.list(list?, 1..=MAX_FORWARD_TARGET_GROUPS, "target groups")?;
    let mut groups: Vec<WeightedDocument> = Vec::with_capacity(items.len());
    let mut complete = true;
    for item in items {
        let Some(group) = weighted(d, item) else {
            complete = false;
            continue;
        };
        if let Some(first) = groups.iter().find(|other| other.target_group.value == group.target_group.value) {
            let name = quote(&group.target_group.value.to_string());
            let message = format!("the target group {name} is there twice; first at {}", first.target_group.at.place());
            d.report(Diagnostic::error(&group.target_group.at, message).help("add up their weights"));
        }
        groups.push(group);
    }
    if complete && groups.iter().all(|group| group.weight == 0) {
        let diagnostic = d.error(node.mark, "all weights are 0, so no request could be forwarded");
        d.report(diagnostic.expected("at least one weight above 0"));
    }
    complete.then_some(ActionKind::Forward { groups, stickiness })
}

fn weighted(d: &mut Decoder<'_>, node: &Node) -> Option<WeightedDocument> {
    let mut fields = d.fields(node, "a target group's share")?;
    let target_group = fields
        .need(d, "targetGroupIdentifier")
        .and_then(|node| d.identifier(node, IdKind::TargetGroup, names::TARGET_GROUP));
    let weight = match fields.take(d, "weight") {
        Some(node) => d.number(node, 0..=MAX_WEIGHT, "a weight").and_then(|n| u16::try_from(n).ok()),
        None => Some(DEFAULT_WEIGHT),
    };
    fields.finish(d);
    Some(WeightedDocument { target_group: target_group?, weight: weight? })
}

fn stickiness(d: &mut Decoder<'_>, node: &Node) -> Option<Stickiness> {
    let (name, node) = d.member(node, "a stickiness", &["cookie", "header", "source"])?;
    match name {
        "cookie" => cookie(d, node),
        "header" => {
            let mut fields = d.fields(node, "a stickiness by header field")?;
            let name = fields.need(d, "name").and_then(|node| value::asked_field(d, node));
            fields.finish(d);
            name.map(Stickiness::Header)
        }
        _ => {
            d.fields(node, "a stickiness by source")?.finish(d);
            Some(Stickiness::Source)
        }
    }
}

fn cookie(d: &mut Decoder<'_>, node: &Node) -> Option<Stickiness> {
    let mut fields = d.fields(node, "a stickiness by cookie")?;
    let name = fields.need(d, "name").and_then(|node| {
        let text = d.string(node, "the name of a cookie")?;
        if text.is_empty() || text.len() > MAX_COOKIE_NAME || !text.bytes().all(is_token) {
            let diagnostic = d.error(node.mark, format!("{} is no name of a cookie", quote(text)));
            d.report(diagnostic.expected(format!("1 to {MAX_COOKIE_NAME} characters of an HTTP token")));
            return None;
        }
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("__host-") || lower.starts_with("__secure-") {
            let diagnostic = d.error(node.mark, format!("clients take {} over TLS only", quote(text)));
            d.report(diagnostic.help("listeners are HTTP in this version; choose a name without this beginning"));
            return None;
        }
        Some(text.to_owned())
    });
    let age = fields.take(d, "maxAgeSeconds").and_then(|node| d.number(node, 1..=MAX_COOKIE_AGE_SECONDS, "seconds"));
    fields.finish(d);
    Some(Stickiness::Cookie { name: name?, max_age_seconds: age.and_then(|age| u32::try_from(age).ok()) })
}
