//! Fields that several kinds share.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use brattice_wire::auth::AuthType;

use crate::diagnostic::{Located, quote};
use crate::ids::{IdKind, Identifier};
use crate::limits::{MAX_NETWORKS_PER_MEMBER, MAX_SHARED_WITH, MAX_TAGS};
use crate::names::{self, NameRule};
use crate::yaml::{Content, Decoder, Fields, Node};

/// Labels or tags.
pub type Tags = BTreeMap<String, String>;

/// `metadata`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Unique among the owner's documents of the kind.
    pub name: Located<String>,
    /// For selection.
    pub labels: Tags,
}

impl Decoder<'_> {
    /// A name under a rule.
    pub(crate) fn name(&mut self, node: &Node, rule: NameRule) -> Option<Located<String>> {
        let name = self.located(node, "a name")?;
        if let Err(why) = names::check(&name.value, rule) {
            let diagnostic = self.error(node.mark, format!("{} is no name: {why}", quote(&name.value)));
            let fixed = suggestion(&name.value);
            let better = names::check(&fixed, rule).is_ok().then_some(fixed);
            self.report(diagnostic.nearest(better.as_deref()));
            return None;
        }
        Some(name)
    }

    pub(crate) fn metadata(&mut self, node: &Node, rule: NameRule) -> Option<Metadata> {
        let mut fields = self.fields(node, "metadata")?;
        let name = fields.need(self, "name").and_then(|node| self.name(node, rule));
        let labels = fields.take(self, "labels").and_then(|node| self.tags(node, "labels"));
        fields.finish(self);
        Some(Metadata { name: name?, labels: labels.unwrap_or_default() })
    }

    /// A mapping of strings.
    pub(crate) fn tags(&mut self, node: &Node, what: &'static str) -> Option<Tags> {
        let fields = self.fields(node, what)?;
        let mut tags = Tags::new();
        for (key, mark, value) in fields.all() {
            let length = key.chars().count();
            if length == 0 || length > 128 || key.starts_with("aws:") {
                let diagnostic = self.error(mark, format!("{} is no key of {what}", quote(key)));
                self.report(diagnostic.expected("1 to 128 characters, not beginning with `aws:`"));
            }
            let Some(text) = self.string(value, "the value of a key") else { continue };
            if text.chars().count() > 256 {
                let diagnostic = self.error(value.mark, format!("a value of {what} has at most 256 characters"));
                self.report(diagnostic);
            }
            tags.insert(key.to_owned(), text.to_owned());
        }
        if tags.len() > MAX_TAGS {
            let diagnostic = self.error(node.mark, format!("{} {what}; at most {MAX_TAGS}", tags.len()));
            self.report(diagnostic);
        }
        Some(tags)
    }

    /// `spec.tags`.
    pub(crate) fn spec_tags(&mut self, fields: &mut Fields<'_>) -> Tags {
        fields.take(self, "tags").and_then(|node| self.tags(node, "tags")).unwrap_or_default()
    }

    pub(crate) fn identifier(&mut self, node: &Node, kind: IdKind, rule: NameRule) -> Option<Located<Identifier>> {
        let text = self.string(node, "a name, account/name, id or ARN")?;
        match Identifier::parse(text, kind, rule) {
            Ok(value) => Some(Located { value, at: self.at(node.mark) }),
            Err(why) => {
                let diagnostic = self.error(node.mark, format!("{} names no {}: {why}", quote(text), rule.noun()));
                self.report(diagnostic.expected("a name, account/name, id or ARN"));
                None
            }
        }
    }

    /// A role: roles have no ids.
    pub(crate) fn role_identifier(&mut self, node: &Node) -> Option<Located<Identifier>> {
        let text = self.string(node, "a name, account/name or ARN of a role")?;
        match Identifier::parse_role(text) {
            Ok(value) => Some(Located { value, at: self.at(node.mark) }),
            Err(why) => {
                let diagnostic = self.error(node.mark, format!("{} names no role: {why}", quote(text)));
                self.report(diagnostic.expected("a name, account/name or ARN"));
                None
            }
        }
    }

    /// `sharedWith`: account names or ids.
    pub(crate) fn shared_with(&mut self, fields: &mut Fields<'_>) -> Vec<Located<String>> {
        let Some(node) = fields.take(self, "sharedWith") else { return Vec::new() };
        let Some(items) = self.list(node, 0..=MAX_SHARED_WITH, "accounts") else { return Vec::new() };
        let mut shared: Vec<Located<String>> = Vec::with_capacity(items.len());
        for item in items {
            let Some(name) = self.located(item, "the name or id of an account") else { continue };
            if let Err(why) = names::check(&name.value, names::ACCOUNT) {
                let diagnostic = self.error(item.mark, format!("{} names no account: {why}", quote(&name.value)));
                self.report(diagnostic.expected("the name or 12-digit id of an account"));
            } else if self.unseen(&shared, &name, "account") {
                shared.push(name);
            }
        }
        shared
    }

    /// Reports a repeated item of a list.
    pub(crate) fn unseen<T: PartialEq + std::fmt::Display>(
        &mut self,
        before: &[Located<T>],
        item: &Located<T>,
        what: &str,
    ) -> bool {
        let Some(first) = before.iter().find(|other| other.value == item.value) else { return true };
        let message =
            format!("the {what} {} is there twice; first at {}", quote(&item.value.to_string()), first.at.place());
        self.sink.push(crate::diagnostic::Diagnostic::error(&item.at, message));
        false
    }

    /// `serviceNetworks` of a service or VPC: names, or objects with the association's fields.
    pub(crate) fn networks(&mut self, fields: &mut Fields<'_>, of_vpc: bool) -> Vec<Located<Identifier>> {
        let Some(node) = fields.take(self, "serviceNetworks") else { return Vec::new() };
        let Some(items) = self.list(node, 0..=MAX_NETWORKS_PER_MEMBER, "service networks") else { return Vec::new() };
        let mut networks: Vec<Located<Identifier>> = Vec::with_capacity(items.len());
        for item in items {
            let identifier = if matches!(item.content, Content::Map(_)) {
                self.fields(item, "an association").and_then(|mut fields| {
                    let network = fields.need(self, "serviceNetworkIdentifier");
                    let network =
                        network.and_then(|n| self.identifier(n, IdKind::ServiceNetwork, names::SERVICE_NETWORK));
                    if of_vpc {
                        self.vpc_association_later(&mut fields);
                    }
                    fields.finish(self);
                    network
                })
            } else {
                self.identifier(item, IdKind::ServiceNetwork, names::SERVICE_NETWORK)
            };
            if let Some(identifier) = identifier
                && self.unseen(&networks, &identifier, "service network")
            {
                networks.push(identifier);
            }
        }
        networks
    }

    /// Fields of a VPC association that do nothing yet.
    pub(crate) fn vpc_association_later(&mut self, fields: &mut Fields<'_>) {
        fields.later(self, "securityGroupIds", "without it every workload of the VPC may call; leave it out");
        fields.later(self, "privateDnsEnabled", "leave it out");
        fields.later(self, "dnsOptions", "leave it out");
    }

    /// `authType`.
    pub(crate) fn auth_type(&mut self, fields: &mut Fields<'_>) -> AuthType {
        let words = [("NONE", AuthType::None), ("AWS_IAM", AuthType::AwsIam)];
        let node = fields.take(self, "authType");
        node.and_then(|node| self.choice(node, "authType", &words, &[])).unwrap_or_default()
    }

    /// An address as targets, workloads and the like have one.
    pub(crate) fn address(&mut self, node: &Node, what: &str) -> Option<Located<IpAddr>> {
        let text = self.string(node, what)?;
        let Ok(address) = text.parse::<IpAddr>() else {
            let diagnostic = self.error(node.mark, format!("{} is no IP address", quote(text)));
            self.report(diagnostic.expected(format!("{what}: an IPv4 or IPv6 address")));
            return None;
        };
        if let Some(what) = special(address) {
            let diagnostic = self.error(node.mark, format!("{} is {what}", quote(text)));
            let diagnostic = diagnostic.expected("an address of a workload inside its VPC's CIDR blocks");
            self.report(match mapped(address) {
                Some(v4) => diagnostic.help(format!("write it as {v4}")),
                None => diagnostic,
            });
            return None;
        }
        Some(Located { value: address, at: self.at(node.mark) })
    }
}

