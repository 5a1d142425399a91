//! Policies that match no caller or no service: the model, as the policy language asks about it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use brattice_iam as iam;
use brattice_router::fields::{self, Message};

use crate::diagnostic::Sink;
use crate::documents::{Evidence, Owner, Tags};
use crate::ids::OPERATOR_ACCOUNT_ID;
use crate::limits::MAX_POLICY_CHECKS_PER_OWNER;
use crate::model::{AssociationKind, Model, PolicyResource, Role, Service, Vpc, Workload};
use crate::plan::{session_arn, workload_arn};
use crate::roles::Roles;
use crate::yaml::policy_diagnostic;

/// Partition of all ARNs here.
const PARTITION: &str = "aws";

/// Evidence that workloads with an interface may have.
const BY_INTERFACE: [&[Evidence]; 2] = [&[Evidence::Interface], &[Evidence::Interface, Evidence::Namespace]];

/// A caller, with its texts.
struct Profile<'m> {
    role: Option<&'m Role>,
    vpc: &'m Vpc,
    /// The session's ARN where it has a role.
    attested: String,
    unnamed: bool,
    evidence: Vec<Vec<&'static str>>,
}

/// What borrows of a profile, or of the model, and is made once for each.
struct Parts<'p> {
    evidence: Vec<&'p [&'p str]>,
    paths: Vec<&'p str>,
    addresses: Vec<(IpAddr, u8)>,
}

/// Tells of the policies in force what in them is about no call there can be.
pub(super) fn unreachable(
    model: &Model,
    documents: &super::AllDocuments<'_>,
    now: u64,
    warnings: &mut BTreeMap<Owner, Sink>,
) {
    if model.policies.is_empty() && model.roles.iter().all(|role| role.policy.is_none()) {
        return;
    }
    let profiles = profiles(model);
    let parts: Vec<Parts<'_>> = profiles.iter().map(|profile| Parts::of(profile, model)).collect();
    let everyone: Vec<iam::Someone<'_>> =
        profiles.iter().zip(&parts).map(|(profile, parts)| profile.someone(parts, model)).collect();
    let accounts: BTreeSet<&str> =
        model.accounts.iter().map(|account| account.id.as_str()).chain([OPERATOR_ACCOUNT_ID]).collect();
    let active = model.roles.iter().filter(|role| role.status.is_active());
    let roles: BTreeSet<&str> = active.map(|role| role.arn.as_str()).collect();
    let world = iam::World {
        partition: PARTITION,
        region: &model.region,
        accounts: &accounts,
        roles: &roles,
        hidden: |name| fields::removed(name.as_bytes(), Message::Request),
        now: i64::try_from(now).expect("64 bits of seconds last 292 billion years"),
    };
    let ways = Ways::of(model);
    let mut budgets: HashMap<Owner, u32> = HashMap::new();
    let mut tell = |policy: &iam::Policy, scope: &iam::Scope<'_>, owner: Owner| {
        let full = warnings.get(&owner).is_some_and(Sink::is_full);
        let scope = iam::Scope { hints: scope.hints && !full, ..*scope };
        let budget = budgets.entry(owner.clone()).or_insert(MAX_POLICY_CHECKS_PER_OWNER);
        for finding in policy.unreachable(&world, &scope, budget) {
            super::sink(warnings, &owner).push(policy_diagnostic(&super::place_in(&policy.file), &finding));
        }
    };
    // The callers of something are the same for many policies.
    let mut from: HashMap<BTreeSet<&str>, iam::Callers<'_>> = HashMap::new();
    for policy in &model.policies {
        let Ok(owner) = Owner::of_path(&policy.policy.file) else { continue };
        if !documents.contains_key(&owner) {
            continue;
        }
        let (called, vpcs) = ways.to(model, &policy.resource);
        let known = !vpcs.is_empty();
        let callers = from.entry(vpcs.clone()).or_insert_with(|| {
            let gets_here = |someone: &&iam::Someone<'_>| !known || vpcs.contains(someone.vpc);
            iam::Callers::new(everyone.iter().filter(gets_here).copied().collect())
        });
        tell(&policy.policy, &iam::Scope { callers: &*callers, called: &called, hints: known }, owner);
    }
    let all = ways.all(model);
    for role in model.roles.iter().filter(|role| role.status.is_active()) {
        let Some(policy) = &role.policy else { continue };
        let holders = everyone.iter().filter(|someone| someone.caller.arn() == Some(&role.arn));
        let callers = iam::Callers::new(holders.copied().collect());
        tell(policy, &iam::Scope { callers: &callers, called: &all, hints: true }, Owner::Operator);
    }
}

