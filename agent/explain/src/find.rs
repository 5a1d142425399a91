//! Finds callers and services by name.

use std::net::IpAddr;

use brattice_model::{Model, Service, Vpc, Workload, nearest};

use brattice_wire::words::{is_address, is_workload};

use crate::world::{Attached, Departed, World};

/// Why nothing can be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has this name.
    #[error("there is no workload and no VPC {asked:?}{}; `brattice workloads` lists workloads with their VPCs", meant(near.as_deref()))]
    Caller {
        /// What was asked for.
        asked: String,
        /// What was probably meant.
        near: Option<String>,
    },
    /// An interface that nothing selects.
    #[error(
        "no document selects the interface {interface:?}, so no workload is behind it: select it in the attachments of a Vpc or by \
         a Workload document; `brattice workloads` lists workloads with their interfaces"
    )]
    Unselected {
        /// Its name, as asked for.
        interface: String,
    },
    /// No service is called so.
    #[error("there is no service {asked:?}{}; `brattice services` lists them", meant(near.as_deref()))]
    Service {
        /// What was asked for.
        asked: String,
        /// What was probably meant.
        near: Option<String>,
    },
    /// Several are called so.
    #[error("{asked:?} means {}; name one in full", found.join(" and "))]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// What is called so.
        found: Vec<String>,
    },
    /// Neither VPC nor service of the remembered request exist any more.
    #[error("the request {id} cannot be decided again: {what} is not there any more")]
    Gone {
        /// Its id.
        id: String,
        /// What is gone.
        what: String,
    },
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"))
}

/// Most names that an ambiguity lists.
const MAX_FOUND: usize = 8;

/// Who calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found<'w> {
    pub(crate) vpc: Option<&'w Vpc>,
    /// Its qualified name, also where there is no such VPC.
    pub(crate) vpc_name: String,
    pub(crate) attached: Option<&'w Attached>,
    pub(crate) document: Option<&'w Workload>,
    /// It is not there any more.
    pub(crate) departed: Option<&'w Departed>,
    pub(crate) address: Option<IpAddr>,
}

