//! `Vpc` and `Workload`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use super::common::{Metadata, Tags, mapped, special};
use crate::diagnostic::{Located, quote};
use crate::ids::{IdKind, Identifier};
use crate::limits::{MAX_ATTACHMENTS, MAX_CIDR_BLOCKS, MAX_DNS_UPSTREAMS, MAX_WORKLOAD_ADDRESSES};
use crate::names::{self, Glob};
use crate::yaml::{Decoder, Fields, Node};

/// An address space and how its workloads are found.
#[derive(Clone, Debug, PartialEq)]
pub struct VpcDocument {
    /// Name and labels.
    pub metadata: Metadata,
    /// The account it belongs to; none = the operator.
    pub account: Option<Located<String>>,
    /// Its addresses; several VPCs may have the same.
    pub cidrs: Vec<Located<IpNet>>,
    /// Which interfaces are its workloads'.
    pub attachments: Vec<Attachment>,
    /// How its workloads' DNS questions come to us.
    pub dns: DnsMode,
    /// Where other names are asked.
    pub dns_upstreams: Vec<Located<SocketAddr>>,
    /// Networks it asks to be associated with.
    pub networks: Vec<Located<Identifier>>,
    /// Tags.
    pub tags: Tags,
}

impl VpcDocument {
    /// `account/name`, or `name` for the operator's.
    pub fn qualified(&self) -> String {
        match &self.account {
            Some(account) => format!("{}/{}", account.value, self.metadata.name.value),
            None => self.metadata.name.value.clone(),
        }
    }
}

/// Selects interfaces; what is given must all match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the host-side interface.
    pub interface: Option<Glob>,
    /// Name of the network namespace at the other end, as in `/run/netns`.
    pub namespace: Option<Glob>,
    /// Cgroup of a process in that namespace, or one above it; below the root of the v2 hierarchy.
    pub namespace_cgroup: Option<Glob>,
    /// Whether an interface that carries another CNI's programs is taken as well.
    pub allow_beside_cni: bool,
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = [
            ("interface", &self.interface),
            ("namespace", &self.namespace),
            ("namespaceCgroup", &self.namespace_cgroup),
        ];
        let given = fields.into_iter().filter_map(|(name, glob)| Some((name, glob.as_ref()?)));
        for (place, (name, glob)) in given.enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{name}: {:?}", glob.as_str())?;
        }
        Ok(())
    }
}

/// How a VPC's DNS questions come to Brattice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsMode {
    /// Workloads ask the DNS VIP.
    #[default]
    Vip,
    /// Port 53 to any address is taken.
    Intercept,
}

/// One workload, named.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadDocument {
    /// Name and labels.
    pub metadata: Metadata,
    /// Its VPC.
    pub vpc: Located<Identifier>,
    /// The role it calls as; none = the only one that trusts it.
    pub role: Option<Located<Identifier>>,
    /// Name of its host-side interface.
    pub interface: Option<Located<String>>,
    /// Name of its network namespace.
    pub namespace: Option<Located<String>>,
    /// Path that leads to its network namespace: `/proc/PID/ns/net`, or where a runtime mounts it.
    pub namespace_path: Option<Located<String>>,
    /// Cgroup of a process in its network namespace, or one above it.
    pub namespace_cgroup: Option<Located<Glob>>,
    /// Cgroup of processes of the host itself, or one above it: the workload is these, and has no interface.
    pub cgroup: Option<Located<Glob>>,
    /// Their user, with `cgroup`; none = any.
    pub uid: Option<Located<u32>>,
    /// Link address of its side, for a guest behind a tap: nothing else shows it.
    pub mac: Option<Located<[u8; 6]>>,
    /// Its addresses; empty = those discovered.
    pub addresses: Vec<Located<IpAddr>>,
    /// Whether it is taken although its interface carries another CNI's programs.
    pub allow_beside_cni: bool,
    /// Tags.
    pub tags: Tags,
}

