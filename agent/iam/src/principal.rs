//! Callers, and the principals that policies name.

use std::fmt;

use crate::lookup::{Lookup, NOTHING};

/// What kind of principal a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerKind {
    /// Its identity is not known.
    Anonymous,
    /// The account itself (AWS's root user).
    Account,
    /// A user.
    User,
    /// A role, with or without a session.
    Role,
    /// A federated user session.
    FederatedUser,
    /// A service.
    Service,
}

impl CallerKind {
    /// `aws:PrincipalType`; services have none.
    pub const fn principal_type(self) -> Option<&'static str> {
        match self {
            Self::Anonymous => Some("Anonymous"),
            Self::Account => Some("Account"),
            Self::User => Some("User"),
            Self::Role => Some("AssumedRole"),
            Self::FederatedUser => Some("FederatedUser"),
            Self::Service => None,
        }
    }
}

/// Who calls.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// What it is.
    pub kind: CallerKind,
    /// `arn:aws:iam::…` of account (`…:root`), user or role, `arn:aws:sts::…` of a federated user, a service's name;
    /// empty for the anonymous caller.
    pub name: &'a str,
    /// `arn:aws:sts::…:assumed-role/…/…`, of a role that has a session.
    pub session: Option<&'a str>,
    /// The identity provider that a session came by.
    pub provider: Option<&'a str>,
    /// 12 digits.
    pub account: Option<&'a str>,
    /// `o-…`.
    pub organization: Option<&'a str>,
    /// `o-…/r-…/ou-…/`, as `aws:PrincipalOrgPaths` has them.
    pub organization_paths: &'a [&'a str],
    /// Its tags, and those of its session.
    pub tags: &'a dyn Lookup,
    /// `aws:userid`.
    pub user_id: Option<&'a str>,
}

impl<'a> Caller<'a> {
    /// The anonymous caller.
    pub const fn anonymous() -> Self {
        Self::new(CallerKind::Anonymous, "")
    }

    /// A caller of which nothing else is known.
    pub const fn new(kind: CallerKind, name: &'a str) -> Self {
        Self {
            kind,
            name,
            session: None,
            provider: None,
            account: None,
            organization: None,
            organization_paths: &[],
            tags: NOTHING,
            user_id: None,
        }
    }

    /// `aws:PrincipalArn`: of a role session, the role's. The anonymous caller and services have none.
    pub fn arn(&self) -> Option<&'a str> {
        let has = !matches!(self.kind, CallerKind::Anonymous | CallerKind::Service);
        has.then_some(self.name)
    }

    /// As messages and logs name it: the session if there is one.
    pub fn display(&self) -> &'a str {
        match self.kind {
            CallerKind::Anonymous => "anonymous",
            _ => self.session.unwrap_or(self.name),
        }
    }

    /// The names under which an index of principals can hold it.
    pub(crate) fn names(&self) -> [Option<&'a str>; 4] {
        let name = if self.name.is_empty() { None } else { Some(self.name) };
        [name, self.session, self.account, self.provider]
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.display())
    }
}

/// The principals of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Principals {
    /// The role that the policy is attached to: identity policies have no `Principal`.
    Holder,
    /// `Principal`.
    Listed(Vec<Named>),
    /// `NotPrincipal`.
    Except(Vec<Named>),
}

/// A principal that a policy names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    /// `*`: everyone, the anonymous caller included.
    Everyone,
    /// Everyone of an account, by its 12 digits.
    Account(Box<str>),
    /// A role, with all its sessions, by ARN.
    Role(Box<str>),
    /// A user by ARN.
    User(Box<str>),
    /// A role session by ARN.
    Session(Box<str>),
    /// A federated user session by ARN.
    FederatedUser(Box<str>),
    /// A service by name.
    Service(Box<str>),
    /// All sessions by an identity provider.
    Federated(Box<str>),
}

impl Named {
    /// Whether the caller is meant.
    pub fn matches(&self, caller: &Caller<'_>) -> bool {
        match self {
            Self::Account(id) => caller.account == Some(id),
            other => other.is_exactly(caller),
        }
    }

    /// Whether `NotPrincipal` exempts the caller: an account exempts itself, and no principal in it.
    pub fn is_exactly(&self, caller: &Caller<'_>) -> bool {
        let is = |kind: CallerKind, name: &str| caller.kind == kind && caller.name == name;
        match self {
            Self::Everyone => true,
            Self::Account(id) => caller.kind == CallerKind::Account && caller.account == Some(id),
            Self::Role(arn) => is(CallerKind::Role, arn),
            Self::User(arn) => is(CallerKind::User, arn),
            Self::Session(arn) => caller.kind == CallerKind::Role && caller.session == Some(arn),
            Self::FederatedUser(arn) => is(CallerKind::FederatedUser, arn),
            Self::Service(name) => is(CallerKind::Service, name),
            Self::Federated(provider) => caller.provider == Some(provider),
        }
    }

