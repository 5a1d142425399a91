//! What is decided about: who calls what, and how.

use std::fmt;
use std::net::IpAddr;

use crate::key::Key;
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

/// Values by name; names match without regard to (ASCII) case.
pub trait Lookup {
    /// Calls `found` with each value of the name, in order.
    fn each(&self, name: &str, found: &mut dyn FnMut(&str));
}

/// Names with values in a slice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pairs<'a>(pub &'a [(&'a str, &'a str)]);

impl Lookup for Pairs<'_> {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).for_each(|(_, value)| found(value));
    }
}

impl Lookup for std::collections::BTreeMap<String, String> {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        self.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).for_each(|(_, value)| found(value));
    }
}

/// Nothing.
pub const NOTHING: &Pairs<'static> = &Pairs(&[]);

/// The query of a request as it was sent, without the `?`: `a=1&b=2`. Names and values are percent-decoded, and `+` is a
/// space. A parameter without `=` has an empty value. Bytes that are no UTF-8 become U+FFFD.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a>(pub &'a str);

/// Longest name or value that is decoded without allocating, bytes.
const DECODED: usize = 1024;

impl Lookup for Query<'_> {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        for parameter in self.0.split('&').filter(|parameter| !parameter.is_empty()) {
            let (own, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let mut same = false;
            decoded(own, &mut |own| same = own.eq_ignore_ascii_case(name));
            if same {
                decoded(value, found);
            }
        }
    }
}

fn decoded(text: &str, found: &mut dyn FnMut(&str)) {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return found(text);
    }
    if text.len() <= DECODED {
        let mut room = [0; DECODED];
        let length = decode(text.as_bytes(), &mut room);
        match std::str::from_utf8(&room[..length]) {
            Ok(text) => found(text),
            Err(_) => found(&String::from_utf8_lossy(&room[..length])),
        }
    } else {
        let mut room = vec![0; text.len()];
        let length = decode(text.as_bytes(), &mut room);
        found(&String::from_utf8_lossy(&room[..length]));
    }
}

/// Decodes into room of at least the same size; how much it took. A `%` without two digits stays as it is.
fn decode(text: &[u8], room: &mut [u8]) -> usize {
    let digit =
        |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let (mut at, mut length) = (0, 0);
    while let Some(byte) = text.get(at) {
        room[length] = match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                high * 16 + low
            }
            (b'+', ..) => b' ',
            (byte, ..) => *byte,
        };
        at += 1;
        length += 1;
    }
    length
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
    /// Who the caller is by its attachment, whatever credentials it presents: an ARN.
    pub attested: Option<&'a str>,
    /// By what the attested identity is known.
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

    fn values(query: &str, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        Query(query).each(name, &mut |value| values.push(value.to_owned()));
        values
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(values("a=1&b=2&A=3", "a"), ["1", "3"]);
        assert_eq!(values("a", "a"), [""]);
        assert_eq!(values("a=", "a"), [""]);
        assert_eq!(values("&&a=b=c&", "a"), ["b=c"]);
        assert_eq!(values("%61=%2Fx%2fy+z", "a"), ["/x/y z"]);
        assert_eq!(values("a=%zz%4&a=%", "a"), ["%zz%4", "%"]);
        assert_eq!(values("a=%ff", "a"), ["\u{fffd}"]);
        assert_eq!(values("a=%C3%A9", "a"), ["é"]);
        assert!(values("", "a").is_empty() && values("ab=1", "a").is_empty() && values("=1", "a").is_empty());
        for length in [DECODED - 1, DECODED, DECODED + 1] {
            let text = "x".repeat(length - 3);
            assert_eq!(values(&format!("a=%41{text}"), "a"), [format!("A{text}")]);
            assert_eq!(values(&format!("a=%ff{text}"), "a"), [format!("\u{fffd}{text}")]);
        }
    }

    #[test]
    fn pairs_and_maps_are_looked_up_in_any_case() {
        let mut values = Vec::new();
        let pairs = [("X-A", "1"), ("x-b", "2"), ("x-a", "3")];
        Pairs(&pairs).each("x-A", &mut |value| values.push(value.to_owned()));
        let map = std::collections::BTreeMap::from([("Team".to_owned(), "a".to_owned())]);
        map.each("team", &mut |value| values.push(value.to_owned()));
        map.each("other", &mut |value| values.push(value.to_owned()));
        assert_eq!(values, ["1", "3", "a"]);
    }

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