pub(super) fn decode_vpc(d: &mut Decoder<'_>, metadata: Option<Metadata>, mut spec: Fields<'_>) -> Option<VpcDocument> {
    let account = spec.take(d, "account").and_then(|node| d.name(node, names::ACCOUNT));
    let mut cidrs = Vec::new();
    if let Some(node) = spec.need(d, "cidrBlocks") {
        for item in d.list(node, 1..=MAX_CIDR_BLOCKS, "CIDR blocks").unwrap_or_default() {
            if let Some(cidr) = cidr(d, item) {
                overlap(d, &cidrs, &cidr);
                cidrs.push(cidr);
            }
        }
    }
    let mut attachments = Vec::new();
    if let Some(node) = spec.take(d, "attachments") {
        for item in d.list(node, 0..=MAX_ATTACHMENTS, "attachments").unwrap_or_default() {
            attachments.extend(attachment(d, item));
        }
    }
    let modes = [("vip", DnsMode::Vip), ("intercept", DnsMode::Intercept)];
    let dns = spec.take(d, "dns").and_then(|node| d.choice(node, "dns", &modes, &[]));
    let mut dns_upstreams = Vec::new();
    if let Some(node) = spec.take(d, "dnsUpstreams") {
        for item in d.list(node, 0..=MAX_DNS_UPSTREAMS, "DNS upstreams").unwrap_or_default() {
            if let Some(upstream) = upstream(d, item)
                && d.unseen(&dns_upstreams, &upstream, "DNS upstream")
            {
                dns_upstreams.push(upstream);
            }
        }
    }
    let networks = d.networks(&mut spec, true);
    let tags = d.spec_tags(&mut spec);
    spec.later(d, "ipv6CidrBlocks", "`cidrBlocks` takes both families");
    spec.read_only(d, &["id", "arn", "vpcId", "status", "createdAt", "lastUpdatedAt"]);
    spec.finish(d);
    Some(VpcDocument {
        metadata: metadata?,
        account,
        cidrs,
        attachments,
        dns: dns.unwrap_or_default(),
        dns_upstreams,
        networks,
        tags,
    })
}

/// Largest block that a VPC may have: a larger one would hold public addresses.
const SHORTEST_PREFIX: u8 = 8;
/// Likewise of IPv6: providers hold a /16 at most.
const SHORTEST_PREFIX6: u8 = 16;

fn cidr(d: &mut Decoder<'_>, node: &Node) -> Option<Located<IpNet>> {
    let expected = "a CIDR block like 10.0.0.0/16 or fd10::/64";
    let text = d.string(node, expected)?;
    let Ok(net) = text.parse::<IpNet>() else {
        let diagnostic = d.error(node.mark, format!("{} is no CIDR block", quote(text))).expected(expected);
        let alone = text.parse::<IpAddr>().map(IpNet::from);
        d.report(match alone {
            Ok(alone) => diagnostic.help(format!("one address alone is {alone}")),
            Err(_) => diagnostic,
        });
        return None;
    };
    if net.trunc() != net {
        let diagnostic = d.error(node.mark, format!("{net} has bits behind its prefix"));
        d.report(diagnostic.help(format!("did you mean {}?", quote(&net.trunc().to_string()))));
        return None;
    }
    let shortest = if net.addr().is_ipv4() { SHORTEST_PREFIX } else { SHORTEST_PREFIX6 };
    if net.prefix_len() < shortest {
        let diagnostic = d.error(node.mark, format!("{net} is too large for a VPC"));
        d.report(diagnostic.expected(format!("a prefix of /{shortest} to /{}", net.max_prefix_len())));
        return None;
    }
    // Of IPv6, no block this small lies around such addresses without beginning among them.
    let around = IpNet::new_assert(IpAddr::from([169, 254, 0, 0]), 16);
    if let Some(what) = special(net.network())
        .or_else(|| special(net.broadcast()))
        .or_else(|| net.contains(&around).then_some("around link-local addresses"))
    {
        let diagnostic = d.error(node.mark, format!("no workload can have an address of {net}: it is {what}"));
        d.report(match mapped(net.network()) {
            Some(v4) => diagnostic.help(format!("write it as {v4}/{}", net.prefix_len().saturating_sub(96))),
            None => diagnostic,
        });
        return None;
    }
    Some(Located { value: net, at: d.at(node.mark) })
}

fn overlap(d: &mut Decoder<'_>, before: &[Located<IpNet>], cidr: &Located<IpNet>) {
    let other = before.iter().find(|o| o.value.contains(&cidr.value) || cidr.value.contains(&o.value));
    if let Some(other) = other {
        let message = format!("{} overlaps {} of the same VPC at {}", cidr.value, other.value, other.at.place());
        d.sink.push(crate::diagnostic::Diagnostic::error(&cidr.at, message));
    }
}

