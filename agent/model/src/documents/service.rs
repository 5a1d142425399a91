//! `Service` with its listeners and rules.

use std::collections::HashMap;

use brattice_wire::auth::AuthType;
use brattice_wire::snapshot::{ForwardedHeaders, PathMatch, PathMatchKind};

use super::common::{Metadata, Tags};
use crate::diagnostic::{Diagnostic, Located, Position, quote};
use crate::ids::{IdKind, Identifier};
use crate::limits::{
    DEFAULT_WEIGHT, IDLE_TIMEOUT_SECONDS, MAX_CUSTOM_DOMAINS, MAX_FORWARD_TARGET_GROUPS, MAX_LISTENERS, MAX_METHOD,
    MAX_PATH, MAX_PRIORITY, MAX_RULES, MAX_WEIGHT,
};
use crate::names;
use crate::yaml::{Decoder, Fields, Node};

/// What is called.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceDocument {
    /// Name and labels.
    pub metadata: Metadata,
    /// Custom domain names, lower case, without a trailing dot.
    pub domains: Vec<Located<String>>,
    /// Networks it asks to be associated with.
    pub networks: Vec<Located<Identifier>>,
    /// Its listeners; ports and names are unique.
    pub listeners: Vec<ListenerDocument>,
    /// 60 to 600.
    pub idle_timeout_seconds: u32,
    /// Whether its policy decides.
    pub auth_type: AuthType,
    /// Accounts that may associate it with networks of theirs.
    pub shared_with: Vec<Located<String>>,
    /// Tags.
    pub tags: Tags,
}

/// A listener of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerDocument {
    /// As written, or `http-<port>`.
    pub name: Located<String>,
    /// 1 to 65535.
    pub port: u16,
    /// How `x-forwarded-*` headers are written.
    pub forwarded_headers: ForwardedHeaders,
    /// When no rule matches.
    pub default_action: ActionDocument,
    /// By priority; priorities and names are unique.
    pub rules: Vec<RuleDocument>,
    /// Where it is.
    pub at: Position,
}

/// A rule of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleDocument {
    /// Name.
    pub name: Located<String>,
    /// 1 to 2000.
    pub priority: Located<u16>,
    /// Conditions.
    pub matches: MatchDocument,
    /// What to do.
    pub action: ActionDocument,
    /// Where it is.
    pub at: Position,
}

/// Conditions of a rule.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MatchDocument {
    /// Method.
    pub method: Option<String>,
    /// Path.
    pub path: Option<PathMatch>,
    /// Host; one of the service's own names.
    pub host: Option<Located<String>>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionDocument {
    /// To target groups by weight.
    Forward(Vec<WeightedDocument>),
    /// An answer with a status and no body.
    FixedResponse(u16),
}

/// A share of a forward.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedDocument {
    /// The target group.
    pub target_group: Located<Identifier>,
    /// 0 to 999.
    pub weight: u16,
}

pub(super) fn decode(d: &mut Decoder<'_>, metadata: Option<Metadata>, mut spec: Fields<'_>) -> Option<ServiceDocument> {
    let mut domains: Vec<Located<String>> = Vec::new();
    // What `aws vpc-lattice get-service` prints has the one, several are ours.
    if let Some(node) = spec.take(d, "customDomainName") {
        domains.extend(custom_domain(d, node));
    }
    if let Some(node) = spec.take(d, "customDomainNames") {
        for item in d.list(node, 0..=MAX_CUSTOM_DOMAINS, "domain names").unwrap_or_default() {
            if let Some(domain) = custom_domain(d, item)
                && d.unseen(&domains, &domain, "domain name")
            {
                domains.push(domain);
            }
        }
    }
    let networks = d.networks(&mut spec, false);
    let mut listeners: Vec<ListenerDocument> = Vec::new();
    if let Some(node) = spec.need(d, "listeners") {
        for item in d.list(node, 1..=MAX_LISTENERS, "listeners").unwrap_or_default() {
            let Some(listener) = listener(d, item) else { continue };
            if let Some(other) = listeners.iter().find(|other| other.port == listener.port) {
                let message = format!("port {} is taken by the listener at {}", listener.port, other.at.place());
                d.report(Diagnostic::error(&listener.at, message).help("give one of them another port"));
            } else if let Some(other) = listeners.iter().find(|other| other.name.value == listener.name.value) {
                let place = other.name.at.place();
                let message = format!("the listener {} is there twice; first at {place}", quote(&listener.name));
                d.report(Diagnostic::error(&listener.name.at, message));
            }
            listeners.push(listener);
        }
    }
    let idle = spec.take(d, "idleTimeoutSeconds").and_then(|node| d.number(node, 60..=600, "seconds"));
    let idle_timeout_seconds = idle.and_then(|n| u32::try_from(n).ok()).unwrap_or(IDLE_TIMEOUT_SECONDS);
    let shared_with = d.shared_with(&mut spec);
    let auth_type = d.auth_type(&mut spec);
    let tags = d.spec_tags(&mut spec);
    spec.later(d, "certificateArn", "listeners are HTTP in this version");
    spec.later(d, "onEngineFailure", "new connections are reset while the engine is away");
    spec.read_only(
        d,
        &["id", "arn", "name", "status", "dnsEntry", "createdAt", "lastUpdatedAt", "failureCode", "failureMessage"],
    );
    spec.finish(d);
    Some(ServiceDocument {
        metadata: metadata?,
        domains,
        networks,
        listeners,
        idle_timeout_seconds,
        auth_type,
        shared_with,
        tags,
    })
}

