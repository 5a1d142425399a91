//! Documents of all owners to one model: references, grants, associations, VIPs.
//!
//! Nothing here fails as a whole. What is wrong with an owner's documents is reported under that owner, and the entity
//! it concerns is in the model with status `CREATE_FAILED`, so it is not served. An owner whose documents became wrong
//! because another owner changed theirs (a VPC removed, a domain withdrawn) thus loses just what has no ground any more.

mod associations;
mod entities;
mod index;
mod policies;
mod reach;
mod rules;
mod services;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use crate::diagnostic::{Diagnostic, Sink, quote};
use crate::documents::{Documents, Owner};
use crate::ids::OPERATOR_ACCOUNT_ID;
use crate::model::{Account, Ipv6Pools, Model, ServiceNetwork, TargetGroup, Vpc};
use crate::nearest::nearest;
use crate::vips::VipState;
use index::Index;

/// What is the same for all documents of a node.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'s> {
    /// Suffix of generated DNS names, without dots at its ends.
    pub dns_suffix: &'s str,
    /// Region in ARNs.
    pub region: &'s str,
    /// VIP range.
    pub vip: Ipv4Net,
    /// Alias range.
    pub alias: Ipv4Net,
    /// The ranges of IPv6; none: the node has no IPv6.
    pub ipv6: Option<Ipv6Pools>,
    /// The VIPs as they were.
    pub vips: &'s VipState,
    /// Now, Unix seconds: freed VIPs rest by it.
    pub now: u64,
}

/// The result.
#[derive(Clone, Debug)]
pub struct Linked {
    /// The model; without what is wrong.
    pub model: Arc<Model>,
    /// Per owner, errors: the owner is put back to its last good documents, and all is linked again. Where the last good
    /// ones have errors as well, the model is right as it is.
    pub errors: BTreeMap<Owner, Vec<Diagnostic>>,
    /// Per owner, what is in force but not as it was meant (an association without a grant).
    pub warnings: BTreeMap<Owner, Vec<Diagnostic>>,
    /// The VIPs as they are now, to be kept with the model.
    pub vips: VipState,
}

/// The documents of all owners, borrowed: an owner's documents are shared with the code that keeps them.
type AllDocuments<'a> = BTreeMap<&'a Owner, &'a Documents>;

/// Puts the documents of all owners together.
pub fn link<D: Borrow<Documents>>(documents: &BTreeMap<Owner, D>, settings: &Settings<'_>) -> Linked {
    let documents = &documents.iter().map(|(owner, documents)| (owner, documents.borrow())).collect();
    let mut linker = Linker {
        documents,
        settings,
        errors: BTreeMap::new(),
        warnings: BTreeMap::new(),
        accounts: BTreeMap::new(),
        account_ids: HashMap::new(),
        vpcs: Vec::new(),
        vpc_index: Index::default(),
        networks: Vec::new(),
        network_index: Index::default(),
        target_groups: Vec::new(),
        target_group_index: Index::default(),
    };
    linker.accounts();
    linker.vpcs();
    linker.vpcs_with_the_same_selector();
    linker.account_vpcs();
    let mut workloads = linker.workloads();
    linker.networks();
    linker.target_groups();
    let (mut services, vips) = linker.services();
    let mut associations = linker.associations(&services);
    let policies = linker.policies(&services);
    let roles = linker.roles(&workloads);
    linker.workload_roles(&mut workloads, &roles);

    let Linker { errors, mut warnings, accounts, vpcs, mut networks, mut target_groups, .. } = linker;
    // VPCs are in order already: rules know them by position.
    workloads.sort_by(|a, b| a.name.cmp(&b.name));
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    services.sort_by(|a, b| a.name.cmp(&b.name));
    target_groups.sort_by(|a, b| a.name.cmp(&b.name));
    associations.sort_by(|a, b| (&a.network, a.kind, &a.member).cmp(&(&b.network, b.kind, &b.member)));
    let model = Model {
        accounts: accounts.into_values().collect(),
        vpcs,
        workloads,
        networks,
        services,
        target_groups,
        associations,
        policies,
        roles,
        dns_suffix: settings.dns_suffix.to_owned(),
        region: settings.region.to_owned(),
        vip: settings.vip,
        alias: settings.alias,
        ipv6: settings.ipv6,
    };
    associations::name_conflicts(&model, &mut warnings);
    policies::without_role(&model, documents, &mut warnings);
    reach::unreachable(&model, documents, settings.now, &mut warnings);
    let finish = |sinks: BTreeMap<Owner, Sink>| sinks.into_iter().map(|(owner, sink)| (owner, sink.finish())).collect();
    Linked { model: model.into(), errors: finish(errors), warnings: finish(warnings), vips }
}

