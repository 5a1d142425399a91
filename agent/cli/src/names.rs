//! Finds what a name means, and the nearest names for one that nothing has.

use std::path::Path;

use brattice_model::nearest;
use brattice_wire::api::{Answer, Request, ServiceView, WorkloadView};
use brattice_wire::words::{is_address, is_workload};

use crate::{Failure, client};

/// Whether something with a name like `account/name` is meant by the whole of it or its last part.
pub(crate) fn is_named(whole: &str, name: &str) -> bool {
    whole == name || whole.rsplit_once('/').is_some_and(|(_, last)| last == name)
}

/// A DNS name without the dot at its end.
pub(crate) fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(name)
}

/// Whether something with a name like `account/name` belongs to the account.
pub(crate) fn is_of_account(whole: &str, account: &str) -> bool {
    whole.split_once('/').is_some_and(|(owner, _)| owner == account)
}

/// Names that a service goes by.
pub(crate) fn of_service(service: &ServiceView) -> Vec<&str> {
    let mut names = vec![service.name.as_str(), service.id.as_str(), service.arn.as_str(), service.vip.as_str()];
    names.extend(service.vip6.as_deref());
    names.extend(service.names.iter().map(String::as_str));
    names.retain(|name| !name.is_empty());
    names
}

/// Whether a workload that is listed is meant: by its name, with or without its VPC or account; interface; address, with or
/// without its VPC; alias; or the ARN that its attachment attests.
pub(crate) fn is_workload_view(workload: &WorkloadView, asked: &str) -> bool {
    is_workload(asked, &workload.vpc, &workload.name)
        || (!workload.interface.is_empty() && workload.interface == asked)
        || workload.addresses.iter().any(|(real, alias)| is_address(asked, &workload.vpc, real) || alias == asked)
}

/// `; did you mean shop/orders?`, or nothing.
pub(crate) fn guess<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut candidates: Vec<(&str, &str)> = Vec::new();
    for whole in known {
        candidates.push((whole, whole));
        candidates.extend(whole.rsplit_once('/').map(|(_, last)| (last, whole)));
    }
    candidates.sort_unstable();
    let found = nearest(name, candidates.iter().map(|(short, _)| *short));
    let whole = found.and_then(|found| candidates.iter().find(|(short, _)| *short == found));
    whole.map(|(_, whole)| format!("; did you mean {whole}?")).unwrap_or_default()
}

/// Those that are meant by any of `wanted`, or all of them where nothing is wanted.
///
/// # Errors
/// For a name that nothing has: with the nearest.
pub(crate) fn choose<T>(
    all: Vec<T>,
    wanted: &[String],
    kind: &str,
    names: impl Fn(&T) -> Vec<&str>,
) -> Result<Vec<T>, Failure> {
    choose_by(
        all,
        wanted,
        kind,
        |one, name| names(one).iter().any(|own| is_named(own, name)),
        |one| names(one).first().map(|own| (*own).to_owned()),
    )
}

/// As [`choose`], with `is_meant` for the names.
///
/// # Errors
/// As for [`choose`].
pub(crate) fn choose_by<T>(
    all: Vec<T>,
    wanted: &[String],
    kind: &str,
    is_meant: impl Fn(&T, &str) -> bool,
    title: impl Fn(&T) -> Option<String>,
) -> Result<Vec<T>, Failure> {
    for name in wanted {
        if !all.iter().any(|one| is_meant(one, name)) {
            let known: Vec<String> = all.iter().filter_map(&title).collect();
            let guess = guess(name, known.iter().map(String::as_str));
            return Err(Failure::new(format!("no {kind} is named {name}{guess}")));
        }
    }
    Ok(all.into_iter().filter(|one| wanted.is_empty() || wanted.iter().any(|name| is_meant(one, name))).collect())
}

/// Names on the node, for filters.
#[derive(Debug, Default)]
pub(crate) struct Known {
    services: Vec<ServiceView>,
    workloads: Vec<WorkloadView>,
}

impl Known {
    /// Asks the agent; what it does not tell is not known.
    pub(crate) fn ask(run_dir: &Path) -> Self {
        let mut known = Self::default();
        if let Ok(Answer::Services(services)) = client::ask(run_dir, &Request::Services) {
            known.services = services;
        }
        if let Ok(Answer::Workloads(workloads)) = client::ask(run_dir, &Request::Workloads) {
            known.workloads = workloads;
        }
        known
    }