/// Everyone there can be. A workload whose evidence shows only when it runs may be two.
fn profiles(model: &Model) -> Vec<Profile<'_>> {
    let roles = Roles::new(model);
    let mut profiles = Vec::new();
    for vpc in model.vpcs.iter().filter(|vpc| vpc.status.is_active()) {
        // Some interface's name, and what is behind it of every such name.
        let unnamed = format!("interface@{}", vpc.id);
        let mut found = by_role(&roles, vpc, None, &BY_INTERFACE);
        // Even if every workload of today has a role, one without may be attached later.
        if found.iter().all(|(role, _)| role.is_some()) {
            found.push((None, vec![vec![Evidence::Interface.word()]]));
        }
        for (role, evidence) in found {
            profiles.push(Profile {
                role,
                vpc,
                attested: attested(role, vpc, model, &unnamed),
                unnamed: true,
                evidence,
            });
        }
    }
    for workload in model.workloads.iter().filter(|workload| workload.status.is_active()) {
        let Some(vpc) = model.vpc(&workload.vpc).filter(|vpc| vpc.status.is_active()) else { continue };
        let of_host = workload.evidence();
        let of_host = [&of_host[..]];
        let sets: &[&[Evidence]] = if workload.cgroup.is_some() { &of_host } else { &BY_INTERFACE };
        for (role, evidence) in by_role(&roles, vpc, Some(workload), sets) {
            let attested = attested(role, vpc, model, &workload.name);
            profiles.push(Profile { role, vpc, attested, unnamed: false, evidence });
        }
    }
    profiles
}

/// The roles that a workload may have, with the evidence of each.
fn by_role<'m>(
    roles: &Roles<'m>,
    vpc: &Vpc,
    workload: Option<&'m Workload>,
    sets: &[&[Evidence]],
) -> Vec<(Option<&'m Role>, Vec<Vec<&'static str>>)> {
    let mut found: Vec<(Option<&'m Role>, Vec<Vec<&'static str>>)> = Vec::new();
    for evidence in sets {
        let role = roles.of(&vpc.name, workload, evidence).unwrap_or_default();
        let words = evidence.iter().map(|own| own.word()).collect();
        match found.iter_mut().find(|(own, _)| own.map(|own| &own.name) == role.map(|role| &role.name)) {
            Some((_, all)) => all.push(words),
            None => found.push((role, vec![words])),
        }
    }
    found
}

fn attested(role: Option<&Role>, vpc: &Vpc, model: &Model, name: &str) -> String {
    role.map_or_else(|| workload_arn(vpc, model, name), |role| session_arn(role, model, name))
}

impl<'p> Parts<'p> {
    fn of(profile: &'p Profile<'p>, model: &'p Model) -> Self {
        let account = profile.role.and_then(|role| model.account(&role.account));
        Self {
            evidence: profile.evidence.iter().map(Vec::as_slice).collect(),
            paths: account.and_then(|account| account.organization_path.as_deref()).into_iter().collect(),
            addresses: profile.vpc.cidrs.iter().map(|cidr| (cidr.network(), cidr.prefix_len())).collect(),
        }
    }
}