fn custom_domain(d: &mut Decoder<'_>, node: &Node) -> Option<Located<String>> {
    let text = d.string(node, "a domain name like orders.shop.internal")?;
    if text.starts_with("*.") {
        let diagnostic = d.error(node.mark, format!("{}: wildcards are not in this version", quote(text)));
        d.report(diagnostic.help("write each name out"));
        return None;
    }
    match names::domain(text) {
        Ok(value) => Some(Located { value, at: d.at(node.mark) }),
        Err(why) => {
            let diagnostic = d.error(node.mark, format!("{} is no domain name: {why}", quote(text)));
            d.report(diagnostic);
            None
        }
    }
}

fn listener(d: &mut Decoder<'_>, node: &Node) -> Option<ListenerDocument> {
    let mut fields = d.fields(node, "a listener")?;
    let at = d.at(node.mark);
    let name = fields.take(d, "name").and_then(|node| d.name(node, names::LISTENER));
    if let Some(node) = fields.need(d, "protocol") {
        let later = [("HTTPS", "the engine has no certificates yet"), ("TLS_PASSTHROUGH", "")];
        d.choice(node, "protocol", &[("HTTP", ())], &later);
    }
    let port = match fields.take(d, "port") {
        Some(node) => d.number(node, 1..=65535, "a port").and_then(|n| u16::try_from(n).ok()),
        None => Some(80),
    };
    let modes = [("replace", ForwardedHeaders::Replace), ("append", ForwardedHeaders::Append)];
    let forwarded_headers =
        fields.take(d, "forwardedHeaders").and_then(|node| d.choice(node, "forwardedHeaders", &modes, &[]));
    let default_action = fields.need(d, "defaultAction").and_then(|node| action(d, node));
    let mut rules = Vec::new();
    if let Some(node) = fields.take(d, "rules") {
        for item in d.list(node, 0..=MAX_RULES, "rules").unwrap_or_default() {
            rules.extend(rule(d, item));
        }
        unique(d, &rules);
        rules.sort_by_key(|rule: &RuleDocument| rule.priority.value);
    }
    fields.read_only(d, &["id", "arn", "status", "createdAt", "lastUpdatedAt", "serviceArn", "serviceId"]);
    fields.finish(d);
    let port = port?;
    let name = name.unwrap_or_else(|| Located { value: format!("http-{port}"), at: at.clone() });
    Some(ListenerDocument {
        name,
        port,
        forwarded_headers: forwarded_headers.unwrap_or_default(),
        default_action: default_action?,
        rules,
        at,
    })
}

fn unique(d: &mut Decoder<'_>, rules: &[RuleDocument]) {
    let (mut by_priority, mut by_name) = (HashMap::new(), HashMap::new());
    for rule in rules {
        if let Some(first) = by_priority.insert(rule.priority.value, &rule.priority.at) {
            let first: &Position = first;
            let message = format!("priority {} is taken by the rule at {}", rule.priority.value, first.place());
            d.report(Diagnostic::error(&rule.priority.at, message).expected("each rule of a listener to have its own"));
        }
        if let Some(first) = by_name.insert(&rule.name.value, &rule.name.at) {
            let first: &Position = first;
            let message = format!("the rule {} is there twice; first at {}", quote(&rule.name), first.place());
            d.report(Diagnostic::error(&rule.name.at, message));
        }
    }
}

fn rule(d: &mut Decoder<'_>, node: &Node) -> Option<RuleDocument> {
    let mut fields = d.fields(node, "a rule")?;
    let at = d.at(node.mark);
    let name = fields.need(d, "name").and_then(|node| d.name(node, names::RULE));
    let priority = fields.need(d, "priority").and_then(|node| {
        let value = d.number(node, 1..=MAX_PRIORITY, "a priority")?;
        Some(Located { value: u16::try_from(value).ok()?, at: d.at(node.mark) })
    });
    let matches = fields.need(d, "match").and_then(|node| matches(d, node));
    let action = fields.need(d, "action").and_then(|node| action(d, node));
    fields.read_only(d, &["id", "arn", "isDefault", "createdAt", "lastUpdatedAt"]);
    fields.finish(d);
    Some(RuleDocument { name: name?, priority: priority?, matches: matches?, action: action?, at })
}

fn matches(d: &mut Decoder<'_>, node: &Node) -> Option<MatchDocument> {
    let mut fields = d.fields(node, "a match")?;
    let http = fields.need(d, "httpMatch").and_then(|node| http_match(d, node));
    fields.finish(d);
    http
}

