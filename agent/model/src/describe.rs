//! Rules in words, for people.

use std::fmt::{self, Write as _};

use brattice_wire::index::VpcIndex;
use brattice_wire::snapshot::{
    Filters, HeaderEdits, HeaderMatch, HostMatchKind, Match, PathMatchKind, PathRewrite, Redirect, Stickiness,
    ValueMatch,
};

use crate::model::Action;

/// Whether values of header fields that are secret are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// To compare two texts; never to be shown.
    Kept,
    /// For logs and people.
    Hidden,
}

impl Secrets {
    fn value(self, field: &str, value: &str) -> String {
        let secret = matches!(field, "authorization" | "proxy-authorization" | "cookie" | "set-cookie")
            || ["token", "secret", "password", "api-key", "apikey"].iter().any(|word| field.contains(word));
        if secret && self == Self::Hidden { "(hidden)".into() } else { value.to_owned() }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&action(self))
    }
}

/// Conditions of a rule; `vpc` names a VPC by its position.
pub(crate) fn conditions(matches: &Match, vpc: impl Fn(VpcIndex) -> String, secrets: Secrets) -> String {
    let mut parts = Vec::new();
    if let Some(method) = &matches.method {
        parts.push(format!("method {method}"));
    }
    if let Some(path) = &matches.path {
        let case = if path.case_sensitive { "" } else { " in any case" };
        let kind = match path.kind {
            PathMatchKind::Exact => "exact",
            PathMatchKind::Prefix => "prefix",
            PathMatchKind::StringPrefix => "stringPrefix",
            PathMatchKind::Regex => "regex",
        };
        parts.push(format!("path {kind} {}{case}", path.value));
    }
    if let Some(host) = &matches.host {
        let kind = match host.kind {
            HostMatchKind::Exact => "",
            HostMatchKind::Suffix => "suffix ",
        };
        parts.push(format!("host {kind}{}", host.value));
    }
    if let Some(grpc) = &matches.grpc {
        let service = grpc.service.as_deref().map_or(String::new(), |service| format!(" service {service}"));
        let method = grpc.method.as_deref().map_or(String::new(), |method| format!(" method {method}"));
        parts.push(format!("gRPC{service}{method}"));
    }
    parts.extend(matches.headers.iter().map(|header| header_condition(header, secrets)));
    for query in &matches.query {
        parts.push(format!("query parameter {} {}", query.name, value(&query.value, str::to_owned)));
    }
    if let Some(port) = matches.port {
        parts.push(format!("port {port}"));
    }
    if let Some(vpcs) = &matches.source_vpcs {
        let names: Vec<String> = vpcs.iter().map(|index| vpc(*index)).collect();
        parts.push(format!("from {}", if names.is_empty() { "no VPC".into() } else { names.join(" or ") }));
    }
    parts.join(" and ")
}

fn header_condition(header: &HeaderMatch, secrets: Secrets) -> String {
    let not = if header.invert { "not " } else { "" };
    let case = if header.case_sensitive { " in this case" } else { "" };
    let shown = value(&header.value, |text| secrets.value(&header.name, text));
    format!("header {} {not}{shown}{case}", header.name)
}

fn value(value: &ValueMatch, shown: impl Fn(&str) -> String) -> String {
    match value {
        ValueMatch::Present => "present".into(),
        ValueMatch::Exact(text) => format!("exact {}", shown(text)),
        ValueMatch::Prefix(text) => format!("prefix {}", shown(text)),
        ValueMatch::Suffix(text) => format!("suffix {}", shown(text)),
        ValueMatch::Contains(text) => format!("contains {}", shown(text)),
        ValueMatch::Regex(text) => format!("regex {}", shown(text)),
        ValueMatch::Range { start, end } => format!("from {start} to below {end}"),
    }
}

/// What happens to a request.
pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Forward { groups, stickiness } => {
            let mut out = String::from("forward to ");
            for (index, (name, weight)) in groups.iter().enumerate() {
                let _ = write!(out, "{}{name} ({weight})", if index > 0 { ", " } else { "" });
            }
            match stickiness {
                None => {}
                Some(Stickiness::Cookie { name, max_age_seconds: None }) => {
                    let _ = write!(out, ", sticky by the cookie {name}");
                }
                Some(Stickiness::Cookie { name, max_age_seconds: Some(age) }) => {
                    let _ = write!(out, ", sticky by the cookie {name} for {age} s");
                }
                Some(Stickiness::Header(name)) => {
                    let _ = write!(out, ", sticky by the header {name}");
                }
                Some(Stickiness::Source) => out.push_str(", sticky by source"),
            }
            out
        }
        Action::FixedResponse(response) => match (&response.content_type, response.body.as_str()) {
            (_, "") => format!("answer {}", response.status),
            (content_type, body) => {
                let content_type = content_type.as_deref().unwrap_or("no type");
                format!("answer {} with {content_type}: {body:?}", response.status)
            }
        },
        Action::Redirect(own) => redirect(own),
    }
}

fn redirect(redirect: &Redirect) -> String {
    let mut out = format!("redirect ({})", redirect.status);
    let mut part = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(out, ", {name} {value}");
        }
    };
    part("scheme", redirect.scheme.clone());
    part("host", redirect.host.clone());
    part("port", redirect.port.map(|port| port.to_string()));
    part("path", redirect.path.as_ref().map(path));
    out
}

fn path(path: &PathRewrite) -> String {
    match path {
        PathRewrite::Full(new) => new.clone(),
        PathRewrite::Prefix(new) => format!("with {new} for the prefix"),
        PathRewrite::Regex { pattern, substitution } => format!("with {substitution} for {pattern}"),
    }
}

/// What is changed on the way; empty where nothing is.
pub(crate) fn filters(filters: &Filters, secrets: Secrets) -> Vec<(&'static str, String)> {
    let rewrite = [
        filters.rewrite.host.as_ref().map(|host| format!("host {host}")),
        filters.rewrite.path.as_ref().map(|own| format!("path {}", path(own))),
    ];
    let rewrite: Vec<String> = rewrite.into_iter().flatten().collect();
    vec![
        ("rewrite", rewrite.join(", ")),
        ("requestHeaders", edits(&filters.request_headers, secrets)),
        ("responseHeaders", edits(&filters.response_headers, secrets)),
    ]
}

fn edits(edits: &HeaderEdits, secrets: Secrets) -> String {
    let mut parts = Vec::new();
    parts.extend(edits.remove.iter().map(|name| format!("remove {name}")));
    for (what, list) in [("set", &edits.set), ("add", &edits.add)] {
        parts.extend(list.iter().map(|(name, value)| format!("{what} {name}: {}", secrets.value(name, value))));
    }
    parts.join(", ")
}
