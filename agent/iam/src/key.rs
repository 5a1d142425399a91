//! Condition keys: their names, and what kind of value each has. A name that is not here is an error, with the reason
//! where AWS has the key and it cannot apply.

use std::fmt;

use crate::finding::nearest;
use crate::operator::Family;

/// A condition key. Names after a `/` are in lower case: names match without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `vpc-lattice-svcs:Port`.
    Port,
    /// `vpc-lattice-svcs:ServiceNetworkArn`.
    ServiceNetworkArn,
    /// `vpc-lattice-svcs:ServiceArn`.
    ServiceArn,
    /// `vpc-lattice-svcs:SourceVpc`.
    SourceVpc,
    /// `vpc-lattice-svcs:SourceVpcOwnerAccount`.
    SourceVpcOwnerAccount,
    /// `vpc-lattice-svcs:RequestMethod`.
    RequestMethod,
    /// `vpc-lattice-svcs:RequestPath`.
    RequestPath,
    /// `vpc-lattice-svcs:RequestHeader/<name>`.
    RequestHeader(Box<str>),
    /// `vpc-lattice-svcs:RequestQueryString/<key>`.
    RequestQueryString(Box<str>),
    /// `aws:PrincipalArn`.
    PrincipalArn,
    /// `aws:PrincipalAccount`.
    PrincipalAccount,
    /// `aws:PrincipalOrgID`.
    PrincipalOrgId,
    /// `aws:PrincipalOrgPaths`.
    PrincipalOrgPaths,
    /// `aws:PrincipalTag/<key>`.
    PrincipalTag(Box<str>),
    /// `aws:PrincipalType`.
    PrincipalType,
    /// `aws:userid`.
    UserId,
    /// `aws:ResourceTag/<key>`.
    ResourceTag(Box<str>),
    /// `aws:ResourceAccount`.
    ResourceAccount,
    /// `aws:SourceIp`.
    SourceIp,
    /// `aws:CurrentTime`.
    CurrentTime,
    /// `aws:EpochTime`.
    EpochTime,
    /// `aws:SecureTransport`.
    SecureTransport,
    /// `aws:UserAgent`.
    UserAgent,
    /// `brattice:AttestedPrincipalArn`: who the caller is by its attachment, whatever credentials it presents.
    AttestedPrincipalArn,
    /// `brattice:Evidence`: by what the attested identity is known.
    Evidence,
}

/// What the values of a key are, and so which operators make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text with a meaning of its own.
    Text,
    /// Text that callers or operators choose: it may hold anything.
    Free,
    /// ARN.
    Arn,
    /// Whole number.
    Number,
    /// Time, as text.
    Time,
    /// Time, as seconds.
    Epoch,
    /// `true` or `false`.
    Truth,
    /// IP address.
    Address,
}

impl Kind {
    pub(crate) const fn allows(self, family: Family) -> bool {
        match family {
            Family::Null => true,
            Family::String => matches!(self, Self::Text | Self::Free | Self::Arn),
            Family::Arn => matches!(self, Self::Arn | Self::Free),
            Family::Numeric => matches!(self, Self::Number | Self::Epoch | Self::Free),
            Family::Date => matches!(self, Self::Time | Self::Epoch | Self::Free),
            Family::Bool => matches!(self, Self::Truth | Self::Free),
            Family::IpAddress => matches!(self, Self::Address | Self::Free),
            Family::Binary => false,
        }
    }

    /// The operators to use, for a message.
    pub(crate) const fn operators(self) -> &'static str {
        match self {
            Self::Text => "a String operator, such as StringEquals",
            Self::Free => "any operator but BinaryEquals",
            Self::Arn => "an Arn or String operator, such as ArnLike",
            Self::Number => "a Numeric operator, such as NumericEquals",
            Self::Time => "a Date operator, such as DateLessThan",
            Self::Epoch => "a Numeric or Date operator, such as NumericLessThan",
            Self::Truth => "Bool",
            Self::Address => "IpAddress or NotIpAddress",
        }
    }
}

