//! Ids and ARNs: Lattice's shapes, derived from names, so that they are the same on every node without any state.

use std::fmt;

use sha2::{Digest, Sha256};

/// Account id in ids and ARNs of what belongs to the operator.
pub const OPERATOR_ACCOUNT_ID: &str = "000000000000";

/// Characters after the prefix of an id.
const LENGTH: usize = 17;
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// What has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdKind {
    /// `vpc-`
    Vpc,
    /// `sn-`
    ServiceNetwork,
    /// `svc-`
    Service,
    /// `listener-`
    Listener,
    /// `rule-`
    Rule,
    /// `tg-`
    TargetGroup,
    /// `snsa-`
    ServiceAssociation,
    /// `snva-`
    VpcAssociation,
}

impl IdKind {
    /// The prefix with its hyphen.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Vpc => "vpc-",
            Self::ServiceNetwork => "sn-",
            Self::Service => "svc-",
            Self::Listener => "listener-",
            Self::Rule => "rule-",
            Self::TargetGroup => "tg-",
            Self::ServiceAssociation => "snsa-",
            Self::VpcAssociation => "snva-",
        }
    }

    /// The service in an ARN and what stands before the id.
    const fn arn_parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Vpc => ("ec2", "vpc/"),
            Self::ServiceNetwork => ("vpc-lattice", "servicenetwork/"),
            // The ARNs of listeners and rules continue those of their parents; see `child_arn`.
            Self::Service | Self::Listener | Self::Rule => ("vpc-lattice", "service/"),
            Self::TargetGroup => ("vpc-lattice", "targetgroup/"),
            Self::ServiceAssociation => ("vpc-lattice", "servicenetworkserviceassociation/"),
            Self::VpcAssociation => ("vpc-lattice", "servicenetworkvpcassociation/"),
        }
    }

    /// Whether a text has the shape of an id of this kind.
    pub fn is_id(self, text: &str) -> bool {
        text.strip_prefix(self.prefix())
            .is_some_and(|rest| rest.len() == LENGTH && rest.bytes().all(|b| ALPHABET.contains(&b)))
    }
}

/// The id of something: 17 characters from SHA-256 of account id, kind, parent's id (or empty) and name. Each part goes
/// in with its length, so no two different lists of parts are the same bytes.
pub fn derive(account_id: &str, kind: IdKind, parent: &str, name: &str) -> String {
    let mut hash = Sha256::new();
    for part in ["brattice.dev/v1", account_id, kind.prefix(), parent, name] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut number = digest.iter().take(16).fold(0u128, |n, &byte| (n << 8) | u128::from(byte));
    let mut text = [0u8; LENGTH];
    for slot in text.iter_mut().rev() {
        *slot = ALPHABET[(number % 36) as usize];
        number /= 36;
    }
    format!("{}{}", kind.prefix(), String::from_utf8_lossy(&text))
}

/// `arn:aws:<service>:<region>:<account id>:<kind>/<id>`; the partition is AWS's so that clients that take ARNs apart
/// accept them.
pub fn arn(region: &str, account_id: &str, kind: IdKind, id: &str) -> String {
    let (service, kind) = kind.arn_parts();
    format!("arn:aws:{service}:{region}:{account_id}:{kind}{id}")
}

/// ARN of a listener (`kind` = `listener`) or rule (`rule`) below its parent's.
pub fn child_arn(parent: &str, kind: &str, id: &str) -> String {
    format!("{parent}/{kind}/{id}")
}

/// How a document names another thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// A name of the document's own account (for VPCs also the operator's).
    Name(String),
    /// `account/name`; `operator/name` for the operator's VPCs.
    Qualified(String, String),
    /// Prefix and 17 characters.
    Id(String),
    /// Full ARN.
    Arn(String),
}