fn attachment(d: &mut Decoder<'_>, node: &Node) -> Option<Attachment> {
    let mut fields = d.fields(node, "an attachment")?;
    let mut pattern = |d: &mut Decoder<'_>, name| fields.take(d, name).and_then(|node| glob(d, node, Glob::new));
    let (interface, namespace) = (pattern(d, "interface"), pattern(d, "namespace"));
    let namespace_cgroup = fields.take(d, "namespaceCgroup").and_then(|node| glob(d, node, Glob::path));
    let empty = !["interface", "namespace", "namespaceCgroup"].into_iter().any(|name| fields.has(name));
    let allow_beside_cni = beside_cni(d, &mut fields);
    // A misspelt field alone is already reported.
    if fields.finish(d) && empty {
        let diagnostic = d.error(node.mark, "the attachment selects nothing");
        d.report(diagnostic.expected("`interface`, `namespace`, `namespaceCgroup`, or several of them"));
    }
    Some(Attachment { interface, namespace, namespace_cgroup, allow_beside_cni })
}

fn beside_cni(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> bool {
    fields.take(d, "allowBesideCni").and_then(|node| d.boolean(node)).unwrap_or(false)
}

fn glob(d: &mut Decoder<'_>, node: &Node, read: fn(&str) -> Result<Glob, String>) -> Option<Glob> {
    let text = d.string(node, "a pattern like blue*")?;
    match read(text) {
        Ok(glob) => Some(glob),
        Err(why) => {
            let diagnostic = d.error(node.mark, format!("{} is no pattern: {why}", quote(text)));
            d.report(diagnostic);
            None
        }
    }
}

/// Where a workload with an interface is.
const PLACES: [&str; 4] = ["interface", "namespace", "namespacePath", "namespaceCgroup"];
const PLACES_EXPECTED: &str = "`interface`, `namespace`, `namespacePath`, `namespaceCgroup`, or several of them; or `cgroup`, of processes of the host";
const CGROUP_ALONE: &str = "`cgroup`, `uid` and `addresses` alone";
/// The kernel's -1 is no user.
const LARGEST_UID: u64 = u32::MAX as u64 - 1;

/// Longest path that the kernel takes, bytes, without its end.
const LONGEST_PATH: usize = 4_095;

fn path(d: &mut Decoder<'_>, node: &Node) -> Option<Located<String>> {
    let path = d.located(node, "a path like /proc/4711/ns/net")?;
    let whole = path.starts_with('/') && !path.split('/').skip(1).any(|step| matches!(step, "" | "." | ".."));
    if path.len() > LONGEST_PATH || path.contains(char::is_control) || !whole {
        let diagnostic = d.error(node.mark, format!("{} is no path of a network namespace", quote(&path)));
        d.report(diagnostic.expected("an absolute path without `.` and `..`, like /proc/4711/ns/net"));
        return None;
    }
    Some(path)
}

fn mac(d: &mut Decoder<'_>, node: &Node) -> Option<Located<[u8; 6]>> {
    let text = d.string(node, "a link address like 52:54:00:12:34:56")?;
    let bytes: Vec<u8> = text
        .split(':')
        .filter(|byte| byte.len() == 2 && byte.bytes().all(|b| b.is_ascii_hexdigit()))
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    match <[u8; 6]>::try_from(bytes) {
        Ok(mac) if text.len() == 17 && mac[0] & 1 == 0 && mac != [0; 6] => {
            Some(Located { value: mac, at: d.at(node.mark) })
        }
        _ => {
            let diagnostic = d.error(node.mark, format!("{} is no link address of one interface", quote(text)));
            d.report(diagnostic.expected("six bytes like 52:54:00:12:34:56, of no group"));
            None
        }
    }
}

fn upstream(d: &mut Decoder<'_>, node: &Node) -> Option<Located<SocketAddr>> {
    let text = d.string(node, "an address or address:port")?;
    let upstream = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(address), _) => SocketAddr::new(address, 53),
        (_, Ok(upstream)) => upstream,
        _ => {
            let diagnostic = d.error(node.mark, format!("{} is no DNS upstream", quote(text)));
            d.report(
                diagnostic
                    .expected("an address or address:port, like 10.0.0.2, 10.0.0.2:5353, fd10::2 or [fd10::2]:5353"),
            );
            return None;
        }
    };
    let address = upstream.ip();
    // The host may well have a resolver of its own on loopback or link-local; the rest cannot be asked.
    let near = match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        // A link-local one would need to name its interface.
        IpAddr::V6(address) => address.is_loopback(),
    };
    let special = special(address).filter(|_| !near);
    if let Some(what) = special.or((upstream.port() == 0).then_some("without a port")) {
        let diagnostic = d.error(node.mark, format!("{} cannot be asked: it is {what}", quote(text)));
        d.report(diagnostic);
        return None;
    }
    Some(Located { value: upstream, at: d.at(node.mark) })
}

