//! `match` of a rule.

use brattice_wire::snapshot::{
    GrpcMatch, HeaderMatch, HostMatch, HostMatchKind, Match, PathMatch, PathMatchKind, QueryMatch, ValueMatch,
};

use super::MatchDocument;
use super::value::{self, is_token};
use crate::diagnostic::{Diagnostic, Located, Position, quote};
use crate::ids::IdKind;
use crate::limits::{
    MAX_GRPC_NAME, MAX_HEADER_MATCHES, MAX_METHOD, MAX_QUERY_MATCHES, MAX_QUERY_NAME, MAX_SOURCE_VPCS,
};
use crate::names;
use crate::yaml::{Decoder, Fields, Node};

pub(super) fn decode(d: &mut Decoder<'_>, node: &Node) -> Option<MatchDocument> {
    let mut fields = d.fields(node, "a match")?;
    let http = fields.take(d, "httpMatch");
    let grpc = fields.take(d, "grpcMatch");
    let given: Vec<&str> = ["httpMatch", "grpcMatch"].into_iter().filter(|name| fields.has(name)).collect();
    let one = fields.finish(d) && d.exactly_one(node.mark, &given, "`httpMatch` and `grpcMatch`");
    let http = http.and_then(|node| http_match(d, node));
    let grpc = grpc.and_then(|node| grpc_match(d, node));
    http.or(grpc).filter(|_| one)
}

fn http_match(d: &mut Decoder<'_>, node: &Node) -> Option<MatchDocument> {
    let mut fields = d.fields(node, "an httpMatch")?;
    let method = fields.take(d, "method").and_then(|node| method(d, node));
    let path = fields.take(d, "pathMatch").and_then(|node| path_match(d, node));
    let headers = fields.take(d, "headerMatches").map(|node| header_matches(d, node)).unwrap_or_default();
    let query = fields.take(d, "queryParameters").map(|node| query_matches(d, node)).unwrap_or_default();
    let mut found = MatchDocument {
        conditions: Match { method, path, headers, query, ..Match::default() },
        ..MatchDocument::default()
    };
    common(d, &mut fields, &mut found);
    let conditions = ["method", "pathMatch", "headerMatches", "queryParameters", "hostMatch", "port", "sourceVpcs"];
    let empty = !conditions.iter().any(|name| fields.has(name));
    if fields.finish(d) && empty {
        let names: Vec<String> = conditions.iter().map(|name| quote(name)).collect();
        let diagnostic =
            d.error(node.mark, "the match has no condition").expected(format!("one or more of {}", names.join(", ")));
        d.report(diagnostic.help("what matches everything is the listener's `defaultAction`"));
    }
    Some(found)
}

fn grpc_match(d: &mut Decoder<'_>, node: &Node) -> Option<MatchDocument> {
    let mut fields = d.fields(node, "a grpcMatch")?;
    let service_node = fields.take(d, "serviceName");
    let service = service_node.and_then(|node| grpc_name(d, node, "a service like shop.Orders", true));
    let method_node = fields.take(d, "methodName");
    let method = method_node.and_then(|node| grpc_name(d, node, "a method like Get", false));
    if let (Some(node), false) = (method_node, fields.has("serviceName")) {
        let diagnostic = d.error(node.mark, "a method alone means nothing: it is a service's");
        d.report(diagnostic.help("say `serviceName`, too"));
    }
    let headers = fields.take(d, "metadata").map(|node| header_matches(d, node)).unwrap_or_default();
    let grpc = Some(GrpcMatch { service, method });
    let mut found =
        MatchDocument { conditions: Match { headers, grpc, ..Match::default() }, ..MatchDocument::default() };
    common(d, &mut fields, &mut found);
    fields.finish(d);
    Some(found)
}

/// Conditions that HTTP and gRPC share.
fn common(d: &mut Decoder<'_>, fields: &mut Fields<'_>, found: &mut MatchDocument) {
    if let Some(node) = fields.take(d, "hostMatch")
        && let Some((host, at)) = host_match(d, node)
    {
        (found.conditions.host, found.host_at) = (Some(host), Some(at));
    }
    if let Some(node) = fields.take(d, "port") {
        let port = d.number(node, 1..=65535, "a port").and_then(|port| u16::try_from(port).ok());
        (found.conditions.port, found.port_at) = (port, Some(d.at(node.mark)));
    }
    if let Some(node) = fields.take(d, "sourceVpcs") {
        let mut vpcs: Vec<Located<crate::ids::Identifier>> = Vec::new();
        for item in d.list(node, 1..=MAX_SOURCE_VPCS, "VPCs").unwrap_or_default() {
            if let Some(vpc) = d.identifier(item, IdKind::Vpc, names::VPC)
                && d.unseen(&vpcs, &vpc, "VPC")
            {
                vpcs.push(vpc);
            }
        }
        found.source_vpcs = Some(vpcs);
    }
}

