//! The request that is asked about, as rules and policies see it.

use std::net::IpAddr;

use brattice_iam::Lookup;
use brattice_router::RequestHead;
use brattice_router::fields::{self, Message};
use brattice_wire::explain::{Question, RequestView};
use brattice_wire::records::Past;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// As sent, without the query.
    pub(crate) raw_path: String,
    /// As rules and policies see it, or why there is none such.
    pub(crate) path: Result<String, String>,
    pub(crate) query: String,
    /// Lower case, without port and trailing dot. The name of the service that it means, once that is known.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Names of fields whose values are not known.
    pub(crate) hidden: Vec<String>,
    /// Names of fields that neither rules, policies nor targets see.
    pub(crate) dropped: Vec<String>,
    /// Number of the caller's VPC.
    pub(crate) vpc: u32,
    /// Id of the caller's VPC, and its address there: the key of stickiness by source.
    pub(crate) source: Option<(String, IpAddr)>,
}

/// The path as rules, policies and targets see it.
fn normal(raw: &str) -> Result<String, String> {
    brattice_router::path::normalize(raw).map(std::borrow::Cow::into_owned).map_err(|refused| refused.to_string())
}

impl Asked {
    /// A made-up request; host and port as far as they were given.
    pub(crate) fn of(question: &Question) -> Self {
        let (raw_path, query) = question.path.split_once('?').unwrap_or((&question.path, ""));
        let mut host = question.host.clone();
        let mut headers = Vec::with_capacity(question.headers.len());
        for (name, value) in &question.headers {
            let name = name.to_ascii_lowercase();
            if name == "host" && host.is_none() {
                host = Some(value.clone());
            } else {
                headers.push((name, value.clone()));
            }
        }
        let (headers, dropped) = passing(headers);
        Self {
            method: question.method.clone(),
            raw_path: raw_path.to_owned(),
            path: normal(raw_path),
            query: query.to_owned(),
            host: host.as_deref().map(host_name).unwrap_or_default(),
            port: question.port.unwrap_or_default(),
            headers,
            hidden: Vec::new(),
            dropped,
            vpc: 0,
            source: None,
        }
    }

    /// One that was sent.
    pub(crate) fn again(past: &Past) -> Self {
        let mut headers = Vec::new();
        let mut hidden = Vec::new();
        for header in &past.headers {
            match &header.values {
                Some(values) => headers.extend(values.iter().map(|value| (header.name.clone(), value.clone()))),
                None => hidden.push(header.name.clone()),
            }
        }
        Self {
            method: past.method.clone(),
            raw_path: past.path.clone(),
            path: normal(&past.path),
            query: past.query.clone(),
            host: past.host.clone(),
            port: past.port,
            headers,
            hidden,
            // Only what passed was remembered.
            dropped: Vec::new(),
            vpc: 0,
            source: None,
        }
    }

    /// What is wrong with it, before anything is looked up.
    pub(crate) fn malformed(&self) -> Option<String> {
        if !is_token(&self.method) {
            return Some(format!("{:?} is no method: letters, digits and !#$%&'*+-.^_`|~ are", self.method));
        }
        if self.method == "CONNECT" {
            return Some("CONNECT is not supported: it is answered with 501".to_owned());
        }
        let wrong = self.headers.iter().find(|field| is_malformed(field));
        if let Some((name, _)) = wrong {
            return Some(format!("the header field {name:?} is malformed"));
        }
        let hosts = self.headers.iter().filter(|(name, _)| name == "host").count();
        (hosts > 0).then(|| "the host is given twice: it is answered with 400".to_owned())
    }

    pub(crate) fn view(&self) -> RequestView {
        let mut headers: Vec<String> = self.headers.iter().map(|(name, _)| name.clone()).collect();
        headers.extend(self.hidden.iter().cloned());
        headers.dedup();
        RequestView {
            method: self.method.clone(),
            path: self.raw_path.clone(),
            normal_path: self.path.clone().ok(),
            // Of a connection that was relayed there is none.
            path_refused: self.path.clone().err().filter(|_| !self.method.is_empty()),
            query: self.query.clone(),
            host: self.host.clone(),
            port: self.port,
            headers,
        }
    }
}

