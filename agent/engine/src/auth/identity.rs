//! Who a workload is, as policies and targets see it.

use brattice_iam::{Caller, CallerKind, Lookup};
use brattice_wire::{auth, snapshot};
use http::HeaderValue;

use super::{guards::Stands, said};

/// Texts of a caller (organization paths, evidence) that are shown to policies without an allocation.
const FEW: usize = 8;

/// Tags; keys match without regard to case.
#[derive(Debug, Default)]
pub(crate) struct Tags(Box<[(Box<str>, Box<str>)]>);

impl Tags {
    pub(super) fn new(tags: &[(String, String)]) -> Self {
        Self(tags.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl Lookup for Tags {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).for_each(|(_, value)| found(value));
    }
}

/// What workloads call as.
#[derive(Debug)]
pub(crate) struct Role {
    name: Box<str>,
    arn: Box<str>,
    account: Box<str>,
    organization: Option<Box<str>>,
    paths: Box<[Box<str>]>,
    tags: Tags,
    pub(super) stands: Stands,
}

impl Role {
    pub(super) fn new(role: &auth::Role, stands: Stands) -> Self {
        Self {
            name: role.name.as_str().into(),
            arn: role.arn.as_str().into(),
            account: role.account.as_str().into(),
            organization: role.organization.as_deref().map(Into::into),
            paths: role.organization_paths.iter().map(|path| path.as_str().into()).collect(),
            tags: Tags::new(&role.tags),
            stands,
        }
    }

    /// `account/name`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `o-…`.
    pub(super) fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    /// `o-…/r-…/ou-…/`.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|path| &**path)
    }

    /// Its tags.
    pub(crate) fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The ARN of a session of it: `arn:aws:sts::<account>:assumed-role/<role without its path>/<session>`.
    fn session(&self, session: &str) -> Box<str> {
        let last = self.arn.rsplit('/').next().unwrap_or_default();
        format!("arn:aws:sts::{}:assumed-role/{last}/{session}", self.account).into()
    }
}

/// Who a workload is.
#[derive(Debug)]
pub(crate) struct Identity {
    /// By its attachment, whatever it calls as: an ARN.
    attested: Box<str>,
    evidence: Box<[Box<str>]>,
    role: Option<u32>,
    /// ARN of its role session.
    session: Option<Box<str>>,
    /// For targets: `x-amzn-lattice-identity`, `x-amzn-lattice-identity-tags`.
    said: [Option<HeaderValue>; 2],
}

/// An identity with its parts in slices.
pub(super) struct Who<'a> {
    pub(super) caller: Caller<'a>,
    pub(super) attested: Option<&'a str>,
    pub(super) evidence: &'a [&'a str],
}

impl Identity {
    pub(super) fn new(workload: &snapshot::Workload, role: Option<(u32, &Role)>) -> Self {
        let named = Some(workload.session.as_str()).filter(|session| !session.is_empty());
        let session = role.zip(named).map(|((_, role), session)| role.session(session));
        let said = role.map_or([None, None], |(_, role)| {
            let principal = session.as_deref().unwrap_or(&role.arn);
            [said::identity(principal, role, &workload.session), said::tags(principal, role)]
        });
        Self {
            attested: workload.attested.as_str().into(),
            evidence: workload.evidence.iter().map(|word| word.as_str().into()).collect(),
            role: role.map(|(number, _)| number),
            session,
            said,
        }
    }

    /// Index of its role.
    pub(crate) fn role(&self) -> Option<u32> {
        self.role
    }

    /// The values of `x-amzn-lattice-identity` and `x-amzn-lattice-identity-tags`; the anonymous caller has none.
    pub(crate) fn said(&self) -> [Option<&HeaderValue>; 2] {
        self.said.each_ref().map(Option::as_ref)
    }

    /// The identity as policies see it, for as long as `use_it` takes.
    pub(super) fn with<R>(&self, role: Option<&Role>, use_it: impl FnOnce(&Who<'_>) -> R) -> R {
        with_texts(&self.evidence, |evidence| {
            let attested = Some(&*self.attested).filter(|arn| !arn.is_empty());
            let Some(role) = role else {
                return use_it(&Who { caller: Caller::anonymous(), attested, evidence });
            };
            with_texts(&role.paths, |paths| {
                let caller = Caller {
                    session: self.session.as_deref(),
                    account: Some(&role.account),
                    organization: role.organization.as_deref(),
                    organization_paths: paths,
                    tags: &role.tags,
                    ..Caller::new(CallerKind::Role, &role.arn)
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