fn method(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.string(node, "a method like GET")?;
    if text.is_empty() || text.len() > MAX_METHOD || !text.bytes().all(is_token) {
        let diagnostic = d.error(node.mark, format!("{} is no method", quote(text)));
        d.report(diagnostic.expected(format!("1 to {MAX_METHOD} characters of an HTTP token")));
        return None;
    }
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let upper = text.to_ascii_uppercase();
    if upper != text && KNOWN.contains(&upper.as_str()) {
        let diagnostic = d.error(node.mark, format!("methods are case-sensitive: {} matches nothing", quote(text)));
        d.report(diagnostic.nearest(Some(&upper)));
        return None;
    }
    if text == "CONNECT" {
        let diagnostic = d.error(node.mark, "CONNECT is refused before any rule is asked, so this matches nothing");
        d.report(diagnostic.help("leave the rule out"));
        return None;
    }
    Some(text.to_owned())
}

fn path_match(d: &mut Decoder<'_>, node: &Node) -> Option<PathMatch> {
    let mut fields = d.fields(node, "a pathMatch")?;
    let case_sensitive = fields.take(d, "caseSensitive").and_then(|node| d.boolean(node)).unwrap_or(true);
    let found = fields.need(d, "match").and_then(|node| {
        let (name, node) = d.member(node, "a path's match", &["exact", "prefix", "stringPrefix", "regex"])?;
        Some(match name {
            "exact" => (PathMatchKind::Exact, value::path(d, node, false)?),
            "prefix" => (PathMatchKind::Prefix, value::path(d, node, false)?),
            "stringPrefix" => (PathMatchKind::StringPrefix, value::path(d, node, true)?),
            _ => (PathMatchKind::Regex, value::regex(d, node, case_sensitive)?),
        })
    });
    fields.finish(d);
    let (kind, value) = found?;
    Some(PathMatch { kind, value, case_sensitive })
}

fn host_match(d: &mut Decoder<'_>, node: &Node) -> Option<(HostMatch, Position)> {
    let mut fields = d.fields(node, "a hostMatch")?;
    let found = fields.need(d, "match").and_then(|node| {
        let (name, node) = d.member(node, "a host's match", &["exact", "suffix"])?;
        let kind = if name == "exact" { HostMatchKind::Exact } else { HostMatchKind::Suffix };
        Some((HostMatch { kind, value: value::host(d, node, false)? }, d.at(node.mark)))
    });
    fields.finish(d);
    found
}

fn header_matches(d: &mut Decoder<'_>, node: &Node) -> Vec<HeaderMatch> {
    let mut found: Vec<(HeaderMatch, Position)> = Vec::new();
    for item in d.list(node, 1..=MAX_HEADER_MATCHES, "header fields").unwrap_or_default() {
        let Some(header) = header_match(d, item) else { continue };
        let at = d.at(item.mark);
        if let Some((_, first)) = found.iter().find(|(other, _)| excludes(other, &header)) {
            let message = format!(
                "no request can match: what it asks of the header field {} contradicts {}",
                quote(&header.name),
                first.place()
            );
            d.report(
                Diagnostic::error(&at, message)
                    .help("all conditions of a match must hold; for either of two, make two rules"),
            );
        } else if let Some((_, first)) = found.iter().find(|(other, _)| *other == header) {
            let message = format!("the condition is there twice; first at {}", first.place());
            d.report(Diagnostic::error(&at, message));
        }
        found.push((header, at));
    }
    found.into_iter().map(|(header, _)| header).collect()
}

/// Whether no field's value can meet both conditions.
fn excludes(one: &HeaderMatch, other: &HeaderMatch) -> bool {
    if one.name != other.name {
        return false;
    }
    let absent = |header: &HeaderMatch| header.invert && header.value == ValueMatch::Present;
    if absent(one) || absent(other) {
        // A condition that is turned round is met by an absent field.
        return !(one.invert && other.invert);
    }
    match (&one.value, &other.value) {
        (ValueMatch::Exact(a), ValueMatch::Exact(b)) if !one.invert && !other.invert => {
            let same_case = one.case_sensitive && other.case_sensitive;
            if same_case { a != b } else { !a.eq_ignore_ascii_case(b) }
        }
        (a, b) => {
            // The same condition both ways.
            a == b && one.case_sensitive == other.case_sensitive && one.invert != other.invert
        }
    }
}

fn header_match(d: &mut Decoder<'_>, node: &Node) -> Option<HeaderMatch> {
    let mut fields = d.fields(node, "a header field's match")?;
    let name = fields.need(d, "name").and_then(|node| value::asked_field(d, node));
    let case_sensitive = fields.take(d, "caseSensitive").and_then(|node| d.boolean(node)).unwrap_or(false);
    let value = fields.need(d, "match").and_then(|node| {
        let names = ["exact", "prefix", "suffix", "contains", "regex", "range", "present"];
        let (name, node) = d.member(node, "a value's match", &names)?;
        value_match(d, name, node, case_sensitive)
    });
    let invert = fields.take(d, "invert").and_then(|node| d.boolean(node));
    fields.finish(d);
    Some(HeaderMatch { name: name?, value: value?, case_sensitive, invert: invert.unwrap_or(false) })
}

