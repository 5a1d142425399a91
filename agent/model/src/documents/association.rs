//! Associations as documents of their own.

use super::common::Tags;
use crate::diagnostic::{Located, Position};
use crate::ids::{IdKind, Identifier};
use crate::names;
use crate::yaml::{Decoder, Fields};

/// `ServiceNetworkServiceAssociation`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceAssociationDocument {
    /// The service.
    pub service: Located<Identifier>,
    /// The network.
    pub network: Located<Identifier>,
    /// Tags.
    pub tags: Tags,
    /// Where the document is.
    pub at: Position,
}

/// `ServiceNetworkVpcAssociation`.
#[derive(Clone, Debug, PartialEq)]
pub struct VpcAssociationDocument {
    /// The VPC.
    pub vpc: Located<Identifier>,
    /// The network.
    pub network: Located<Identifier>,
    /// Tags.
    pub tags: Tags,
    /// Where the document is.
    pub at: Position,
}

const READ_ONLY: &[&str] =
    &["id", "arn", "status", "createdAt", "createdBy", "dnsEntry", "failureCode", "failureMessage", "lastUpdatedAt"];

fn network(d: &mut Decoder<'_>, spec: &mut Fields<'_>) -> Option<Located<Identifier>> {
    let node = spec.need(d, "serviceNetworkIdentifier")?;
    d.identifier(node, IdKind::ServiceNetwork, names::SERVICE_NETWORK)
}

pub(super) fn decode_service(d: &mut Decoder<'_>, mut spec: Fields<'_>) -> Option<ServiceAssociationDocument> {
    let at = d.at(spec.mark);
    let service =
        spec.need(d, "serviceIdentifier").and_then(|node| d.identifier(node, IdKind::Service, names::SERVICE));
    let network = network(d, &mut spec);
    let tags = d.spec_tags(&mut spec);
    spec.read_only(d, READ_ONLY);
    spec.finish(d);
    Some(ServiceAssociationDocument { service: service?, network: network?, tags, at })
}

pub(super) fn decode_vpc(d: &mut Decoder<'_>, mut spec: Fields<'_>) -> Option<VpcAssociationDocument> {
    let at = d.at(spec.mark);
    let vpc = spec.need(d, "vpcIdentifier").and_then(|node| d.identifier(node, IdKind::Vpc, names::VPC));
    let network = network(d, &mut spec);
    let tags = d.spec_tags(&mut spec);
    d.vpc_association_later(&mut spec);
    spec.read_only(d, READ_ONLY);
    spec.finish(d);
    Some(VpcAssociationDocument { vpc: vpc?, network: network?, tags, at })
}
