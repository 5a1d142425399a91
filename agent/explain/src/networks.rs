//! Service networks: which ones VPC and service are in, and what keeps them from a common one.

use std::collections::BTreeSet;

use brattice_model::{Association, AssociationKind, Model, Service};
use brattice_wire::auth::AuthType;
use brattice_wire::explain::{NetworkView, Place};
use brattice_wire::snapshot::Origin;

use crate::MAX_NETWORKS;

/// `file:line`.
pub(crate) fn place(origin: &Origin) -> Place {
    origin.to_string()
}

/// Lattice's word.
pub(crate) const fn auth_word(auth: AuthType) -> &'static str {
    match auth {
        AuthType::None => "NONE",
        AuthType::AwsIam => "AWS_IAM",
    }
}

/// The networks that VPC or service are in, or should be; those in common first.
pub(crate) fn networks(model: &Model, vpc: &str, service: &Service) -> Vec<NetworkView> {
    let own: Vec<&Association> = model.associations_of_vpc(vpc).collect();
    let its: Vec<&Association> = model.associations_of_service(&service.name).collect();
    let names: BTreeSet<&str> = own.iter().chain(&its).map(|association| association.network.as_str()).collect();
    let of = |list: &[&'_ Association], name: &str| -> Option<usize> {
        // The one in force, where there are several.
        let active = |association: &&&Association| association.network == name && association.status.is_active();
        list.iter()
            .position(|association| active(&association))
            .or_else(|| list.iter().position(|association| association.network == name))
    };
    let mut views: Vec<NetworkView> = names
        .into_iter()
        .map(|name| {
            let vpc = of(&own, name).map(|index| own[index]);
            let service = of(&its, name).map(|index| its[index]);
            let network = model.network(name);
            let word = |association: Option<&Association>| association.map_or("-", |own| own.status.word()).to_owned();
            let active = |association: Option<&Association>| association.is_some_and(|own| own.status.is_active());
            let mut details = Vec::new();
            let mut failures = Vec::new();
            if let Some(network) = network {
                details.push(format!("network {}", place(&network.origin)));
            }
            for association in [vpc, service].into_iter().flatten() {
                let at = format!("{} {}", kind(association), place(&association.origin));
                match association.status.failure() {
                    None => details.push(at),
                    Some((code, message)) => failures.push(format!("{at}: {code}: {message}")),
                }
            }
            NetworkView {
                name: name.to_owned(),
                auth_type: network.map_or("-", |network| auth_word(network.auth_type)).to_owned(),
                vpc: word(vpc),
                service: word(service),
                details,
                failures,
                common: active(vpc) && active(service),
            }
        })
        .collect();
    views.sort_by_key(|view| !view.common);
    views.truncate(MAX_NETWORKS);
    views
}

const fn kind(association: &Association) -> &'static str {
    match association.kind {
        AssociationKind::Vpc => "VPC",
        AssociationKind::Service => "service",
    }
}

/// Why VPC and service have no network in common: whether an association failed, a sentence, and what to do.
pub(crate) fn nothing_common(vpc: &str, service: &Service, views: &[NetworkView]) -> (bool, String, String) {
    let half = views.iter().find(|view| view.vpc != "-" && view.service != "-");
    if let Some(view) = half {
        let why = view.failures.join("; ");
        let text = format!(
            "VPC {vpc} and service {} would meet in the service network {}, but an association is CREATE_FAILED: {}",
            service.name, view.name, why
        );
        let remedy = format!("fix the association with {}: {why}", view.name);
        return (true, text, remedy);
    }
    let list = |side: fn(&NetworkView) -> &str| {
        let names: Vec<&str> = views.iter().filter(|view| side(view) != "-").map(|view| view.name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let (own, its) = (list(|view| &view.vpc), list(|view| &view.service));
    let text = format!(
        "VPC {vpc} and service {} have no service network in common (VPC: {own}; service: {its})",
        service.name
    );
    let remedy = match (own.as_str(), its.as_str()) {
        ("none", "none") => format!(
            "associate VPC {vpc} and service {} with a common service network (`serviceNetworks` in their documents)",
            service.name
        ),
        (_, "none") => {
            format!("associate service {} with {own}: `serviceNetworks` in {}", service.name, place(&service.origin))
        }
        _ => format!("associate VPC {vpc} with {its}: `serviceNetworks` in its document"),
    };
    (false, text, remedy)
}