fn http_match(d: &mut Decoder<'_>, node: &Node) -> Option<MatchDocument> {
    let mut fields = d.fields(node, "an httpMatch")?;
    let method = fields.take(d, "method").and_then(|node| method(d, node));
    let path = fields.take(d, "pathMatch").and_then(|node| path_match(d, node));
    let host = fields.take(d, "hostMatch").and_then(|node| host_match(d, node));
    fields.later(d, "headerMatches", "match by path, method or host");
    let empty = !["method", "pathMatch", "hostMatch", "headerMatches"].iter().any(|name| fields.has(name));
    if fields.finish(d) && empty {
        let diagnostic =
            d.error(node.mark, "the match has no condition").expected("`method`, `pathMatch` or `hostMatch`");
        d.report(diagnostic.help("what matches everything is the listener's `defaultAction`"));
    }
    Some(MatchDocument { method, path, host })
}

fn method(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.string(node, "a method like GET")?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.is_empty() || text.len() > MAX_METHOD || !text.bytes().all(token) {
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
    Some(text.to_owned())
}

fn path_match(d: &mut Decoder<'_>, node: &Node) -> Option<PathMatch> {
    let mut fields = d.fields(node, "a pathMatch")?;
    let found = fields.need(d, "match").and_then(|node| {
        let mut members = d.fields(node, "a path's match")?;
        let exact = members.take(d, "exact").map(|node| (PathMatchKind::Exact, node));
        let prefix = members.take(d, "prefix").map(|node| (PathMatchKind::Prefix, node));
        members.later(d, "regex", "match by `exact` or `prefix`");
        let given: Vec<&str> = ["exact", "prefix"].into_iter().filter(|name| members.has(name)).collect();
        let regex = members.has("regex");
        let one = members.finish(d) && !regex && d.exactly_one(node.mark, &given, "`exact` and `prefix`");
        let (kind, node) = exact.or(prefix).filter(|_| one)?;
        Some((kind, path(d, node)?))
    });
    let case_sensitive = fields.take(d, "caseSensitive").and_then(|node| d.boolean(node));
    fields.finish(d);
    let (kind, value) = found?;
    Some(PathMatch { kind, value, case_sensitive: case_sensitive.unwrap_or(true) })
}

fn path(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.string(node, "a path like /orders")?;
    let wrong = |d: &mut Decoder<'_>, why: String| {
        let diagnostic = d.error(node.mark, format!("{} is no path: {why}", quote(text)));
        d.report(diagnostic);
        None
    };
    if !text.starts_with('/') {
        return wrong(d, "it does not begin with `/`".into());
    }
    if text.chars().count() > MAX_PATH {
        return wrong(d, format!("it has more than {MAX_PATH} characters"));
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#')) {
        return wrong(d, format!("paths are compared without query and fragment, so `{c}` would never match"));
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "@:%_+.~&/=-".contains(*c);
    if let Some(c) = text.chars().find(|c| !allowed(c)) {
        return wrong(d, format!("{} is not allowed in it", quote(&c.to_string())));
    }
    Some(text.to_owned())
}

fn host_match(d: &mut Decoder<'_>, node: &Node) -> Option<Located<String>> {
    let mut fields = d.fields(node, "a hostMatch")?;
    let host = fields.need(d, "match").and_then(|node| {
        let mut members = d.fields(node, "a host's match")?;
        let later = ["prefix", "suffix", "contains", "regex"];
        let node = if later.iter().any(|name| members.has(name)) {
            members.take(d, "exact")
        } else {
            members.need(d, "exact")
        };
        for name in later {
            members.later(d, name, "match a host by `exact`");
        }
        let host = node.and_then(|node| custom_domain(d, node));
        members.finish(d);
        host
    });
    fields.finish(d);
    host
}

fn action(d: &mut Decoder<'_>, node: &Node) -> Option<ActionDocument> {
    let mut fields = d.fields(node, "an action")?;
    let forward_node = fields.take(d, "forward");
    let fixed_node = fields.take(d, "fixedResponse");
    let given: Vec<&str> = ["forward", "fixedResponse"].into_iter().filter(|name| fields.has(name)).collect();
    let one = fields.finish(d) && d.exactly_one(node.mark, &given, "`forward` and `fixedResponse`");
    let forward = forward_node.and_then(|node| forward(d, node));
    let fixed = fixed_node.and_then(|node| {
        let mut fields = d.fields(node, "a fixedResponse")?;
        let status = fields.need(d, "statusCode").and_then(|node| d.number(node, 200..=599, "a final status code"));
        fields.finish(d);
        Some(ActionDocument::FixedResponse(u16::try_from(status?).ok()?))
    });
    forward.or(fixed).filter(|_| one)
}

fn forward(d: &mut Decoder<'_>, node: &Node) -> Option<ActionDocument> {
    let mut fields = d.fields(node, "a forward")?;
    let list = fields.need(d, "targetGroups");
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
    complete.then_some(ActionDocument::Forward(groups))
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
