//! The identity of a workload, as policies see it.

use std::sync::Arc;

use brattice_iam::{Caller, CallerKind, Lookup};
use brattice_wire::{auth, snapshot};

use crate::guard::Guard;

/// Texts of a caller (organization paths, evidence) that are shown to policies without an allocation.
const FEW: usize = 8;

/// Tags; keys match without regard to case.
#[derive(Clone, Debug, Default)]
pub struct Tags(Box<[(Box<str>, Box<str>)]>);

impl Tags {
    /// In the order given.
    pub fn new<'t>(tags: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        Self(tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    pub(crate) fn of(tags: &[(String, String)]) -> Self {
        Self::new(tags.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

impl Lookup for Tags {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).for_each(|(_, value)| found(value));
    }
}

/// The principal that a workload calls as: nearly always a role.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The kind of principal.
    pub kind: CallerKind,
    /// Qualified name of the role: part of the ids of denials.
    pub name: Box<str>,
    /// ARN.
    pub arn: Box<str>,
    /// 12 digits.
    pub account: Option<Box<str>>,
    /// `o-…`.
    pub organization: Option<Box<str>>,
    /// `o-…/r-…/ou-…/`.
    pub organization_paths: Box<[Box<str>]>,
    /// `aws:PrincipalTag/…`.
    pub tags: Tags,
    /// Its own policy.
    pub guard: Guard,
}

impl Principal {
    /// A role with this policy.
    pub fn role(role: &auth::Role, guard: Guard) -> Self {
        Self {
            kind: CallerKind::Role,
            name: role.name.as_str().into(),
            arn: role.arn.as_str().into(),
            account: Some(role.account.as_str().into()),
            organization: role.organization.as_deref().map(Into::into),
            organization_paths: role.organization_paths.iter().map(|path| path.as_str().into()).collect(),
            tags: Tags::of(&role.tags),
            guard,
        }
    }
}

/// The ARN of a session of a role: `arn:aws:sts::<account>:assumed-role/<role without its path>/<session>`.
pub fn session_arn(role: &auth::Role, session: &str) -> String {
    let last = role.arn.rsplit('/').next().unwrap_or_default();
    format!("arn:aws:sts::{}:assumed-role/{last}/{session}", role.account)
}

/// The identity of a caller.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// By its attachment, whatever it calls as: an ARN.
    pub attested: Option<Box<str>>,
    /// The evidence of that identity.
    pub evidence: Box<[Box<str>]>,
    /// The principal that it calls as; none: anonymous.
    pub principal: Option<Arc<Principal>>,
    /// ARN of its session.
    pub session: Option<Box<str>>,
}

/// An identity with its parts in slices.
pub(crate) struct Who<'a> {
    pub(crate) caller: Caller<'a>,
    pub(crate) attested: Option<&'a str>,
    pub(crate) evidence: &'a [&'a str],
}

impl Identity {
    pub(crate) fn new(workload: &snapshot::Workload, role: Option<(&auth::Role, &Arc<Principal>)>) -> Self {
        let named = Some(workload.session.as_str()).filter(|session| !session.is_empty());
        Self {
            attested: Some(workload.attested.as_str()).filter(|arn| !arn.is_empty()).map(Into::into),
            evidence: workload.evidence.iter().map(|word| word.as_str().into()).collect(),
            session: role.zip(named).map(|((role, _), session)| session_arn(role, session).into()),
            principal: role.map(|(_, principal)| Arc::clone(principal)),
        }
    }

    /// The identity as policies see it, for as long as `use_it` takes.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&Who<'_>) -> R) -> R {
        with_texts(&self.evidence, |evidence| {
            let attested = self.attested.as_deref();
            let Some(principal) = &self.principal else {
                return use_it(&Who { caller: Caller::anonymous(), attested, evidence });
            };
            with_texts(&principal.organization_paths, |paths| {
                let caller = Caller {
                    session: self.session.as_deref(),
                    account: principal.account.as_deref(),
                    organization: principal.organization.as_deref(),
                    organization_paths: paths,
                    tags: &principal.tags,
                    ..Caller::new(principal.kind, &principal.arn)
                };
                use_it(&Who { caller, attested, evidence })
            })
        })
    }
}

/// The texts as a slice of references; without an allocation where they are few.
fn with_texts<R>(texts: &[Box<str>], use_them: impl FnOnce(&[&str]) -> R) -> R {
    let mut few = [""; FEW];
    match few.get_mut(..texts.len()) {
        Some(few) => {
            for (place, text) in few.iter_mut().zip(texts) {
                *place = text;
            }
            use_them(few)
        }
        None => use_them(&texts.iter().map(|text| &**text).collect::<Vec<_>>()),
    }
}