    /// Whether it is a session of the caller's role. `arn:aws:sts::…:assumed-role/<role>/<session>` leaves out the path of
    /// `arn:aws:iam::…:role/<path>/<role>`.
    fn is_session_of(&self, caller: &Caller<'_>) -> bool {
        let (Self::Session(session), CallerKind::Role) = (self, caller.kind) else { return false };
        let mut own = session.splitn(6, ':');
        let mut role = caller.name.splitn(6, ':');
        // Partition and account are the same; the services are not, and there is no region.
        let alike = (0..5).all(|part| match (own.next(), role.next()) {
            (Some(own), Some(role)) => part == 2 || own == role,
            _ => false,
        });
        let name = role.next().and_then(|role| role.rsplit('/').next());
        alike && own.next().and_then(|own| own.split('/').nth(1)) == name
    }

    /// What an index holds it by; everyone has no name.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Everyone => None,
            Self::Account(name)
            | Self::Role(name)
            | Self::User(name)
            | Self::Session(name)
            | Self::FederatedUser(name)
            | Self::Service(name)
            | Self::Federated(name) => Some(name),
        }
    }

    /// The member of `Principal` it stands in.
    pub(crate) const fn class(&self) -> &'static str {
        match self {
            Self::Service(_) => "Service",
            Self::Federated(_) => "Federated",
            _ => "AWS",
        }
    }
}

impl Principals {
    /// Whether a statement with these is about the caller.
    pub fn include(&self, caller: &Caller<'_>) -> bool {
        match self {
            Self::Holder => true,
            Self::Listed(names) => names.iter().any(|named| named.matches(caller)),
            Self::Except(names) => !exempt(names, caller),
        }
    }
}

/// Whether `NotPrincipal` leaves the caller out. Of a role whose sessions are listed only those are left out, though the
/// role stands beside them: AWS wants it there, and the role alone exempts all its sessions.
fn exempt(names: &[Named], caller: &Caller<'_>) -> bool {
    let mut sessions = names.iter().filter(|named| named.is_session_of(caller)).peekable();
    if sessions.peek().is_some() {
        return sessions.any(|session| session.is_exactly(caller));
    }
    names.iter().any(|named| named.is_exactly(caller))
}

/// Why a text under `AWS` names no principal.
type Fault = (&'static str, &'static str);

impl Named {
    /// An entry under `AWS`.
    pub(crate) fn parse_aws(text: &str) -> Result<Self, Fault> {
        const FORMS: &str = "a 12-digit account id, or arn:aws:iam::<account>:root, …:role/<name>, …:user/<name>, \
                             arn:aws:sts::<account>:assumed-role/<role>/<session> or …:federated-user/<name>";
        if text == "*" {
            return Ok(Self::Everyone);
        }
        if is_account(text) {
            return Ok(Self::Account(text.into()));
        }
        if text.contains(['*', '?']) {
            return Err((
                "wildcards do not work inside a principal",
                "name `*` and add the condition ArnLike on aws:PrincipalArn",
            ));
        }
        if text.contains("${") {
            return Err(("policy variables do not work in a principal", "add a condition on aws:PrincipalArn"));
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, "", account, resource] = parts[..] else {
            return Err(("is no principal", FORMS));
        };
        if !partition.starts_with("aws") || !is_account(account) {
            return Err(("is no principal", FORMS));
        }
        let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
        match (service, kind) {
            ("iam", "root") if resource == "root" => Ok(Self::Account(account.into())),
            ("iam", "role") if is_path(name) => Ok(Self::Role(text.into())),
            ("iam", "user") if is_path(name) => Ok(Self::User(text.into())),
            ("sts", "assumed-role") if is_path(name) && name.matches('/').count() == 1 => {
                Ok(Self::Session(text.into()))
            }
            ("sts", "assumed-role") => Err((
                "is no principal: a session has a role and a name",
                "write arn:aws:sts::<account>:assumed-role/<role>/<session>; the role's own ARN stands for all sessions",
            )),
            ("sts", "federated-user") if is_path(name) && !name.contains('/') => Ok(Self::FederatedUser(text.into())),
            ("iam", "group") => Err(("a group is no principal", "name its users, or use a tag and aws:PrincipalTag")),
            _ => Err(("is no principal", FORMS)),
        }
    }

    /// An entry under `Service`.
    pub(crate) fn parse_service(text: &str) -> Result<Self, Fault> {
        let labels = text.split('.').collect::<Vec<_>>();
        let is_label =
            |label: &&str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if labels.len() < 2 || !labels.iter().all(is_label) {
            return Err(("is no service", "a name such as lambda.amazonaws.com"));
        }
        Ok(Self::Service(text.into()))
    }