/// Keys without a part of their own.
const PLAIN: [(&str, Key); 21] = [
    ("vpc-lattice-svcs:Port", Key::Port),
    ("vpc-lattice-svcs:ServiceNetworkArn", Key::ServiceNetworkArn),
    ("vpc-lattice-svcs:ServiceArn", Key::ServiceArn),
    ("vpc-lattice-svcs:SourceVpc", Key::SourceVpc),
    ("vpc-lattice-svcs:SourceVpcOwnerAccount", Key::SourceVpcOwnerAccount),
    ("vpc-lattice-svcs:RequestMethod", Key::RequestMethod),
    ("vpc-lattice-svcs:RequestPath", Key::RequestPath),
    ("aws:PrincipalArn", Key::PrincipalArn),
    ("aws:PrincipalAccount", Key::PrincipalAccount),
    ("aws:PrincipalOrgID", Key::PrincipalOrgId),
    ("aws:PrincipalOrgPaths", Key::PrincipalOrgPaths),
    ("aws:PrincipalType", Key::PrincipalType),
    ("aws:userid", Key::UserId),
    ("aws:ResourceAccount", Key::ResourceAccount),
    ("aws:SourceIp", Key::SourceIp),
    ("aws:CurrentTime", Key::CurrentTime),
    ("aws:EpochTime", Key::EpochTime),
    ("aws:SecureTransport", Key::SecureTransport),
    ("aws:UserAgent", Key::UserAgent),
    ("brattice:AttestedPrincipalArn", Key::AttestedPrincipalArn),
    ("brattice:Evidence", Key::Evidence),
];

/// Makes a key of the name behind its slash.
type Make = fn(Box<str>) -> Key;

/// Keys with a name behind a slash.
const NAMED: [(&str, Make); 4] = [
    ("vpc-lattice-svcs:RequestHeader/", Key::RequestHeader),
    ("vpc-lattice-svcs:RequestQueryString/", Key::RequestQueryString),
    ("aws:PrincipalTag/", Key::PrincipalTag),
    ("aws:ResourceTag/", Key::ResourceTag),
];

