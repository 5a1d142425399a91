//! `TargetGroup`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use brattice_wire::snapshot::ProtocolVersion;

use super::common::{Metadata, Tags};
use crate::diagnostic::{Diagnostic, Located, Position};
use crate::ids::{IdKind, Identifier};
use crate::limits::{MAX_POOL_IDLE_SECONDS, MAX_TARGETS};
use crate::names;
use crate::yaml::{Decoder, Fields, Node};

/// Where calls go.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGroupDocument {
    /// Name and labels.
    pub metadata: Metadata,
    /// The VPC of its targets.
    pub vpc: Located<Identifier>,
    /// Port of targets that name none.
    pub port: u16,
    /// Protocol towards targets.
    pub protocol_version: ProtocolVersion,
    /// How long a kept connection to a target may idle; 0 to 600.
    pub idle_timeout_seconds: Option<u32>,
    /// Its targets; (address, port) are unique.
    pub targets: Vec<TargetDocument>,
    /// Tags.
    pub tags: Tags,
}

/// A target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetDocument {
    /// Its address in the VPC.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Where it is.
    pub at: Position,
}

pub(super) fn decode(
    d: &mut Decoder<'_>,
    metadata: Option<Metadata>,
    mut spec: Fields<'_>,
) -> Option<TargetGroupDocument> {
    if let Some(node) = spec.take(d, "type") {
        let later = [
            ("INSTANCE", "list the workloads' addresses as targets"),
            ("LAMBDA", ""),
            ("ALB", "list the addresses behind it as targets"),
        ];
        d.choice(node, "type", &[("IP", ())], &later);
    }
    let config = spec.need(d, "config").and_then(|node| config(d, node));
    let idle_timeout_seconds = spec.take(d, "connectionPool").and_then(|node| connection_pool(d, node));
    let mut targets = Vec::new();
    if let Some(node) = spec.take(d, "targets") {
        let default = config.as_ref().map_or(80, |config| config.port);
        for item in d.list(node, 0..=MAX_TARGETS, "targets").unwrap_or_default() {
            targets.extend(target(d, item, default));
        }
        if let Some(only_ipv4) = config.as_ref().and_then(|config| config.only_ipv4) {
            let kind = if only_ipv4 { "IPV4" } else { "IPV6" };
            for target in targets.iter().filter(|target| target.address.is_ipv4() != only_ipv4) {
                let message = format!("the target {} does not fit ipAddressType {kind}", target.address);
                let help = "leave ipAddressType out where targets are of both kinds";
                d.report(Diagnostic::error(&target.at, message).help(help));
            }
        }
        let mut seen: HashMap<(IpAddr, u16), &Position> = HashMap::new();
        for target in &targets {
            let target: &TargetDocument = target;
            if let Some(first) = seen.insert((target.address, target.port), &target.at) {
                let place = first.place();
                let message = format!(
                    "the target {} is there twice; first at {place}",
                    SocketAddr::new(target.address, target.port)
                );
                d.report(Diagnostic::error(&target.at, message));
            }
        }
    }
    let tags = d.spec_tags(&mut spec);
    spec.read_only(
        d,
        &["id", "arn", "name", "status", "createdAt", "lastUpdatedAt", "serviceArns", "failureCode", "failureMessage"],
    );
    spec.finish(d);
    let config = config?;
    Some(TargetGroupDocument {
        metadata: metadata?,
        vpc: config.vpc?,
        port: config.port,
        protocol_version: config.protocol_version,
        idle_timeout_seconds,
        targets,
        tags,
    })
}

struct Config {
    vpc: Option<Located<Identifier>>,
    port: u16,
    protocol_version: ProtocolVersion,
    /// `ipAddressType`, if it is given: all targets are of IPv4, or none is. Else both kinds may be there.
    only_ipv4: Option<bool>,
}

fn config(d: &mut Decoder<'_>, node: &Node) -> Option<Config> {
    let mut fields = d.fields(node, "a target group's config")?;
    let vpc = fields.need(d, "vpcIdentifier").and_then(|node| d.identifier(node, IdKind::Vpc, names::VPC));
    let port = fields.take(d, "port").and_then(|node| d.number(node, 1..=65535, "a port"));
    if let Some(node) = fields.take(d, "protocol") {
        d.choice(node, "protocol", &[("HTTP", ())], &[("HTTPS", "targets are spoken to in plain HTTP"), ("TCP", "")]);
    }
    let versions = [("HTTP1", ProtocolVersion::Http1), ("HTTP2", ProtocolVersion::Http2)];
    let later = [("GRPC", "HTTP2 carries gRPC, too")];
    let version =
        fields.take(d, "protocolVersion").and_then(|node| d.choice(node, "protocolVersion", &versions, &later));
    let only_ipv4 = fields
        .take(d, "ipAddressType")
        .and_then(|node| d.choice(node, "ipAddressType", &[("IPV4", true), ("IPV6", false)], &[]));
    if let Some(node) = fields.take(d, "healthCheck") {
        health_check(d, node);
    }
    fields.later(d, "lambdaEventStructureVersion", "leave it out");
    fields.finish(d);
    Some(Config {
        vpc,
        port: port.map_or(80, |n| u16::try_from(n).expect("d.number() bounds a port")),
        protocol_version: version.unwrap_or(ProtocolVersion::Http1),
        only_ipv4,
    })
}

/// How connections to targets are kept: named as App Mesh and Istio name it.
fn connection_pool(d: &mut Decoder<'_>, node: &Node) -> Option<u32> {
    let mut fields = d.fields(node, "a connection pool")?;
    let idle = fields.take(d, "idleTimeoutSeconds");
    let idle = idle.and_then(|node| d.number(node, 0..=MAX_POOL_IDLE_SECONDS, "seconds"));
    fields.finish(d);
    idle.and_then(|n| u32::try_from(n).ok())
}

/// Health checks are not made yet, so a target group must say `enabled: false` or leave `healthCheck` out.
fn health_check(d: &mut Decoder<'_>, node: &Node) {
    let help =
        "targets are not checked, and all of them take requests; say `healthCheck: {enabled: false}` or leave it out";
    let Some(mut fields) = d.fields(node, "a health check") else { return };
    let given = fields.has("enabled");
    let refused = match fields.take(d, "enabled") {
        Some(enabled) => (d.boolean(enabled) == Some(true)).then_some(enabled.mark),
        // Lattice's default is on; a field without a value is reported already.
        None => (!given).then_some(node.mark),
    };
    if let Some(mark) = refused {
        let diagnostic = d.error(mark, "health checks are not in this version");
        d.report(diagnostic.help(help));
    }
    // What a disabled check would do is kept by Lattice and has no effect there either.
    for name in [
        "protocol",
        "protocolVersion",
        "port",
        "path",
        "healthCheckIntervalSeconds",
        "healthCheckTimeoutSeconds",
        "healthyThresholdCount",
        "unhealthyThresholdCount",
        "matcher",
    ] {
        fields.take(d, name);
    }
    fields.finish(d);
}

fn target(d: &mut Decoder<'_>, node: &Node, default: u16) -> Option<TargetDocument> {
    let mut fields = d.fields(node, "a target")?;
    let id = fields.need(d, "id").and_then(|node| d.address(node, "the id of an IP target"));
    let port = match fields.take(d, "port") {
        Some(node) => d.number(node, 1..=65535, "a port").and_then(|n| u16::try_from(n).ok()),
        None => Some(default),
    };
    fields.read_only(d, &["status", "reasonCode"]);
    fields.finish(d);
    let id = id?;
    Some(TargetDocument { address: id.value, port: port?, at: id.at })
}
