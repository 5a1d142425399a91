//! Bypass: whether connections may be relayed as TCP. A policy that could refuse a request could not be asked.

use brattice_decide::Unreadable;
use brattice_wire::{index::NetworkIndex, snapshot};

use crate::caller::Caller;
use crate::scope::{self, Scope};
use crate::world::World;

/// Why the relay refuses a connection; none: it is relayed.
pub(crate) fn refused(
    world: &World<'_>,
    scope: &Scope,
    caller: &Caller<'_>,
    service: &snapshot::Service,
) -> Option<String> {
    let identity = scope::identity(world.model, caller);
    let name = |index: NetworkIndex| {
        let network = world.snapshot.networks.get(index.position());
        network.map_or("", |network| network.name.as_str())
    };
    Some(match scope.compiled.policies.unreadable(&scope.call(world, caller, &identity, 0))? {
        Unreadable::NoNetwork => "caller and service share no service network".to_owned(),
        Unreadable::Network(index) => format!("authType of the service network {} is AWS_IAM", name(index)),
        Unreadable::Identity => {
            format!("the role {} has a policy", caller.role.as_ref().map_or("", |role| role.name.as_str()))
        }
        Unreadable::Service => format!("authType of the service {} is AWS_IAM", service.name),
    })
}