impl Identifier {
    /// Reads one for the given kind; says what is wrong with it.
    pub(crate) fn parse(text: &str, kind: IdKind, rule: crate::names::NameRule) -> Result<Self, String> {
        if text.starts_with("arn:") {
            let parts: Vec<&str> = text.splitn(6, ':').collect();
            let (service, path) = kind.arn_parts();
            let fits = matches!(parts[..], [_, _, s, _, account, rest]
                if s == service
                    && account.len() == 12
                    && account.bytes().all(|b| b.is_ascii_digit())
                    && rest.strip_prefix(path).is_some_and(|id| kind.is_id(id)));
            return if fits {
                Ok(Self::Arn(text.into()))
            } else {
                Err(format!(
                    "not the ARN of {}: it looks like arn:aws:{service}:<region>:<account id>:{path}{}…",
                    rule.what,
                    kind.prefix()
                ))
            };
        }
        if let Some((account, name)) = text.split_once('/') {
            crate::names::check(account, crate::names::ACCOUNT)?;
            crate::names::check(name, rule)?;
            return Ok(Self::Qualified(account.into(), name.into()));
        }
        if kind.is_id(text) {
            return Ok(Self::Id(text.into()));
        }
        crate::names::check(text, rule)?;
        Ok(Self::Name(text.into()))
    }

    /// Reads one of a role: a name, `account/name` or `arn:aws:iam::<account id>:role/<name>`.
    pub(crate) fn parse_role(text: &str) -> Result<Self, String> {
        if text.starts_with("arn:") {
            let parts: Vec<&str> = text.splitn(6, ':').collect();
            let fits = matches!(parts[..], [_, "aws", "iam", "", account, rest]
                if account.len() == 12
                    && account.bytes().all(|b| b.is_ascii_digit())
                    && rest.strip_prefix("role/").is_some_and(|name| crate::names::check(name, crate::names::ROLE).is_ok()));
            return if fits {
                Ok(Self::Arn(text.into()))
            } else {
                Err("not the ARN of a role: it looks like arn:aws:iam::<account id>:role/<name>".into())
            };
        }
        if let Some((account, name)) = text.split_once('/') {
            crate::names::check(account, crate::names::ACCOUNT)?;
            crate::names::check(name, crate::names::ROLE)?;
            return Ok(Self::Qualified(account.into(), name.into()));
        }
        crate::names::check(text, crate::names::ROLE)?;
        Ok(Self::Name(text.into()))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Id(text) | Self::Arn(text) => f.write_str(text),
            Self::Qualified(account, name) => write!(f, "{account}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    #[test]
    fn ids_do_not_change() {
        // Nodes of different versions must agree: a change here is a break.
        assert_eq!(derive("123456789012", IdKind::Service, "", "orders"), EXPECTED);
        assert!(IdKind::Service.is_id(EXPECTED) && !IdKind::TargetGroup.is_id(EXPECTED));
    }

    const EXPECTED: &str = "svc-crxchfqdf7o1m9u7j";

    #[test]
    fn every_part_counts() {
        let base = derive("1", IdKind::Rule, "ab", "c");
        assert_ne!(base, derive("2", IdKind::Rule, "ab", "c"));
        assert_ne!(base, derive("1", IdKind::Rule, "a", "bc"));
        assert_ne!(base[5..], derive("1", IdKind::Service, "ab", "c")[4..]);
    }

    #[test]
    fn identifiers_are_told_apart() {
        let parse = |text: &str| Identifier::parse(text, IdKind::Service, names::SERVICE);
        assert_eq!(parse("orders"), Ok(Identifier::Name("orders".into())));
        assert_eq!(parse("shop/orders"), Ok(Identifier::Qualified("shop".into(), "orders".into())));
        assert!(matches!(parse("svc-0123456789abcdefg"), Ok(Identifier::Id(_))));
        assert!(matches!(
            parse("arn:aws:vpc-lattice:local:123456789012:service/svc-0123456789abcdefg"),
            Ok(Identifier::Arn(_))
        ));
        for bad in ["", "a/b/c", "/x", "shop/", "svc-0123", "arn:aws:ec2:local:123456789012:vpc/vpc-0123456789abcdefg"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