struct Linker<'a> {
    documents: &'a AllDocuments<'a>,
    settings: &'a Settings<'a>,
    errors: BTreeMap<Owner, Sink>,
    warnings: BTreeMap<Owner, Sink>,
    /// By name.
    accounts: BTreeMap<String, Account>,
    /// Id → name.
    account_ids: HashMap<String, String>,
    vpcs: Vec<Vpc>,
    vpc_index: Index<Vpc>,
    networks: Vec<ServiceNetwork>,
    network_index: Index<ServiceNetwork>,
    target_groups: Vec<TargetGroup>,
    target_group_index: Index<TargetGroup>,
}

impl<'a> Linker<'a> {
    fn error(&mut self, owner: &Owner, diagnostic: Diagnostic) {
        sink(&mut self.errors, owner).push(diagnostic);
    }

    fn warning(&mut self, owner: &Owner, diagnostic: Diagnostic) {
        sink(&mut self.warnings, owner).push(diagnostic);
    }

    /// Whether looking for nearest names for this owner is worth it.
    fn hints(&self, owner: &Owner) -> bool {
        let full = |sinks: &BTreeMap<Owner, Sink>| sinks.get(owner).is_some_and(Sink::is_full);
        !full(&self.errors) && !full(&self.warnings)
    }

    /// The accounts that have documents and exist, with their documents.
    fn owners(&self) -> Vec<(&'a str, &'a Owner, &'a Documents)> {
        let documents: &'a AllDocuments<'a> = self.documents;
        let exists = |name: &str| self.accounts.contains_key(name);
        documents
            .iter()
            .filter_map(|(owner, documents)| Some((owner.account()?, *owner, *documents)))
            .filter(|(name, ..)| exists(name))
            .collect()
    }

    fn operator(&self) -> Option<&'a Documents> {
        self.documents.get(&Owner::Operator).copied()
    }

    fn account_id(&self, account: Option<&str>) -> &str {
        account.and_then(|name| self.accounts.get(name)).map_or(OPERATOR_ACCOUNT_ID, |account| &account.id)
    }

    /// Account names for `sharedWith`; an unknown one is a warning, as it may come later.
    fn shared_with(&mut self, owner: &Owner, shared: &[crate::diagnostic::Located<String>]) -> Vec<String> {
        let mut names = Vec::with_capacity(shared.len());
        for item in shared {
            if let Some(name) = self.account_name(&item.value) {
                names.push(name.to_owned());
                continue;
            }
            let mut warning = Diagnostic::warning(&item.at, format!("there is no account {}", quote(&item.value)));
            if self.hints(owner) {
                warning = warning.nearest(nearest(&item.value, self.accounts.keys().map(String::as_str)));
            }
            self.warning(owner, warning);
        }
        names.sort();
        names.dedup();
        names
    }

    /// The name of an account given by name or id.
    fn account_name(&self, text: &str) -> Option<&str> {
        match self.accounts.get_key_value(text) {
            Some((name, _)) => Some(name),
            None => self.account_ids.get(text).map(String::as_str),
        }
    }
}

/// A file, for findings that know their place in it.
fn place_in(file: &Arc<str>) -> crate::diagnostic::Position {
    crate::diagnostic::Position { file: Arc::clone(file), line: 1, column: 1, length: 1 }
}

fn sink<'s>(sinks: &'s mut BTreeMap<Owner, Sink>, owner: &Owner) -> &'s mut Sink {
    sinks.entry(owner.clone()).or_default()
}

/// `account/name`, or the name alone for the operator's.
fn qualified(account: Option<&str>, name: &str) -> String {
    account.map_or_else(|| name.to_owned(), |account| format!("{account}/{name}"))
}

/// The range of Brattice that a net shares addresses with, for a message.
fn reserved(net: IpNet, settings: &Settings<'_>) -> Option<String> {
    let ipv6 = settings.ipv6.map(|pools| [("IPv6 VIP", pools.vip.into()), ("IPv6 alias", pools.alias.into())]);
    let ranges = [("VIP", IpNet::V4(settings.vip)), ("alias", IpNet::V4(settings.alias))];
    ranges
        .into_iter()
        .chain(ipv6.into_iter().flatten())
        .find(|(_, own)| own.contains(&net) || net.contains(own))
        .map(|(which, own)| format!("the {which} range {own} of this node"))
}
