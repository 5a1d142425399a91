//! All possible callers, found by what policies ask about.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::Someone;
use crate::key::Key;

/// All possible callers. Made once for all policies.
#[derive(Debug, Default)]
pub struct Callers<'a> {
    pub(super) all: Vec<Someone<'a>>,
    /// One for all that only their names and tags tell apart: by role and VPC.
    pub(super) kinds: Vec<usize>,
    /// By session, of those whose name is known.
    pub(super) sessions: HashMap<&'a str, usize>,
    /// What the keys about callers hold.
    values: HashMap<Key, BTreeSet<&'a str>>,
    pub(super) blocks: BTreeSet<(IpAddr, u8)>,
    /// Beginning and end of the names of those without one.
    pub(super) unnamed: BTreeSet<(&'a str, &'a str)>,
    /// Names of VPCs, by their ids.
    pub(super) vpcs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Callers<'a> {
    /// Indexes them.
    pub fn new(all: Vec<Someone<'a>>) -> Self {
        let mut own = Self::default();
        let mut kinds = HashSet::new();
        for (position, someone) in all.iter().enumerate() {
            let caller = &someone.caller;
            if kinds.insert((caller.name, someone.vpc)) {
                own.kinds.push(position);
            }
            if someone.unnamed {
                own.unnamed.extend(open_name(someone.attested));
            } else if let Some(session) = caller.session {
                own.sessions.insert(session, position);
            }
            let mut add = |key: Key, value: Option<&'a str>| {
                own.values.entry(key).or_default().extend(value);
            };
            add(Key::SourceVpc, Some(someone.vpc));
            add(Key::SourceVpcOwnerAccount, someone.vpc_account);
            add(Key::PrincipalArn, caller.arn());
            add(Key::PrincipalAccount, caller.account);
            add(Key::PrincipalOrgId, caller.organization);
            add(Key::PrincipalType, caller.kind.principal_type());
            add(Key::UserId, caller.user_id);
            add(Key::AttestedPrincipalArn, Some(someone.attested).filter(|_| !someone.unnamed));
            caller.organization_paths.iter().copied().for_each(|path| add(Key::PrincipalOrgPaths, Some(path)));
            someone.evidence.iter().copied().flatten().copied().for_each(|word| add(Key::Evidence, Some(word)));
            for (tag, value) in someone.tags {
                add(Key::PrincipalTag(tag.to_ascii_lowercase().into()), Some(value.as_str()));
            }
            own.blocks.extend(someone.addresses);
            own.vpcs.insert(someone.vpc, someone.vpc_name);
        }
        own.all = all;
        own
    }

    /// What a key about callers holds; none: it is not about callers, or anything may be its value.
    pub(super) fn values(&self, key: &Key) -> Option<&BTreeSet<&'a str>> {
        static NONE: BTreeSet<&str> = BTreeSet::new();
        let about = matches!(
            key,
            Key::SourceVpc
                | Key::SourceVpcOwnerAccount
                | Key::PrincipalArn
                | Key::PrincipalAccount
                | Key::PrincipalOrgId
                | Key::PrincipalOrgPaths
                | Key::PrincipalTag(_)
                | Key::PrincipalType
                | Key::UserId
                | Key::AttestedPrincipalArn
                | Key::Evidence
        );
        (about && !self.all.is_empty()).then(|| self.values.get(key).unwrap_or(&NONE))
    }

    /// Tag keys that some caller has.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.values.keys().filter_map(|key| if let Key::PrincipalTag(name) = key { Some(&**name) } else { None })
    }

    /// Whether a session or attested name can be that of a workload without a document.
    pub(super) fn may_be(&self, name: &str) -> bool {
        open_name(name).is_some_and(|parts| self.unnamed.contains(&parts))
    }
}

/// The beginning up to the last `/`, and the end from the last `@`.
pub(super) fn open_name(name: &str) -> Option<(&str, &str)> {
    let at = name.rfind('@')?;
    let slash = name[..at].rfind('/')?;
    Some((&name[..=slash], &name[at..]))
}
