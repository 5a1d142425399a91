//! `ServiceNetwork`.

use brattice_wire::auth::AuthType;

use super::common::{Metadata, Tags};
use crate::diagnostic::Located;
use crate::yaml::{Decoder, Fields};

/// The boundary in which VPCs and services talk.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceNetworkDocument {
    /// Name and labels.
    pub metadata: Metadata,
    /// Whether its policy decides.
    pub auth_type: AuthType,
    /// Accounts whose services and VPCs may be associated with it.
    pub shared_with: Vec<Located<String>>,
    /// Tags.
    pub tags: Tags,
}

pub(super) fn decode(
    d: &mut Decoder<'_>,
    metadata: Option<Metadata>,
    spec: Option<Fields<'_>>,
) -> Option<ServiceNetworkDocument> {
    // A network may have nothing to say.
    let (mut auth_type, mut shared_with, mut tags) = (AuthType::None, Vec::new(), Tags::new());
    if let Some(mut spec) = spec {
        auth_type = d.auth_type(&mut spec);
        shared_with = d.shared_with(&mut spec);
        tags = d.spec_tags(&mut spec);
        spec.later(d, "sharingConfig", "list the accounts in `sharedWith`");
        spec.read_only(
            d,
            &[
                "id",
                "arn",
                "name",
                "status",
                "createdAt",
                "lastUpdatedAt",
                "numberOfAssociatedServices",
                "numberOfAssociatedVPCs",
                "numberOfAssociatedResourceConfigurations",
            ],
        );
        spec.finish(d);
    }
    Some(ServiceNetworkDocument { metadata: metadata?, auth_type, shared_with, tags })
}
