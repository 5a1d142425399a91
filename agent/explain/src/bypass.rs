//! Bypass: whether connections may pass unread. Where a policy could refuse a request, it could not be asked.

use brattice_iam::Mode;
use brattice_model::PolicyResource;
use brattice_wire::auth::AuthType;
use brattice_wire::{auth, snapshot};

use crate::caller::Caller;
use crate::world::World;

/// Why the relay refuses a connection; none: it is relayed.
pub(crate) fn refused(
    world: &World<'_>,
    caller: &Caller<'_>,
    service: &snapshot::Service,
    common: &[&auth::Network],
) -> Option<String> {
    let model = world.model;
    let role = caller.role.as_ref().and_then(|role| model.role(&role.name));
    if let Some(role) = role.filter(|role| role.policy.is_some()) {
        return Some(format!("the role {} has a policy", role.name));
    }
    // One in audit mode refuses nobody.
    let decides = |auth: AuthType, resource: PolicyResource| {
        auth == AuthType::AwsIam && model.policy(&resource).is_none_or(|policy| policy.mode == Mode::Enforce)
    };
    let network = common
        .iter()
        .find(|network| decides(network.auth_type, PolicyResource::ServiceNetwork(network.name.clone())))
        .map(|network| format!("authType of the service network {} is AWS_IAM", network.name));
    network.or_else(|| {
        decides(service.auth_type, PolicyResource::Service(service.name.clone()))
            .then(|| format!("authType of the service {} is AWS_IAM", service.name))
    })
}
