//! The request that is asked about, as rules and policies see it.

use std::net::{IpAddr, Ipv6Addr};

use brattice_router::fields::{self, Message};
use brattice_router::{authority, path};
use brattice_wire::engine::Limits;
use brattice_wire::explain::{Question, RequestView};
use brattice_wire::records::Past;
use brattice_wire::snapshot::ForwardedHeaders;

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
    /// Names of fields whose values had blanks around them.
    pub(crate) trimmed: Vec<String>,
    /// Fields that Brattice writes in place of the caller's, see [`Asked::introduce`].
    own: Vec<(&'static str, String)>,
    /// The host as it was sent, port and all: the value of the field `host`.
    authority: Option<String>,
    /// The header section as it was given; none: it was sent, and so was within all bounds.
    section: Option<Section>,
    /// It was sent: its fields are as rules and policies saw them.
    sent: bool,
}

/// A header section as HTTP/1.1 counts it: with the request line and the field `host`.
#[derive(Clone, Copy, Debug)]
struct Section {
    fields: usize,
    bytes: usize,
    /// The field `host` is among them.
    has_host: bool,
}

/// The path as rules, policies and targets see it.
fn normal(method: &str, raw: &str, query: &str) -> Result<String, String> {
    let path = path::requested(method, raw).and_then(|path| path::check_query(query).map(|()| path));
    path.map(std::borrow::Cow::into_owned).map_err(|refused| refused.to_string())
}

impl Asked {
    /// A made-up request; host and port as far as they were given.
    pub(crate) fn of(question: &Question) -> Self {
        let (raw_path, query) = question.path.split_once('?').unwrap_or((&question.path, ""));
        let mut host = question.host.as_deref().map(|host| fields::trim(host.as_bytes()).to_vec());
        let mut headers = Vec::with_capacity(question.headers.len());
        let mut trimmed = Vec::new();
        for (name, value) in &question.headers {
            let name = name.to_ascii_lowercase();
            // As HTTP/1 has it; in HTTP/2 blanks around a value are refused with 400.
            let sent = value.len();
            let value = fields::trim(value.as_bytes());
            if value.len() < sent {
                trimmed.push(name.clone());
            }
            if name == "host" && host.is_none() {
                host = Some(value.to_vec());
            } else {
                headers.push((name, String::from_utf8_lossy(value).into_owned()));
            }
        }
        let host = host.map(|host| String::from_utf8_lossy(&host).into_owned());
        let section = Section {
            has_host: question.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")),
            fields: question.headers.len(),
            // `: ` and CRLF around each value, blanks and HTTP/1.1 in the request line.
            bytes: question.method.len()
                + question.path.len()
                + "  HTTP/1.1\r\n\r\n".len()
                + question.headers.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum::<usize>(),
        };
        let (headers, dropped) = passing(headers);
        Self {
            method: question.method.clone(),
            raw_path: raw_path.to_owned(),
            path: normal(&question.method, raw_path, query),
            query: query.to_owned(),
            host: host.as_deref().map(host_name).unwrap_or_default(),
            trimmed,
            own: Vec::new(),
            authority: host,
            section: Some(section),
            sent: false,
            port: question.port.unwrap_or_default(),
            headers,
            hidden: Vec::new(),
            dropped,
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
            path: normal(&past.method, &past.path, &past.query),
            query: past.query.clone(),
            host: past.host.clone(),
            trimmed: Vec::new(),
            own: Vec::new(),
            authority: None,
            section: None,
            sent: true,
            port: past.port,
            headers,
            hidden,
            // Only what passed was remembered.
            dropped: Vec::new(),
        }
    }