    /// Why a filter by service cannot match; none: there is such a service.
    pub(crate) fn no_service(&self, name: &str) -> Option<String> {
        let name = without_dot(name);
        let there = self.services.iter().any(|service| of_service(service).iter().any(|own| is_named(own, name)));
        let names = self.services.iter().map(|service| service.name.as_str());
        (!there).then(|| format!("no service is named {name}{}", guess(name, names)))
    }

    /// The same of a workload, by name, address, alias or ARN. Addresses and ARNs are not compared: they may be past.
    pub(crate) fn no_workload(&self, name: &str) -> Option<String> {
        let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
        let is_name = last.parse::<std::net::IpAddr>().is_err() && !name.contains(':');
        let there = self.workloads.iter().any(|workload| is_workload_view(workload, name));
        let names = self.workloads.iter().map(|workload| workload.name.as_str());
        (is_name && !there).then(|| format!("no workload is named {name}{}", guess(name, names)))
    }

    /// Full names of the services that are meant.
    pub(crate) fn services_named(&self, name: &str) -> Vec<String> {
        let meant = self.services.iter().filter(|own| of_service(own).iter().any(|own| is_named(own, name)));
        meant.map(|service| service.name.clone()).collect()
    }

    pub(crate) fn service_names(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|service| service.name.as_str())
    }

    pub(crate) fn workload_names(&self) -> impl Iterator<Item = &str> {
        self.workloads.iter().map(|workload| workload.name.as_str()).filter(|name| !name.is_empty())
    }

    /// VPC and name of the workloads that are meant.
    pub(crate) fn workloads_named(&self, name: &str) -> Vec<(String, String)> {
        let meant = self.workloads.iter().filter(|workload| is_workload_view(workload, name));
        meant.map(|workload| (workload.vpc.clone(), workload.name.clone())).collect()
    }

    /// The same of a VPC.
    pub(crate) fn no_vpc(&self, name: &str) -> Option<String> {
        let there = self.workloads.iter().any(|workload| is_named(&workload.vpc, name));
        let names = self.workloads.iter().map(|workload| workload.vpc.as_str());
        (!there).then(|| format!("no workload is in a VPC named {name}{}", guess(name, names)))
    }

    /// The same of an account.
    pub(crate) fn no_account(&self, name: &str) -> Option<String> {
        let services = self.services.iter().map(|service| service.name.as_str());
        let all = services.chain(self.workloads.iter().map(|workload| workload.vpc.as_str()));
        let accounts: Vec<&str> = all.filter_map(|whole| whole.split_once('/').map(|(account, _)| account)).collect();
        let there = accounts.contains(&name);
        (!there).then(|| format!("no service or VPC is of an account named {name}{}", guess(name, accounts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_whole_or_its_last_part() {
        assert!(is_named("shop/orders", "orders") && is_named("shop/orders", "shop/orders"));
        assert!(!is_named("shop/orders", "ders") && !is_named("shop/orders", "shop"));
        assert!(is_of_account("shop/orders", "shop") && !is_of_account("shop/orders", "sho"));
        assert!(!is_of_account("orders", "orders"));
    }

    #[test]
    fn the_nearest_is_named_in_full() {
        let known = ["shop/orders", "shop/billing", "rival/orders"];
        assert_eq!(guess("ordesr", known), "; did you mean rival/orders?");
        assert_eq!(guess("shop/ordesr", known), "; did you mean shop/orders?");
        assert_eq!(guess("bilings", known), "; did you mean shop/billing?");
        assert_eq!(guess("something-else", known), "");
    }

    #[test]
    fn one_is_got_by_name() {
        let all = || vec!["shop/orders", "rival/orders", "shop/billing"];
        let get = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            choose(all(), &wanted, "service", |name| vec![*name]).map_err(|failure| failure.text)
        };
        assert_eq!(get(&[]).unwrap(), all());
        assert_eq!(get(&["orders"]).unwrap(), ["shop/orders", "rival/orders"]);
        assert_eq!(get(&["shop/orders", "billing"]).unwrap(), ["shop/orders", "shop/billing"]);
        assert_eq!(get(&["orders", "biling"]).unwrap_err(), "no service is named biling; did you mean shop/billing?");
    }
}