/// The fields that pass, and the names of those that do not: as the engine takes them from requests before it asks rules and
/// policies.
fn passing(headers: Vec<(String, String)>) -> (Vec<(String, String)>, Vec<String>) {
    let joined = |name: &str| -> String {
        let values = headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        values.collect::<Vec<_>>().join(",")
    };
    let (connection, upgrade, te) = (joined("connection"), joined("upgrade"), joined("te"));
    let has = |list: &str, item: &[u8]| fields::list(list.as_bytes()).any(|own| own.eq_ignore_ascii_case(item));
    let is_named =
        |name: &str| fields::named(connection.as_bytes()).any(|own| own.eq_ignore_ascii_case(name.as_bytes()));
    let offered: Vec<_> = fields::offered(upgrade.as_bytes()).map(String::from_utf8_lossy).collect();
    let offered = Some(offered.join(", ")).filter(|offered| !offered.is_empty() && has(&connection, b"upgrade"));
    let trailers = has(&te, b"trailers");
    // The malformed ones are told of as such.
    let passes = |field: &(String, String)| {
        is_malformed(field) || !fields::removed(field.0.as_bytes(), Message::Request) && !is_named(&field.0)
    };
    let (mut passed, dropped): (Vec<_>, Vec<_>) = headers.into_iter().partition(passes);
    let mut dropped: Vec<String> = dropped.into_iter().map(|(name, _)| name).collect();
    for (name, value) in [("te", trailers.then(|| "trailers".to_owned())), ("upgrade", offered)] {
        if let Some(value) = value {
            dropped.retain(|own| own != name);
            passed.push((name.to_owned(), value));
        }
    }
    dropped.sort_unstable();
    dropped.dedup();
    (passed, dropped)
}

/// Lower case, without port and trailing dot.
fn host_name(host: &str) -> String {
    let from = if host.starts_with('[') { host.find(']').unwrap_or(0) } else { 0 };
    let name = host[from..].find(':').map_or(host, |colon| &host[..from + colon]);
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a field's name is no token, or its value would end its line.
fn is_malformed((name, value): &(String, String)) -> bool {
    !is_token(name) || value.contains(['\r', '\n', '\0'])
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let special = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte))
}

impl RequestHead for Asked {
    fn method(&self) -> &str {
        &self.method
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_default()
    }

    fn query(&self) -> &str {
        &self.query
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(own, _)| own == name).for_each(|(_, value)| each(value.as_bytes()));
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn source_vpc(&self) -> u32 {
        self.vpc
    }
}

/// Header fields as policies ask for them: a value per field.
pub(crate) struct Headers<'a>(pub(crate) &'a Asked);

impl Lookup for Headers<'_> {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        let own = self.0.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.for_each(|(_, value)| found(value));
        if name.eq_ignore_ascii_case("host") {
            found(&self.0.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{host_name, passing};

    #[test]
    fn what_belongs_to_one_connection_and_what_is_not_the_callers_to_say_does_not_pass() {
        let headers = |all: &[(&str, &str)]| all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let (passed, dropped) = passing(headers(&[
            ("connection", "close, X-Team"),
            ("x-team", "red"),
            ("x-amzn-lattice-identity", "Principal=me"),
            ("x_amzn_lattice_identity", "Principal=me"),
            ("x-user", "42"),
            ("te", "gzip, Trailers"),
            ("upgrade", "websocket"),
        ]));
        assert_eq!(passed, headers(&[("x-user", "42"), ("te", "trailers")]));
        assert_eq!(dropped, ["connection", "upgrade", "x-amzn-lattice-identity", "x-team", "x_amzn_lattice_identity"]);
        let (passed, dropped) = passing(headers(&[("connection", "Upgrade"), ("upgrade", "h2c, websocket")]));
        assert_eq!(passed, headers(&[("upgrade", "websocket")]));
        assert_eq!(dropped, ["connection"]);
    }

    #[test]
    fn hosts_lose_port_case_and_dot() {
        for (host, name) in
            [("A.Example:80", "a.example"), ("a.example.", "a.example"), ("[FD00::1]:80", "[fd00::1]"), ("", "")]
        {
            assert_eq!(host_name(host), name);
        }
    }
}