fn value_match(d: &mut Decoder<'_>, name: &str, node: &Node, case_sensitive: bool) -> Option<ValueMatch> {
    Some(match name {
        "exact" => ValueMatch::Exact(value::compared(d, node)?),
        "prefix" => ValueMatch::Prefix(value::compared(d, node)?),
        "suffix" => ValueMatch::Suffix(value::compared(d, node)?),
        "contains" => ValueMatch::Contains(value::compared(d, node)?),
        "regex" => ValueMatch::Regex(value::regex(d, node, case_sensitive)?),
        "range" => range(d, node)?,
        _ => present(d, node)?,
    })
}

/// App Mesh's `{start, end}`, its end excluded.
fn range(d: &mut Decoder<'_>, node: &Node) -> Option<ValueMatch> {
    let mut fields = d.fields(node, "a range")?;
    let start = fields.need(d, "start").and_then(|node| d.integer(node, "the lowest number"));
    let end = fields.need(d, "end").and_then(|node| d.integer(node, "one more than the highest number"));
    fields.finish(d);
    let (start, end) = (start?, end?);
    if start >= end {
        let diagnostic = d.error(node.mark, format!("there is no number from {start} to below {end}"));
        d.report(diagnostic.help("`start` is in the range, `end` is not"));
        return None;
    }
    Some(ValueMatch::Range { start, end })
}

fn present(d: &mut Decoder<'_>, node: &Node) -> Option<ValueMatch> {
    if d.boolean(node)? {
        return Some(ValueMatch::Present);
    }
    let diagnostic = d.error(node.mark, "`present` is true where it is given").expected("`present: true`");
    d.report(diagnostic.help("for a header field that must be absent add `invert: true` beside `match`"));
    None
}

fn query_matches(d: &mut Decoder<'_>, node: &Node) -> Vec<QueryMatch> {
    let mut found: Vec<(QueryMatch, Position)> = Vec::new();
    for item in d.list(node, 1..=MAX_QUERY_MATCHES, "query parameters").unwrap_or_default() {
        let Some(query) = query_match(d, item) else { continue };
        let at = d.at(item.mark);
        let other_exact = |other: &QueryMatch| {
            let exact = |value: &ValueMatch| matches!(value, ValueMatch::Exact(_));
            other.name == query.name && exact(&other.value) && exact(&query.value) && other.value != query.value
        };
        if let Some((_, first)) = found.iter().find(|(other, _)| other_exact(other)) {
            let message = format!(
                "no request can match: what it asks of the query parameter {} contradicts {}",
                quote(&query.name),
                first.place()
            );
            d.report(
                Diagnostic::error(&at, message)
                    .help("all conditions of a match must hold; for either of two, make two rules"),
            );
        } else if let Some((_, first)) = found.iter().find(|(other, _)| *other == query) {
            let message = format!("the condition is there twice; first at {}", first.place());
            d.report(Diagnostic::error(&at, message));
        }
        found.push((query, at));
    }
    found.into_iter().map(|(query, _)| query).collect()
}

fn query_match(d: &mut Decoder<'_>, node: &Node) -> Option<QueryMatch> {
    let mut fields = d.fields(node, "a query parameter's match")?;
    let name = fields.need(d, "name").and_then(|node| {
        let text = d.string(node, "the name of a query parameter, without percent-encoding")?;
        if text.is_empty() || text.len() > MAX_QUERY_NAME || text.chars().any(char::is_control) {
            let diagnostic = d.error(node.mark, format!("{} is no name of a query parameter", quote(text)));
            d.report(diagnostic.expected(format!("1 to {MAX_QUERY_NAME} bytes, none of them a control character")));
            return None;
        }
        Some(text.to_owned())
    });
    let value = fields.need(d, "match").and_then(|node| {
        let (name, node) = d.member(node, "a query parameter's value", &["exact", "regex", "present"])?;
        value_match(d, name, node, true)
    });
    fields.finish(d);
    Some(QueryMatch { name: name?, value: value? })
}

/// An identifier of Protocol Buffers, with dots between several.
fn grpc_name(d: &mut Decoder<'_>, node: &Node, what: &str, dots: bool) -> Option<String> {
    let text = d.string(node, what)?;
    let part = |part: &str| {
        part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && part.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    };
    let fits = if dots { text.split('.').all(part) } else { part(text) };
    if !fits || text.len() > MAX_GRPC_NAME {
        let diagnostic = d.error(node.mark, format!("{} is not {what}", quote(text)));
        d.report(diagnostic.expected(format!(
            "at most {MAX_GRPC_NAME} letters, digits and underscores, as in the .proto file{}",
            if dots { ", with the package before it" } else { "" }
        )));
        return None;
    }
    Some(text.to_owned())
}