pub(super) fn decode_workload(
    d: &mut Decoder<'_>,
    metadata: Option<Metadata>,
    mut spec: Fields<'_>,
) -> Option<WorkloadDocument> {
    let vpc = spec.need(d, "vpcIdentifier").and_then(|node| d.identifier(node, IdKind::Vpc, names::VPC));
    let role = spec.take(d, "roleIdentifier").and_then(|node| d.role_identifier(node));
    let mut place = |d: &mut Decoder<'_>, name, longest: usize| {
        let node = spec.take(d, name)?;
        let text = d.located(node, "a name, not a pattern")?;
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '*' | '?');
        if text.is_empty() || text.len() > longest || text.contains(bad) || text.value == "." || text.value == ".." {
            let diagnostic = d.error(node.mark, format!("{} names no {name}", quote(&text)));
            let expected = format!("1 to {longest} characters without spaces, slashes and wildcards");
            d.report(diagnostic.expected(expected).help("patterns belong in the attachments of a Vpc"));
            return None;
        }
        Some(text)
    };
    // IFNAMSIZ and NAME_MAX.
    let (interface, namespace) = (place(d, "interface", 15), place(d, "namespace", 255));
    let namespace_path = spec.take(d, "namespacePath").and_then(|node| path(d, node));
    let mut cgroups = |d: &mut Decoder<'_>, name| {
        let node = spec.take(d, name)?;
        let at = d.at(node.mark);
        glob(d, node, Glob::path).map(|value| Located { value, at })
    };
    let (namespace_cgroup, cgroup) = (cgroups(d, "namespaceCgroup"), cgroups(d, "cgroup"));
    let uid = spec.take(d, "uid").and_then(|node| {
        let at = d.at(node.mark);
        let value = d.number(node, 0..=LARGEST_UID, "a user's number")?;
        u32::try_from(value).ok().map(|value| Located { value, at })
    });
    let mac = spec.take(d, "macAddress").and_then(|node| mac(d, node));
    let given: Vec<&str> = PLACES.into_iter().filter(|name| spec.has(name)).collect();
    let (mark, host, of_user) = (spec.mark, spec.has("cgroup"), spec.has("uid"));
    let (addressed, linked) = (spec.has("addresses"), spec.has("macAddress") || spec.has("allowBesideCni"));
    let mut addresses = Vec::new();
    if let Some(node) = spec.take(d, "addresses") {
        for item in d.list(node, 0..=MAX_WORKLOAD_ADDRESSES, "addresses").unwrap_or_default() {
            if let Some(address) = d.address(item, "an address of the workload")
                && d.unseen(&addresses, &address, "address")
            {
                addresses.push(address);
            }
        }
    }
    let allow_beside_cni = beside_cni(d, &mut spec);
    let tags = d.spec_tags(&mut spec);
    spec.read_only(d, &["id", "arn", "alias", "status"]);
    if spec.finish(d) {
        let (problem, expected) = match (host, &given[..]) {
            (false, []) => ("the workload is nowhere", PLACES_EXPECTED),
            (false, _) if of_user => ("`uid` is of processes of the host", "`cgroup` with it"),
            (true, [_, ..]) => ("processes of the host have no interface and no namespace of their own", CGROUP_ALONE),
            (true, _) if linked => ("processes of the host have no interface", CGROUP_ALONE),
            (true, _) if !addressed => (
                "Brattice cannot discover which addresses of the VPC processes of the host have",
                "`addresses` with `cgroup`",
            ),
            _ => ("", ""),
        };
        if !problem.is_empty() {
            let diagnostic = d.error(mark, problem);
            d.report(diagnostic.expected(expected));
        }
    }
    Some(WorkloadDocument {
        metadata: metadata?,
        vpc: vpc?,
        role,
        interface,
        namespace,
        namespace_path,
        namespace_cgroup,
        cgroup,
        uid,
        mac,
        addresses,
        allow_beside_cni,
        tags,
    })
}