/// Keys of AWS that can't apply, and why. Those that end with `/` or `*` stand for all that begin so.
const REFUSED: [(&str, &str); 34] = [
    ("aws:SourceVpc", "use vpc-lattice-svcs:SourceVpc, which says from which VPC the call came"),
    ("aws:SourceVpce", "calls come through no VPC endpoint; use vpc-lattice-svcs:SourceVpc"),
    ("aws:SourceVpcArn", "use vpc-lattice-svcs:SourceVpc, which says from which VPC the call came"),
    ("aws:VpcSourceIp", "use aws:SourceIp together with vpc-lattice-svcs:SourceVpc"),
    ("aws:VpceAccount", "calls come through no VPC endpoint; use vpc-lattice-svcs:SourceVpcOwnerAccount"),
    ("aws:VpceOrgID", "calls come through no VPC endpoint; use aws:PrincipalOrgID"),
    ("aws:VpceOrgPaths", "calls come through no VPC endpoint; use aws:PrincipalOrgPaths"),
    ("aws:SourceArn", "no AWS service calls on behalf of a resource here; use vpc-lattice-svcs:SourceVpc"),
    (
        "aws:SourceAccount",
        "no AWS service calls on behalf of a resource here; use vpc-lattice-svcs:SourceVpcOwnerAccount",
    ),
    ("aws:SourceOrgID", "no AWS service calls on behalf of a resource here; use aws:PrincipalOrgID"),
    ("aws:SourceOrgPaths", "no AWS service calls on behalf of a resource here; use aws:PrincipalOrgPaths"),
    ("aws:SourceIdentity", "sessions carry no source identity here; use aws:PrincipalTag/… or aws:userid"),
    ("aws:SourceOwner", "AWS itself has withdrawn it; use vpc-lattice-svcs:SourceVpcOwnerAccount"),
    ("aws:Referer", "use vpc-lattice-svcs:RequestHeader/referer"),
    ("aws:username", "use aws:PrincipalArn, which names the user"),
    ("aws:RequestTag/", "a call creates no tags; use aws:PrincipalTag/… or aws:ResourceTag/…"),
    ("aws:TagKeys", "a call creates no tags; use aws:PrincipalTag/… or aws:ResourceTag/…"),
    ("aws:RequestedRegion", "a node serves one region; use vpc-lattice-svcs:ServiceArn"),
    ("aws:CalledVia*", "calls come from the caller itself, never through an AWS service"),
    ("aws:ViaAWSService", "calls come from the caller itself, never through an AWS service"),
    ("aws:ViaAWSMCPService", "calls come from the caller itself, never through an AWS service"),
    ("aws:PrincipalIsAWSService", "name the service as {\"Service\": …} in Principal"),
    ("aws:PrincipalServiceName*", "name the service as {\"Service\": …} in Principal"),
    ("aws:MultiFactorAuth*", "workloads have no second factor"),
    ("aws:ChatbotSourceArn", "workloads do not come from a chat"),
    ("aws:TokenIssueTime", "attested identities have no token with a time of issue"),
    ("aws:FederatedProvider", "name the provider as {\"Federated\": …} in Principal"),
    ("aws:AssumedRoot", "no root session exists here; use aws:PrincipalArn"),
    ("aws:SignInSessionArn", "Brattice has no sign-in; use aws:PrincipalArn"),
    ("aws:Ec2InstanceSourceVpc", "use vpc-lattice-svcs:SourceVpc, which is attested for every caller"),
    ("aws:Ec2InstanceSourcePrivateIPv4", "use aws:SourceIp together with vpc-lattice-svcs:SourceVpc"),
    ("aws:ResourceOrgID", "the organization of a service is not known here; use aws:ResourceAccount"),
    ("aws:ResourceOrgPaths", "the organization of a service is not known here; use aws:ResourceAccount"),
    ("ec2:*", "use aws:PrincipalTag/… or brattice:Evidence"),
];

/// Longest name behind a slash, bytes: tag keys have 128 characters, header names rarely as many.
const LONGEST_NAME: usize = 512;

