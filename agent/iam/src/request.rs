//! The input of a decision: caller, service, request.

use std::fmt;
use std::net::IpAddr;

use crate::key::Key;
use crate::lookup::Lookup;
use crate::principal::Caller;
use crate::value::Time;

/// What the caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `vpc-lattice-svcs:Invoke`: an HTTP request.
    Invoke,
    /// `vpc-lattice-svcs:Connect`: a connection whose content is not read.
    Connect,
}

impl Action {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Invoke, Self::Connect];

    /// As policies write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invoke => "vpc-lattice-svcs:Invoke",
            Self::Connect => "vpc-lattice-svcs:Connect",
        }
    }

    pub(crate) const fn bit(self) -> u8 {
        match self {
            Self::Invoke => 1,
            Self::Connect => 2,
        }
    }
}

/// The part of a request that only HTTP has.
#[derive(Clone, Copy)]
pub struct Http<'a> {
    /// As sent.
    pub method: &'a str,
    /// As routed, without the query.
    pub path: &'a str,
    /// All headers; several lines of one name are several values.
    pub headers: &'a dyn Lookup,
    /// Query parameters, decoded.
    pub query: &'a dyn Lookup,
}

/// Everything that policies can ask about a call, except the service network it comes through, which
/// [`crate::Chain`] adds.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who calls.
    pub caller: Caller<'a>,
    /// The caller's identity by its attachment, whatever credentials it presents: an ARN.
    pub attested: Option<&'a str>,
    /// The evidence of the attested identity.
    pub evidence: &'a [&'a str],
    /// The service's (or resource configuration's) ARN; the resource is this and, with HTTP, the path.
    pub service_arn: &'a str,
    /// 12 digits.
    pub service_account: &'a str,
    /// The service's tags.
    pub service_tags: &'a dyn Lookup,
    /// The listener's port.
    pub port: u16,
    /// Id of the VPC the call comes from.
    pub source_vpc: Option<&'a str>,
    /// 12 digits.
    pub source_vpc_account: Option<&'a str>,
    /// The caller's own address in its VPC.
    pub source_ip: Option<IpAddr>,
    /// Whether the call came over TLS.
    pub secure: bool,
    /// Seconds since 1970.
    pub now: i64,
    /// For [`Action::Invoke`]; without it the action is [`Action::Connect`].
    pub http: Option<Http<'a>>,
}

impl Request<'_> {
    /// What the caller wants to do.
    pub const fn action(&self) -> Action {
        match self.http {
            Some(_) => Action::Invoke,
            None => Action::Connect,
        }
    }

    /// The resource that policies name: the service's ARN and the path.
    pub fn resource(&self) -> String {
        format!("{}{}", self.service_arn, self.http.map_or("", |http| http.path))
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.http.map_or("", |http| http.method);
        write!(f, "{:?} {} {method} {}", self.caller, self.action().name(), self.resource())
    }
}

/// A value of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'v> {
    Text(&'v str),
    Whole(i64),
    Time(i64),
    Truth(bool),
    Address(IpAddr),
}

/// Room that is used again from decision to decision, so that none needs an allocation. One per thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) resource: String,
    pub(crate) work: Work,
}

#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) pattern: Vec<u8>,
    pub(crate) value: String,
    pub(crate) text: String,
    pub(crate) words: Vec<u64>,
}

/// A request and the service network it comes through.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) network: Option<&'a str>,
}