/// Something that can call.
#[derive(Clone, Copy)]
enum Candidate<'w> {
    Attached(&'w Attached),
    Document(&'w Workload),
    Departed(&'w Departed),
    Vpc(&'w Vpc),
}

impl Candidate<'_> {
    /// Names in full, then the short one.
    fn names(&self) -> (Vec<String>, &str) {
        match self {
            Self::Attached(own) => (vec![format!("{}/{}", own.vpc, own.name)], &own.name),
            Self::Document(own) => (vec![format!("{}/{}", own.vpc, own.name)], &own.name),
            Self::Departed(own) => (vec![format!("{}/{}", own.vpc, own.name)], &own.name),
            Self::Vpc(vpc) => (vec![vpc.name.clone(), vpc.id.clone(), vpc.arn.clone()], short(&vpc.name)),
        }
    }

    /// Whether it is meant by another of its names: a short VPC before its own, its interface, an address, an alias.
    fn is_also(&self, asked: &str) -> bool {
        let address = asked.parse::<IpAddr>().ok();
        match self {
            Self::Attached(own) => {
                is_workload(asked, &own.vpc, &own.name)
                    || (!own.interface.is_empty() && own.interface == asked)
                    || own.addresses.iter().any(|(real, alias)| {
                        address.is_some() && (address == Some(*real) || address == *alias)
                            || is_address(asked, &own.vpc, &real.to_string())
                    })
            }
            Self::Document(own) => {
                is_workload(asked, &own.vpc, &own.name)
                    || own.addresses.iter().any(|real| is_address(asked, &own.vpc, &real.to_string()))
            }
            Self::Departed(own) => {
                is_workload(asked, &own.vpc, &own.name)
                    || own.interfaces.iter().any(|interface| interface == asked)
                    || own.addresses.iter().any(|real| address == Some(*real))
            }
            Self::Vpc(_) => false,
        }
    }

    fn title(&self) -> String {
        let kind = if matches!(self, Self::Vpc(_)) { "VPC" } else { "workload" };
        format!("the {kind} {}", self.names().0.swap_remove(0))
    }
}

/// The name without the account.
pub(crate) fn short(qualified: &str) -> &str {
    qualified.rsplit('/').next().unwrap_or(qualified)
}

/// Finds a caller by `workload`, `vpc/workload`, a VPC (each with or without `/address`), an interface, an address, an
/// alias, or the ARN that is attested. Where nothing is called so, by what a workload was called that is not there any more.
pub(crate) fn caller<'w>(world: &World<'w>, asked: &str) -> Result<Found<'w>, Error> {
    let (name, address) = match asked.rsplit_once('/').map(|(name, last)| (name, last.parse::<IpAddr>())) {
        Some((name, Ok(address))) => (name, Some(address)),
        _ => (asked, None),
    };
    let candidates = candidates(world);
    let mut found: Vec<Candidate<'w>> = by_name(&candidates, name);
    let mut address = address;
    if found.is_empty() {
        found = candidates.iter().filter(|candidate| candidate.is_also(asked)).copied().collect();
        if let Some(named) = by_arn(world, asked) {
            found.extend(candidates.iter().filter(|candidate| candidate.names().0.contains(&named)));
        }
        // Of those that have it the address is kept; an alias stands for one.
        let last = asked.rsplit_once('/').map_or(asked, |(_, last)| last);
        address = last.parse().ok().map(|given: IpAddr| real(world, given));
    }
    if found.is_empty() {
        found = departed(world, asked, name);
    }
    match found[..] {
        [only] => Ok(with_address(world, only, address)),
        [] if world.facts.is_some_and(|facts| facts.unselected.iter().any(|interface| interface == asked)) => {
            Err(Error::Unselected { interface: asked.to_owned() })
        }
        [] => {
            let names: Vec<(Vec<String>, String)> = candidates
                .iter()
                .map(|candidate| {
                    let (full, short) = candidate.names();
                    (full, short.to_owned())
                })
                .collect();
            let all = names.iter().flat_map(|(full, short)| full.iter().take(1).chain([short]));
            let near = nearest(name, all.map(String::as_str)).map(str::to_owned);
            Err(Error::Caller { asked: name.to_owned(), near })
        }
        _ => Err(Error::Ambiguous {
            asked: name.to_owned(),
            found: found.iter().take(MAX_FOUND).map(Candidate::title).collect(),
        }),
    }
}

/// Those with this name in full; else those with this short name.
fn by_name<'w>(candidates: &[Candidate<'w>], name: &str) -> Vec<Candidate<'w>> {
    let in_full = |candidate: &&Candidate<'w>| candidate.names().0.iter().any(|own| own == name);
    let found: Vec<Candidate<'w>> = candidates.iter().filter(in_full).copied().collect();
    if found.is_empty() { candidates.iter().filter(|own| own.names().1 == name).copied().collect() } else { found }
}

/// Workloads that are not there any more. Of one that came and went several times, the latest.
fn departed<'w>(world: &World<'w>, asked: &str, name: &str) -> Vec<Candidate<'w>> {
    let mut candidates: Vec<Candidate<'w>> = Vec::new();
    for own in world.facts.into_iter().flat_map(|facts| &facts.departed).map(Candidate::Departed) {
        candidates.retain(|earlier| earlier.names() != own.names());
        candidates.push(own);
    }
    let found = by_name(&candidates, name);
    if found.is_empty() { candidates.into_iter().filter(|own| own.is_also(asked)).collect() } else { found }
}

/// The workload (`vpc/name`) that is attested by this ARN.
fn by_arn(world: &World<'_>, arn: &str) -> Option<String> {
    let own = world.snapshot.workloads.iter().find(|workload| workload.attested == arn)?;
    let vpc = world.snapshot.vpcs.get(own.vpc.position())?;
    Some(format!("{}/{}", vpc.name, own.name))
}

/// The address behind an alias; any other as it is.
fn real(world: &World<'_>, given: IpAddr) -> IpAddr {
    let addresses = world.facts.into_iter().flat_map(|facts| &facts.attached).flat_map(|own| &own.addresses);
    addresses.into_iter().find(|(_, alias)| *alias == Some(given)).map_or(given, |(real, _)| *real)
}

