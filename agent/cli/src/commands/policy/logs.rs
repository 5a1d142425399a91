//! Recorded requests: access log lines as Lattice writes them, one JSON object a line.
//!
//! A log says less than a policy may ask: where a policy of the levels concerned asks about something that logs lack, or
//! caller, VPC or service are not in the directory, the line is skipped with that reason.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use brattice_iam::{Key, Named, Policy, Principals};
use brattice_model::Evidence;
use brattice_router::path::normalize;
use serde_json::{Map, Value};

use super::world::{Call, HttpCall, Kind, Who, World};
use super::{Case, Expected, Undecided};
use crate::Failure;

/// Longest line, bytes.
const MAX_LINE: u64 = 64 * 1024;
/// Failures that do not say what policies thought of the request.
const UNDECIDED: [&str; 3] = ["ClientProtocolError", "ClientRateLimited", "ConnectionDurationExceeded"];
/// Most lines of a file.
const MAX_LINES: usize = 1_000_000;

/// Reads a file of log lines.
///
/// # Errors
/// When it cannot be read, or has too many lines.
pub(super) fn read(path: &Path, world: &World<'_>) -> Result<Vec<Case>, Failure> {
    let failure = |why: &dyn std::fmt::Display| Failure::new(format!("{}: {why}", path.display())).code(2);
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(|e| failure(&e))?);
    let mut cases = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        let length = reader.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line).map_err(|e| failure(&e))?;
        if length == 0 {
            break;
        }
        if number > MAX_LINES {
            return Err(failure(&format!("more than {MAX_LINES} lines; split the file")));
        }
        if length as u64 > MAX_LINE {
            return Err(failure(&format!("line {number} has more than {MAX_LINE} bytes: is this an access log?")));
        }
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            cases.push(case(&line, format!("{}:{number}", path.display()), world));
        }
    }
    if cases.is_empty() {
        return Err(failure(&"there is no line in it"));
    }
    Ok(cases)
}

fn case(line: &str, title: String, world: &World<'_>) -> Case {
    let record = match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(record)) => Record(record),
        Ok(_) => return wrong(title, "expected one JSON object a line".into()),
        Err(e) => return wrong(title, format!("not JSON: {e}")),
    };
    let level = record.text("authDeniedReason").map(str::to_owned);
    let expected = Expected { allow: level.is_none(), level, by: None };
    match call(&record, world) {
        Ok(call) => Case { title, call: Ok(call), expected },
        Err(why) => Case { title, call: Err(Undecided::Skipped(why)), expected },
    }
}

fn wrong(title: String, why: String) -> Case {
    Case { title, call: Err(Undecided::Wrong(why)), expected: Expected::default() }
}

/// A log line; `-` stands for what it lacks.
struct Record(Map<String, Value>);

impl Record {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && *text != "-" && *text != "null")
    }
}

fn call(record: &Record, world: &World<'_>) -> Result<Call, String> {
    let service = record.text("serviceArn").ok_or("the line names no service")?;
    let service = world.service(service).map_err(|_| format!("{service} is no service of the directory"))?;
    let vpc = record.text("sourceVpcArn").or_else(|| record.text("sourceVpcId"));
    let vpc = vpc.ok_or("the line does not say from which VPC the call came")?;
    let vpc = world.vpc(vpc).map_err(|_| format!("{vpc} is no VPC of the directory"))?;
    if record.text("authDeniedReason").is_none()
        && let Some(reason) = record.text("failureReason").filter(|reason| UNDECIDED.contains(reason))
    {
        return Err(format!("the request failed ({reason}), maybe before policies were asked"));
    }
    let listener = record.text("listenerId");
    let listener =
        service.listeners.iter().find(|own| Some(own.id.as_str()) == listener || service.listeners.len() == 1);
    let who = with_path(who(record)?, &world.policies_of(&vpc.name, &service.name, None), world)?;
    let role = match &who {
        Who::Recorded { arn, .. } => world.role(arn).ok().map(|role| role.name.clone()),
        _ => None,
    };
    for key in world.keys_of(&vpc.name, &service.name, role.as_deref()) {
        if let Some(why) = lacking(key, listener.is_some()) {
            return Err(format!("a policy asks about {key}, and {why}"));
        }
    }
    let now = record.text("startTime").and_then(brattice_iam::seconds);
    Ok(Call {
        service: service.name.clone(),
        vpc: vpc.name.clone(),
        address: record.text("sourceIpPort").and_then(address),
        who,
        evidence: vec![Evidence::Interface],
        attested: None,
        // If it is not known, it does not matter which one it was.
        port: listener.or(service.listeners.first()).map(|listener| listener.port),
        http: http(record),
        tls: record.text("tlsVersion").is_some(),
        now: now.ok_or("the line has no startTime")?,
        // A line tells no name.
        roleless: None,
    })
}