    /// The bound of a header section that it is over: such a request is refused before anything else is looked at. What
    /// clients add of their own (`user-agent`, `accept`) is not counted.
    pub(crate) fn over_bound(&self, limits: &Limits) -> Option<String> {
        let Section { mut fields, mut bytes, has_host } = self.section?;
        if !has_host {
            fields += 1;
            bytes += "host: \r\n".len() + self.authority.as_ref().unwrap_or(&self.host).len();
        }
        let (most_fields, most_bytes) = (limits.headers as usize, limits.header_bytes as usize);
        if fields > most_fields {
            return Some(format!(
                "it has {fields} header fields, the host included, and {most_fields} are allowed: it is answered with 431"
            ));
        }
        (bytes > most_bytes).then(|| {
            format!(
                "its request line and header fields have {bytes} bytes, and {most_bytes} are allowed: it is answered with 431"
            )
        })
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
        let (mut hosts, mut lengths) = (0, Vec::new());
        for (name, value) in &self.headers {
            match name.as_str() {
                "host" => hosts += 1,
                "content-length" => lengths.push(value),
                _ => {}
            }
        }
        if hosts > 0 {
            return Some("the host is given twice: it is answered with 400".to_owned());
        }
        if let Some(host) = self.authority.as_ref().filter(|host| !host.is_empty() && authority::host(host).is_none()) {
            return Some(format!("{host:?} is no host, with or without a port: it is answered with 400"));
        }
        let sound = lengths.len() < 2 && lengths.iter().all(|length| fields::length(length.as_bytes()).is_some());
        (!sound).then(|| "content-length is not one number: it is answered with 400".to_owned())
    }

    /// Adds what the engine writes before the decision: the caller, and the length of an empty body.
    pub(crate) fn introduce(&mut self, caller: IpAddr, forwarded: ForwardedHeaders) {
        let known = |name: &str| {
            let values = self.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
            values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(", ")
        };
        let caller = match known("x-forwarded-for") {
            before if forwarded == ForwardedHeaders::Append && !before.is_empty() => format!("{before}, {caller}"),
            _ => caller.to_string(),
        };
        let id = Some(known("x-amzn-requestid")).filter(|id| !id.is_empty());
        let mut own = vec![
            ("x-forwarded-for", caller),
            ("x-forwarded-port", self.port.to_string()),
            ("x-forwarded-proto", "http".to_owned()),
            // Another one each time.
            ("x-amzn-requestid", id.unwrap_or_else(|| "00000000-0000-4000-8000-000000000000".to_owned())),
        ];
        match known("content-length").as_str() {
            "" if self.dropped.iter().any(|name| name == "transfer-encoding") => {}
            "" if fields::says_no_body(&self.method) => own.push(("content-length", "0".to_owned())),
            "" => {}
            length => {
                let length = fields::length(length.as_bytes());
                own.extend(length.map(|length| ("content-length", length.to_string())));
            }
        }
        own.retain(|(name, _)| !self.sent || !self.headers.iter().any(|(own, _)| own == name));
        self.own = own;
    }

    /// Names of fields that the caller gave and Brattice writes otherwise.
    pub(crate) fn replaced(&self) -> Vec<&str> {
        let other = |(name, value): &(&'static str, String)| {
            let mut given = self.headers.iter().filter(|(own, _)| own == name).peekable();
            given.peek().is_some() && given.any(|(_, own)| own != value)
        };
        self.own.iter().filter(|field| other(field)).map(|(name, _)| *name).collect()
    }

    /// The fields as rules and policies see them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let host = self.authority.as_deref().unwrap_or(&self.host);
        let replaced = |name: &str| self.own.iter().any(|(own, _)| *own == name) || name == "host";
        let sent = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        sent.filter(move |(name, _)| !replaced(name))
            .chain(self.own.iter().map(|(name, value)| (*name, value.as_str())))
            .chain(Some(("host", host)).filter(|(_, host)| !host.is_empty()))
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
    // Malformed ones are reported as such.
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
    let cookies = passed.iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value.as_bytes());
    if let Some(cookie) = fields::cookie(cookies) {
        passed.retain(|(name, _)| name != "cookie");
        passed.push(("cookie".to_owned(), String::from_utf8_lossy(&cookie).into_owned()));
    }
    dropped.sort_unstable();
    dropped.dedup();
    (passed, dropped)
}

/// Lower case, without port and trailing dot; what is no host as it is.
fn host_name(host: &str) -> String {
    let name = authority::host(host).unwrap_or(host);
    let literal = name.strip_prefix('[').and_then(|literal| literal.strip_suffix(']'));
    match literal.and_then(|literal| literal.parse::<Ipv6Addr>().ok()) {
        Some(address) => format!("[{address}]"),
        None => name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
    }
}

/// Whether a field's name is no token, or its value has a control character.
fn is_malformed((name, value): &(String, String)) -> bool {
    !is_token(name) || value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control())
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let special = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte))
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
            [("A.Example:80", "a.example"), ("a.example.", "a.example"), ("[FD00::0:1]:80", "[fd00::1]"), ("", "")]
        {
            assert_eq!(host_name(host), name);
        }
    }
}