    /// An entry under `Federated`.
    pub(crate) fn parse_federated(text: &str) -> Result<Self, Fault> {
        const FORMS: &str = "a name such as cognito-identity.amazonaws.com, or \
                             arn:aws:iam::<account>:saml-provider/<name> or …:oidc-provider/<name>";
        let fits = match text.strip_prefix("arn:") {
            Some(rest) => {
                let parts: Vec<&str> = rest.splitn(5, ':').collect();
                matches!(parts[..], [partition, "iam", "", account, resource]
                    if partition.starts_with("aws") && is_account(account)
                        && ["saml-provider/", "oidc-provider/"]
                            .iter()
                            .any(|kind| resource.strip_prefix(kind).is_some_and(is_path)))
            }
            None => Self::parse_service(text).is_ok(),
        };
        if fits && !text.contains(['*', '?', '$']) {
            Ok(Self::Federated(text.into()))
        } else {
            Err(("is no identity provider", FORMS))
        }
    }
}

/// Whether a text is an account's 12 digits.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Names with slashes between them, as IAM's paths are.
fn is_path(text: &str) -> bool {
    text.split('/')
        .all(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_told_apart() {
        let aws = |text: &str| Named::parse_aws(text);
        assert_eq!(aws("*"), Ok(Named::Everyone));
        assert_eq!(aws("123456789012"), Ok(Named::Account("123456789012".into())));
        assert_eq!(aws("arn:aws:iam::123456789012:root"), Ok(Named::Account("123456789012".into())));
        for (text, named) in [
            ("arn:aws:iam::123456789012:role/path/to/r", Named::Role as fn(Box<str>) -> Named),
            ("arn:aws-cn:iam::123456789012:user/u@x,=", Named::User),
            ("arn:aws:sts::123456789012:assumed-role/r/s", Named::Session),
            ("arn:aws:sts::123456789012:federated-user/f", Named::FederatedUser),
        ] {
            assert_eq!(aws(text), Ok(named(text.into())));
        }
        for bad in [
            "",
            "12345678901",
            "1234567890123",
            "12345678901x",
            "AROAEXAMPLE",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role",
            "arn:aws:iam::123456789012:role//r",
            "arn:aws:iam::12345678901:role/r",
            "arn:aws:iam:us-west-2:123456789012:role/r",
            "arn:aws:s3::123456789012:role/r",
            "arn:aws:iam::123456789012",
            "arn:aws:iam::123456789012:root/x",
            "arn:aws:sts::123456789012:assumed-role/r",
            "arn:aws:sts::123456789012:assumed-role/r/s/t",
            "arn:aws:sts::123456789012:federated-user/a/b",
            "arn:aws:iam::123456789012:group/g",
            "arn:aws:iam::123456789012:role/r*",
            "arn:aws:iam::123456789012:role/${x}",
            "arn:gcp:iam::123456789012:role/r",
            "arn:aws:iam::123456789012:role/a b",
            "arn:aws:sts::123456789012:root",
            "arn:aws:iam::123456789012:user/",
            "arn:aws:sts::123456789012:federated-user/",
            "*x",
            "a?",
            "arn:aws:iam::123456789012:role/a\"b",
        ] {
            assert!(aws(bad).is_err(), "{bad}");
        }
        assert!(aws("a*").unwrap_err().0.contains("wildcards") && aws("a?").unwrap_err().0.contains("wildcards"));
        assert!(aws("${a}").unwrap_err().0.contains("variables"));
        assert!(aws("arn:aws:iam::123456789012:group/g").unwrap_err().0.contains("group"));
        assert!(aws("arn:aws:sts::123456789012:assumed-role/r").unwrap_err().0.contains("session"));
    }

    #[test]
    fn services_and_providers_have_names() {
        assert!(
            Named::parse_service("lambda.amazonaws.com").is_ok() && Named::parse_service("vpc-lattice.aws").is_ok()
        );
        for bad in ["", "*", "lambda", "a..b", ".a", "a b.c", "a_b.c"] {
            assert!(Named::parse_service(bad).is_err(), "{bad}");
        }
        for good in [
            "cognito-identity.amazonaws.com",
            "arn:aws:iam::123456789012:saml-provider/x",
            "arn:aws:iam::123456789012:oidc-provider/a.b/c",
        ] {
            assert_eq!(Named::parse_federated(good), Ok(Named::Federated(good.into())));
        }
        for bad in [
            "",
            "*",
            "x",
            "arn:aws:iam::123456789012:role/x",
            "arn:aws:iam::123456789012:saml-provider/",
            "arn:aws:iam::1:saml-provider/x",
            "arn:aws:iam::123456789012:saml-provider/*",
            "arn:x:iam::123456789012:saml-provider/x",
            "arn:aws:sts::123456789012:saml-provider/x",
            "arn:aws:iam:r:123456789012:saml-provider/x",
        ] {
            assert!(Named::parse_federated(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn callers_are_shown_by_kind_and_name() {
        let role = Caller { session: Some("arn:s"), ..Caller::new(CallerKind::Role, "arn:r") };
        assert_eq!(format!("{role:?}, {:?}", Caller::anonymous()), "Role arn:s, Anonymous anonymous");
    }
}
