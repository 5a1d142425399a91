//! `Service` with its listeners and rules.

use brattice_wire::auth::AuthType;
use brattice_wire::snapshot::{ForwardedHeaders, Precedence, Protocol};

use super::common::{Metadata, Tags};
use super::rule::{self, ActionDocument, RuleDocument};
use crate::diagnostic::{Diagnostic, Located, Position, quote};
use crate::ids::Identifier;
use crate::limits::{IDLE_TIMEOUT_SECONDS, MAX_CUSTOM_DOMAINS, MAX_LISTENERS};
use crate::names;
use crate::yaml::{Content, Decoder, Fields, Node};

/// A service.
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
    /// Protocol of its connections.
    pub protocol: Protocol,
    /// How `x-forwarded-*` headers are written.
    pub forwarded_headers: ForwardedHeaders,
    /// Which of several rules that match is taken.
    pub precedence: Precedence,
    /// When no rule matches.
    pub default_action: ActionDocument,
    /// By priority, or as written where the order is by specificity; priorities and names are unique.
    pub rules: Vec<RuleDocument>,
    /// Where it is.
    pub at: Position,
}

pub(super) fn decode(d: &mut Decoder<'_>, metadata: Option<Metadata>, mut spec: Fields<'_>) -> Option<ServiceDocument> {
    let mut domains: Vec<Located<String>> = Vec::new();
    // What `aws vpc-lattice get-service` prints has one; several are Brattice's extension.
    if let Some(node) = spec.take(d, "customDomainName") {
        if let Content::List(_) = node.content {
            let diagnostic = d.error(node.mark, "found a list").expected("one domain name");
            d.report(diagnostic.help("several names belong into `customDomainNames`"));
        } else {
            domains.extend(custom_domain(d, node));
        }
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
    let idle_timeout_seconds = idle.map_or(IDLE_TIMEOUT_SECONDS, |n| u32::try_from(n).expect("at most 600"));
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
    let later = [("HTTPS", "the engine has no certificates yet"), ("TLS_PASSTHROUGH", "")];
    let protocols = [("HTTP", Protocol::Http)];
    let protocol = fields.need(d, "protocol").and_then(|node| d.choice(node, "protocol", &protocols, &later));
    let port = match fields.take(d, "port") {
        Some(node) => d.number(node, 1..=65535, "a port").and_then(|n| u16::try_from(n).ok()),
        None => Some(80),
    };
    let modes = [("replace", ForwardedHeaders::Replace), ("append", ForwardedHeaders::Append)];
    let forwarded_headers =
        fields.take(d, "forwardedHeaders").and_then(|node| d.choice(node, "forwardedHeaders", &modes, &[]));
    let orders = [("priority", Precedence::Priority), ("mostSpecific", Precedence::MostSpecific)];
    let precedence = fields.take(d, "rulePrecedence").and_then(|node| d.choice(node, "rulePrecedence", &orders, &[]));
    let precedence = precedence.unwrap_or_default();
    let default_action = fields.need(d, "defaultAction").and_then(|node| rule::default_action(d, node));
    let rules = fields.take(d, "rules").map(|node| rule::decode(d, node, precedence)).unwrap_or_default();
    fields.read_only(d, &["id", "arn", "status", "createdAt", "lastUpdatedAt", "serviceArn", "serviceId"]);
    fields.finish(d);
    let port = port?;
    let name = name.unwrap_or_else(|| Located { value: format!("http-{port}"), at: at.clone() });
    Some(ListenerDocument {
        name,
        port,
        // Where it is not understood, the document is refused.
        protocol: protocol.unwrap_or(Protocol::Http),
        forwarded_headers: forwarded_headers.unwrap_or_default(),
        precedence,
        default_action: default_action?,
        rules,
        at,
    })
}