impl Profile<'_> {
    fn someone<'p>(&'p self, parts: &'p Parts<'p>, model: &'p Model) -> iam::Someone<'p> {
        static NO_TAGS: Tags = Tags::new();
        let tags = self.role.map_or(&NO_TAGS, |role| &role.tags);
        let account = |name: &str| model.account(name).map(|account| account.id.as_str());
        let caller = match self.role {
            None => iam::Caller::anonymous(),
            Some(role) => iam::Caller {
                session: Some(&self.attested),
                account: account(&role.account),
                organization: parts.paths.first().and_then(|path| path.split('/').next()),
                organization_paths: &parts.paths,
                tags,
                ..iam::Caller::new(iam::CallerKind::Role, &role.arn)
            },
        };
        iam::Someone {
            caller,
            tags,
            attested: &self.attested,
            unnamed: self.unnamed,
            evidence: &parts.evidence,
            vpc: &self.vpc.id,
            vpc_name: &self.vpc.name,
            vpc_account: self.vpc.account.as_deref().and_then(account),
            addresses: &parts.addresses,
        }
    }
}

/// Which services and VPCs are in which networks.
struct Ways<'m> {
    services: HashMap<&'m str, Vec<&'m str>>,
    networks: HashMap<&'m str, (Vec<&'m str>, Vec<&'m str>)>,
}

impl<'m> Ways<'m> {
    fn of(model: &'m Model) -> Self {
        let mut own = Self { services: HashMap::new(), networks: HashMap::new() };
        for association in model.associations.iter().filter(|association| association.status.is_active()) {
            let (services, vpcs) = own.networks.entry(&association.network).or_default();
            match association.kind {
                AssociationKind::Service => {
                    services.push(&association.member);
                    own.services.entry(&association.member).or_default().push(&association.network);
                }
                AssociationKind::Vpc => vpcs.push(&association.member),
            }
        }
        own
    }

    /// What is called under a policy, and the ids of the VPCs that get there.
    fn to(&self, model: &'m Model, resource: &PolicyResource) -> (Vec<iam::Called<'m>>, BTreeSet<&'m str>) {
        let (mut called, mut vpcs) = (Vec::new(), BTreeSet::new());
        let mut from = |network: &str| {
            let names = self.networks.get(network).into_iter().flat_map(|(_, vpcs)| vpcs);
            vpcs.extend(names.filter_map(|name| model.vpc(name)).map(|vpc| vpc.id.as_str()));
        };
        match resource {
            PolicyResource::Service(name) => {
                let networks = self.services.get(name.as_str()).map_or(&[][..], Vec::as_slice);
                networks.iter().for_each(|network| from(network));
                called.extend(model.service(name).into_iter().flat_map(|service| ports(model, service, networks)));
            }
            PolicyResource::ServiceNetwork(name) => {
                from(name);
                let services = self.networks.get(name.as_str()).into_iter().flat_map(|(services, _)| services);
                for service in services.filter_map(|name| model.service(name)) {
                    called.extend(ports(model, service, &[name]));
                }
            }
        }
        (called, vpcs)
    }

    /// Every port of every service.
    fn all(&self, model: &'m Model) -> Vec<iam::Called<'m>> {
        let networks = |service: &Service| self.services.get(service.name.as_str()).map_or(&[][..], Vec::as_slice);
        model.services.iter().flat_map(|service| ports(model, service, networks(service))).collect()
    }
}

/// The ports of a service, through each of its networks.
fn ports<'m>(model: &'m Model, service: &'m Service, networks: &[&str]) -> Vec<iam::Called<'m>> {
    let arns = networks.iter().filter_map(|name| model.network(name)).map(|network| Some(network.arn.as_str()));
    let arns: Vec<Option<&str>> = if networks.is_empty() { vec![None] } else { arns.collect() };
    let account = model.account(&service.account).map_or(OPERATOR_ACCOUNT_ID, |account| &account.id);
    let called = |port: u16, network: Option<&'m str>| iam::Called {
        arn: &service.arn,
        name: &service.name,
        account,
        tags: &service.tags,
        port,
        network,
    };
    let each = service.listeners.iter().flat_map(|listener| arns.iter().map(move |arn| (listener.port, *arn)));
    each.map(|(port, arn)| called(port, arn)).collect()
}