/// Why a key cannot be answered from a log.
fn lacking(key: &Key, listener: bool) -> Option<&'static str> {
    match key {
        Key::RequestHeader(name) if !matches!(&**name, "host" | "user-agent") => Some("logs have no headers"),
        Key::RequestQueryString(_) => Some("logs have no query"),
        Key::UserId => Some("logs have no user id"),
        Key::Evidence => Some("logs have no evidence"),
        Key::AttestedPrincipalArn => Some("logs have no attested identity"),
        Key::Port if !listener => Some("the service has several listeners, and the line names none of them"),
        _ => None,
    }
}

fn http(record: &Record) -> Option<HttpCall> {
    let method = record.text("requestMethod")?;
    // `LatticePath?:path` in the guide; what follows a `?` is no path.
    let path = record.text("requestPath").unwrap_or("/");
    let path = path.split('?').next().unwrap_or(path);
    let named = [("host", "hostHeader"), ("user-agent", "userAgent")];
    let headers = named.into_iter().filter_map(|(name, field)| Some((name.to_owned(), record.text(field)?.to_owned())));
    // Brattice's own lines hold the path as policies saw it; others may not.
    let path = normalize(path).unwrap_or(path.into()).into_owned();
    Some(HttpCall { method: method.into(), path, query: String::new(), headers: headers.collect() })
}

/// `ip:port`, also with an IPv6 address, with or without brackets.
fn address(text: &str) -> Option<std::net::IpAddr> {
    let (address, _) = text.rsplit_once(':')?;
    address.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn who(record: &Record) -> Result<Who, String> {
    let named = record.text("callerPrincipal").or_else(|| record.text("resolvedUser"));
    let arn = match named {
        None | Some("Anonymous") => return Ok(Who::Anonymous),
        Some("Unknown") => return Err("the caller was unknown".into()),
        Some(arn) => arn,
    };
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, service, _, account, resource] = parts[..] else {
        return Err(format!("the caller {arn:?} is no ARN"));
    };
    let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
    let (kind, arn, session) = match (service, kind) {
        ("iam", "root") => (Kind::Account, arn.to_owned(), None),
        ("iam", "user") => (Kind::User, arn.to_owned(), None),
        ("iam", "role") => (Kind::Role, arn.to_owned(), None),
        ("sts", "federated-user") => (Kind::FederatedUser, arn.to_owned(), None),
        ("sts", "assumed-role") => {
            // The ARN of a session leaves the path of its role out; see `with_path`.
            let role = name.split('/').next().unwrap_or(name);
            (Kind::Role, format!("arn:{partition}:iam::{account}:role/{role}"), Some(arn.to_owned()))
        }
        _ => return Err(format!("the caller {arn:?} is no principal")),
    };
    Ok(Who::Recorded { kind, arn, session, tags: tags(record)? })
}

/// The caller with the whole ARN of its role: that of a session leaves the path out, and policies name roles with it. No two
/// roles of an account have one name, so the one that policies name by it is meant.
fn with_path(who: Who, policies: &[&Policy], world: &World<'_>) -> Result<Who, String> {
    let Who::Recorded { kind: Kind::Role, arn, session: Some(session), tags } = who else { return Ok(who) };
    let recorded =
        |arn| Ok(Who::Recorded { kind: Kind::Role, arn, session: Some(session.clone()), tags: tags.clone() });
    let (account, name) = arn.rsplit_once('/').unwrap_or_default();
    if world.role(&arn).is_ok() {
        return recorded(arn);
    }
    let mut named = BTreeSet::new();
    let mut wildcards = false;
    for statement in policies.iter().flat_map(|policy| &policy.statements) {
        if let Principals::Listed(names) | Principals::Except(names) = &statement.principals {
            named.extend(
                names.iter().filter_map(|named| if let Named::Role(arn) = named { Some(&**arn) } else { None }),
            );
        }
        for condition in statement.conditions.iter().filter(|condition| condition.key == Key::PrincipalArn) {
            wildcards |= condition.values.iter().any(|value| value.contains(['*', '?', '$']));
            named.extend(condition.values.iter().map(|value| &**value));
        }
    }
    named.retain(|own| own.starts_with(&format!("{account}/")) && own.rsplit('/').next() == Some(name));
    match named.iter().collect::<Vec<_>>()[..] {
        [only] => recorded((*only).to_owned()),
        [] if !wildcards => recorded(arn),
        [] => Err("the line leaves the path of the caller's role out, and a policy asks about aws:PrincipalArn".into()),
        _ => {
            Err(format!("the line leaves the path of the caller's role out, and policies name several roles {name:?}"))
        }
    }
}

/// `callerPrincipalTags`: an object, or JSON text of one.
fn tags(record: &Record) -> Result<Vec<(String, String)>, String> {
    let parsed = match record.0.get("callerPrincipalTags") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text == "-" || text.is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| "callerPrincipalTags is no JSON")?,
        Some(value) => value.clone(),
    };
    let Value::Object(tags) = parsed else { return Err("callerPrincipalTags is no JSON object".into()) };
    let tag = |(key, value): (String, Value)| match value {
        Value::String(text) => (key, text),
        other => (key, other.to_string()),
    };
    Ok(tags.into_iter().map(tag).collect())
}