fn candidates<'w>(world: &World<'w>) -> Vec<Candidate<'w>> {
    let vpcs = world.model.vpcs.iter().map(Candidate::Vpc);
    match world.facts {
        Some(facts) => facts.attached.iter().map(Candidate::Attached).chain(vpcs).collect(),
        None => world.model.workloads.iter().map(Candidate::Document).chain(vpcs).collect(),
    }
}

fn with_address<'w>(world: &World<'w>, candidate: Candidate<'w>, address: Option<IpAddr>) -> Found<'w> {
    match candidate {
        Candidate::Attached(own) => attached(world, own, address),
        Candidate::Document(own) => Found {
            vpc: world.model.vpc(&own.vpc),
            vpc_name: own.vpc.clone(),
            document: Some(own),
            address: address.or_else(|| own.addresses.first().copied()),
            ..Found::default()
        },
        Candidate::Departed(own) => {
            Found { vpc: world.model.vpc(&own.vpc), vpc_name: own.vpc.clone(), departed: Some(own), ..Found::default() }
        }
        Candidate::Vpc(vpc) => {
            let holds = |own: &&Attached| {
                own.vpc == vpc.name && address.is_some_and(|address| own.addresses.iter().any(|(a, _)| *a == address))
            };
            if let Some(own) = world.facts.and_then(|facts| facts.attached.iter().find(holds)) {
                return attached(world, own, address);
            }
            let own = |workload: &&Workload| {
                workload.vpc == vpc.name && address.is_some_and(|address| workload.addresses.contains(&address))
            };
            let document = world.model.workloads.iter().find(own).filter(|_| world.documents_only());
            let had = |own: &&Departed| own.vpc == vpc.name && address.is_some_and(|it| own.addresses.contains(&it));
            let departed = world.facts.and_then(|facts| facts.departed.iter().rfind(had));
            Found { vpc: Some(vpc), vpc_name: vpc.name.clone(), document, departed, address, ..Found::default() }
        }
    }
}

/// A workload as the node knows it.
pub(crate) fn attached<'w>(world: &World<'w>, own: &'w Attached, address: Option<IpAddr>) -> Found<'w> {
    let with_alias = own.addresses.iter().find(|(_, alias)| alias.is_some()).or(own.addresses.first());
    Found {
        vpc: world.model.vpc(&own.vpc),
        vpc_name: own.vpc.clone(),
        attached: Some(own),
        document: world
            .model
            .workloads
            .iter()
            .find(|workload| own.documented && workload.name == own.name && workload.vpc == own.vpc),
        departed: None,
        address: address.or(with_alias.map(|(address, _)| *address)),
    }
}

/// The service that is meant.
pub(crate) fn service<'w>(model: &'w Model, asked: &str) -> Result<&'w Service, Error> {
    let name = asked.strip_suffix('.').unwrap_or(asked);
    let exact = |service: &&Service| {
        [&service.name, &service.id, &service.arn].into_iter().any(|own| own == name)
            || service.generated_name.eq_ignore_ascii_case(name)
    };
    if let Some(service) = model.services.iter().find(exact) {
        return Ok(service);
    }
    let domain = |service: &&Service| service.domains.iter().any(|domain| domain.eq_ignore_ascii_case(name));
    let vip = name.parse::<IpAddr>().ok();
    let by_vip = |service: &&Service| vip.is_some() && (service.vip == vip || service.vip6 == vip);
    let also = |service: &&Service| short(&service.name) == name || domain(service) || by_vip(service);
    let found: Vec<&Service> = model.services.iter().filter(also).collect();
    match found[..] {
        [only] => Ok(only),
        [] => {
            let names = model.services.iter().flat_map(|service| {
                let domains = service.domains.iter().map(String::as_str);
                [service.name.as_str(), short(&service.name)].into_iter().chain(domains)
            });
            Err(Error::Service { asked: asked.to_owned(), near: nearest(name, names).map(str::to_owned) })
        }
        _ => Err(Error::Ambiguous {
            asked: asked.to_owned(),
            found: found.iter().take(MAX_FOUND).map(|service| format!("the service {}", service.name)).collect(),
        }),
    }
}