/// Why a text names no key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Key {
    pub(crate) fn parse(text: &str) -> Result<Self, Unknown> {
        if let Some((_, key)) = PLAIN.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(key.clone());
        }
        let quoted = crate::finding::quote(text);
        for (prefix, key) in NAMED {
            // With or without the slash: without, the name is missing.
            let bare = &prefix[..prefix.len() - 1];
            let Some(head) = text.get(..bare.len()).filter(|head| head.eq_ignore_ascii_case(bare)) else { continue };
            let name = match text[head.len()..].strip_prefix('/') {
                Some(name) => name,
                None if text.len() == head.len() => "",
                None => continue,
            };
            if name.is_empty() || name.len() > LONGEST_NAME {
                let message =
                    format!("the condition key {quoted} needs a name of 1 to {LONGEST_NAME} bytes after the `/`");
                return Err(Unknown { message, help: Some(format!("write {prefix}<name>")) });
            }
            return Ok(key(name.to_ascii_lowercase().into()));
        }
        for (name, help) in REFUSED {
            let begins = |name: &str| text.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
            let is_it = match name.strip_suffix('*') {
                Some(name) => begins(name),
                None if name.ends_with('/') => begins(name),
                None => name.eq_ignore_ascii_case(text),
            };
            if is_it {
                let message = format!("the condition key {quoted} cannot apply here");
                return Err(Unknown { message, help: Some(help.into()) });
            }
        }
        let names = PLAIN.iter().map(|(name, _)| *name).chain(NAMED.iter().map(|(name, _)| *name));
        let help = nearest(text, names).map(|near| format!("did you mean `{near}`?"));
        Err(Unknown { message: format!("unknown condition key {quoted}"), help })
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Port => Kind::Number,
            Self::ServiceNetworkArn | Self::ServiceArn | Self::PrincipalArn | Self::AttestedPrincipalArn => Kind::Arn,
            Self::RequestHeader(_) | Self::RequestQueryString(_) | Self::PrincipalTag(_) | Self::ResourceTag(_) => {
                Kind::Free
            }
            Self::SourceIp => Kind::Address,
            Self::CurrentTime => Kind::Time,
            Self::EpochTime => Kind::Epoch,
            Self::SecureTransport => Kind::Truth,
            Self::SourceVpc
            | Self::SourceVpcOwnerAccount
            | Self::RequestMethod
            | Self::RequestPath
            | Self::PrincipalAccount
            | Self::PrincipalOrgId
            | Self::PrincipalOrgPaths
            | Self::PrincipalType
            | Self::UserId
            | Self::ResourceAccount
            | Self::UserAgent
            | Self::Evidence => Kind::Text,
        }
    }

    /// Whether a request may have several values by the key's definition: such a key wants `ForAnyValue:` or
    /// `ForAllValues:`.
    pub const fn is_multi_valued(&self) -> bool {
        matches!(self, Self::RequestQueryString(_) | Self::PrincipalOrgPaths | Self::Evidence)
    }

    /// Whether only HTTP requests have it.
    pub const fn is_http(&self) -> bool {
        matches!(
            self,
            Self::RequestMethod
                | Self::RequestPath
                | Self::RequestHeader(_)
                | Self::RequestQueryString(_)
                | Self::UserAgent
        )
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, name) = match self {
            Self::RequestHeader(name) => (NAMED[0].0, name),
            Self::RequestQueryString(name) => (NAMED[1].0, name),
            Self::PrincipalTag(name) => (NAMED[2].0, name),
            Self::ResourceTag(name) => (NAMED[3].0, name),
            plain => return f.write_str(PLAIN.iter().find(|(_, key)| key == plain).map_or("", |(name, _)| name)),
        };
        write!(f, "{prefix}{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_in_any_case_and_written_again() {
        for (name, key) in PLAIN {
            assert_eq!(Key::parse(name), Ok(key.clone()));
            assert_eq!(Key::parse(&name.to_uppercase()), Ok(key.clone()));
            assert_eq!(key.to_string(), name);
        }
        for (prefix, key) in NAMED {
            assert_eq!(Key::parse(&format!("{}Some-Name", prefix.to_lowercase())), Ok(key("some-name".into())));
            assert_eq!(key("x/y".into()).to_string(), format!("{prefix}x/y"));
            assert_eq!(Key::parse(&format!("{prefix}x/y")), Ok(key("x/y".into())));
        }
    }

    #[test]
    fn what_is_no_key_says_why() {
        let why = |text: &str| Key::parse(text).unwrap_err();
        assert_eq!(why("aws:PrincipalOrgId2").help.unwrap(), "did you mean `aws:PrincipalOrgID`?");
        assert_eq!(why("nonsense").help, None);
        assert!(why("AWS:sourcevpc").help.unwrap().contains("vpc-lattice-svcs:SourceVpc"));
        assert!(why("aws:CalledViaFirst").message.contains("cannot apply"));
        assert!(why("aws:RequestTag/x").message.contains("cannot apply"));
        assert!(why("aws:SourceVpcX").help.unwrap().starts_with("did you mean"));
        for missing in ["aws:PrincipalTag/", "aws:PrincipalTag", "vpc-lattice-svcs:RequestHeader"] {
            assert!(why(missing).message.contains("needs a name"), "{missing}");
        }
        let long = |length: usize| format!("aws:PrincipalTag/{}", "x".repeat(length));
        assert!(Key::parse(&long(LONGEST_NAME)).is_ok() && Key::parse(&long(LONGEST_NAME + 1)).is_err());
        for unknown in ["aws:PrincipalTagX/y", "é", ""] {
            assert!(why(unknown).message.contains("unknown condition key"), "{unknown}");
        }
    }
}