/// What keeps an address from being one of a workload.
pub(crate) fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special4(address),
        IpAddr::V6(address) => special6(address),
    }
}

fn special4(address: Ipv4Addr) -> Option<&'static str> {
    match address {
        a if a.octets()[0] == 0 => Some("an unspecified address"),
        a if a.is_loopback() => Some("a loopback address"),
        a if a.is_link_local() => Some("a link-local address"),
        a if a.is_multicast() => Some("a multicast address"),
        a if a.is_broadcast() => Some("the broadcast address"),
        a if a.octets()[0] >= 240 => Some("a reserved address"),
        _ => None,
    }
}

fn special6(address: Ipv6Addr) -> Option<&'static str> {
    match address {
        a if a.is_unspecified() => Some("an unspecified address"),
        a if a.is_loopback() => Some("a loopback address"),
        a if a.to_ipv4_mapped().is_some() => Some("an IPv4 address written as one of IPv6"),
        // RFC 4291, 2.4 and IANA's registry: 0000::/8.
        a if a.octets()[0] == 0 => Some("a reserved address"),
        a if a.is_unicast_link_local() => Some("a link-local address"),
        a if a.is_multicast() => Some("a multicast address"),
        _ => None,
    }
}

/// The IPv4 address that an IPv4-mapped IPv6 address stands for.
pub(crate) fn mapped(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    }
}

/// A name brought into the form names have, to be suggested.
fn suggestion(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take(200) {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => out.push(c),
            _ if !out.is_empty() && !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    out.trim_end_matches('-').to_owned()
}