impl Facts<'_> {
    /// Calls `found` with each value of the key.
    pub(crate) fn each(&self, key: &Key, found: &mut dyn FnMut(Value<'_>)) {
        let request = self.request;
        let caller = &request.caller;
        let text = |text: Option<&str>, found: &mut dyn FnMut(Value<'_>)| {
            if let Some(text) = text {
                found(Value::Text(text));
            }
        };
        let texts = |texts: &[&str], found: &mut dyn FnMut(Value<'_>)| texts.iter().for_each(|t| found(Value::Text(t)));
        let http = request.http;
        let header = |name: &str, found: &mut dyn FnMut(Value<'_>)| {
            if let Some(http) = http {
                http.headers.each(name, &mut |value| found(Value::Text(value)));
            }
        };
        match key {
            Key::Port => found(Value::Whole(request.port.into())),
            Key::ServiceNetworkArn => text(self.network, found),
            Key::ServiceArn => found(Value::Text(request.service_arn)),
            Key::SourceVpc => text(request.source_vpc, found),
            Key::SourceVpcOwnerAccount => text(request.source_vpc_account, found),
            Key::RequestMethod => text(http.map(|http| http.method), found),
            Key::RequestPath => text(http.map(|http| http.path), found),
            Key::RequestHeader(name) => header(name, found),
            Key::UserAgent => header("user-agent", found),
            Key::RequestQueryString(name) => {
                if let Some(http) = http {
                    http.query.each(name, &mut |value| found(Value::Text(value)));
                }
            }
            Key::PrincipalArn => text(caller.arn(), found),
            Key::PrincipalAccount => text(caller.account, found),
            Key::PrincipalOrgId => text(caller.organization, found),
            Key::PrincipalOrgPaths => texts(caller.organization_paths, found),
            Key::PrincipalTag(name) => caller.tags.each(name, &mut |value| found(Value::Text(value))),
            Key::PrincipalType => text(caller.kind.principal_type(), found),
            Key::UserId => text(caller.user_id, found),
            Key::ResourceTag(name) => request.service_tags.each(name, &mut |value| found(Value::Text(value))),
            Key::ResourceAccount => found(Value::Text(request.service_account)),
            Key::SourceIp => request.source_ip.into_iter().for_each(|address| found(Value::Address(address))),
            Key::CurrentTime | Key::EpochTime => found(Value::Time(request.now)),
            Key::SecureTransport => found(Value::Truth(request.secure)),
            Key::AttestedPrincipalArn => text(request.attested, found),
            Key::Evidence => texts(request.evidence, found),
        }
    }

    /// Puts the only value of the key into `out`; false if there is none, or several.
    pub(crate) fn text(&self, key: &Key, out: &mut String) -> bool {
        let mut count = 0;
        out.clear();
        self.each(key, &mut |value| {
            count += 1;
            if count == 1 {
                value.write(key, out);
            }
        });
        count == 1
    }
}

impl Value<'_> {
    /// As policy variables put it, and as explanations show it.
    pub(crate) fn write(self, key: &Key, out: &mut String) {
        use fmt::Write as _;
        // Writing to a String does not fail.
        let _ = match self {
            Self::Text(text) => out.write_str(text),
            Self::Whole(number) => write!(out, "{number}"),
            Self::Time(seconds) if matches!(key, Key::EpochTime) => write!(out, "{seconds}"),
            Self::Time(seconds) => {
                Time::write(seconds, out);
                Ok(())
            }
            Self::Truth(truth) => write!(out, "{truth}"),
            Self::Address(address) => write!(out, "{}", address.to_canonical()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::NOTHING;

    #[test]
    fn requests_are_shown_on_a_line() {
        let http = Http { method: "GET", path: "/a", headers: NOTHING, query: NOTHING };
        let mut request = Request {
            caller: Caller::anonymous(),
            attested: None,
            evidence: &[],
            service_arn: "arn:x",
            service_account: "123456789012",
            service_tags: NOTHING,
            port: 80,
            source_vpc: None,
            source_vpc_account: None,
            source_ip: None,
            secure: false,
            now: 0,
            http: Some(http),
        };
        assert_eq!(format!("{request:?}"), "Anonymous anonymous vpc-lattice-svcs:Invoke GET arn:x/a");
        request.http = None;
        assert_eq!(format!("{request:?}"), "Anonymous anonymous vpc-lattice-svcs:Connect  arn:x");
    }
}
