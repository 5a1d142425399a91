//! Test cases of `brattice policy test`: a YAML list.
//!
//! ```yaml
//! - name: green reads orders
//!   from: {workload: green-1}                    # or {vpc: platform/green, role: platform/reader, address: 10.0.0.10}
//!   to: {service: shop/orders, port: 80}         # the port is needed where the service has several listeners
//!   request: {method: GET, path: "/orders?x=1", headers: {x-team: red}}   # left out: a connection that is not read
//!   time: 2026-01-31T10:00:00Z                   # left out: now
//!   tls: true                                    # left out: false
//!   expect: deny
//!   level: Service                               # authDeniedReason; may be left out
//!   by: default-deny:service:shop/orders         # what refuses; may be left out
//! ```
//!
//! Values are the text that is written: `1.0` is no number, and `yes` no truth.

use std::cell::Cell;
use std::io::Read as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use brattice_model::yaml::{self, Content, Key, Node};
use brattice_model::{Evidence, workload_arn};
use brattice_router::path::normalize;

use super::world::{Call, HttpCall, Who, World};
use super::{Case, Expected, MAX_BYTES, Undecided};
use crate::Failure;
use crate::names::guess;

/// Reads a file of cases. A case that makes no sense is one with the result "wrong".
///
/// # Errors
/// When the file cannot be read or is no YAML list.
pub(super) fn read(path: &Path, world: &World<'_>) -> Result<Vec<Case>, Failure> {
    let failure = |why: &dyn std::fmt::Display| Failure::new(format!("{}: {why}", path.display())).code(2);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| failure(&e))?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| failure(&e))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(failure(&format!("more than {MAX_BYTES} bytes; split the file")));
    }
    parse(&text, &path.display().to_string(), world).map_err(|why| failure(&why))
}

fn parse(text: &str, file: &str, world: &World<'_>) -> Result<Vec<Case>, String> {
    let (documents, refusals) = yaml::read(text, &mut 0);
    let first = refusals.into_iter().min_by_key(|refusal| (refusal.mark.line, refusal.mark.column));
    if let Some(refusal) = first {
        let help = if refusal.help.is_empty() { String::new() } else { format!(" ({})", refusal.help) };
        return Err(format!("line {}, column {}: {}{help}", refusal.mark.line, refusal.mark.column, refusal.message));
    }
    let mut cases = Vec::new();
    for document in documents {
        let Content::List(items) = &document.content else {
            return Err("expected a list of cases, each beginning with `- name:`".into());
        };
        cases.extend(items.iter().map(|item| case(item, file, world)));
    }
    if cases.is_empty() {
        return Err("there is no case in it".into());
    }
    Ok(cases)
}

fn case(node: &Node, file: &str, world: &World<'_>) -> Case {
    let place = |line: u32| format!("{file}:{line}");
    let line = Cell::new(node.mark.line);
    let read = || -> Result<(String, Call, Expected), String> {
        let known = ["name", "from", "to", "request", "time", "tls", "expect", "level", "by"];
        let fields = Fields::of(node, "a case", &known, &line)?;
        let title = fields.text("name")?.unwrap_or_else(|| place(node.mark.line));
        let expected = expected(&fields)?;
        Ok((title, call(&fields, world)?, expected))
    };
    match read() {
        Ok((title, call, expected)) => Case { title, call: Ok(call), expected },
        Err(why) => Case { title: place(line.get()), call: Err(Undecided::Wrong(why)), expected: Expected::default() },
    }
}

fn expected(fields: &Fields<'_>) -> Result<Expected, String> {
    let allow = match fields.need("expect")?.as_str() {
        "allow" => true,
        "deny" => false,
        other => return Err(format!("expect is {other:?}; it is `allow` or `deny`")),
    };
    let level = fields.text("level")?;
    if let Some(level) = level.as_deref().filter(|level| !["Identity", "Network", "Service"].contains(level)) {
        return Err(format!("level is {level:?}; it is Identity, Network or Service"));
    }
    let by = fields.text("by")?;
    if allow && (level.is_some() || by.is_some()) {
        return Err("level and by say what refuses, and the case expects `allow`".into());
    }
    Ok(Expected { allow, level, by })
}

fn call(fields: &Fields<'_>, world: &World<'_>) -> Result<Call, String> {
    let to = fields.map("to", &["service", "port"])?.ok_or("`to` is missing")?;
    let service = to.need("service")?;
    let service = world.service(&service)?;
    let port = to.text("port")?.map(|port| port.parse().map_err(|_| format!("{port:?} is no port"))).transpose()?;
    if let Some(port) = port
        && !service.listeners.iter().any(|listener| listener.port == port)
    {
        let ports: Vec<String> = service.listeners.iter().map(|listener| listener.port.to_string()).collect();
        return Err(format!(
            "the service {} has no listener on port {port}; there is {}",
            service.name,
            ports.join(", ")
        ));
    }
    let now = match fields.text("time")? {
        Some(text) => brattice_iam::seconds(&text)
            .ok_or_else(|| format!("{text:?} is no time; write it as 2026-01-31T10:00:00Z"))?,
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .unwrap_or_default(),
    };
    let mut call = Call {
        service: service.name.clone(),
        port,
        now,
        tls: truth(fields, "tls")?,
        http: fields.map("request", &["method", "path", "headers"])?.map(|request| http(&request)).transpose()?,
        ..Call::default()
    };
    from(fields, world, &mut call)?;
    Ok(call)
}

fn http(request: &Fields<'_>) -> Result<HttpCall, String> {
    let method = request.text("method")?.unwrap_or_else(|| "GET".into());
    let target = request.text("path")?.unwrap_or_else(|| "/".into());
    if !target.starts_with('/') {
        return Err(format!("the path {target:?} does not begin with `/`"));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = Vec::new();
    if let Some(node) = request.node("headers") {
        let Content::Map(lines) = &node.content else { return Err("headers: expected names with values".into()) };
        for (name, value) in lines {
            let values = if let Content::List(values) = &value.content { values } else { std::slice::from_ref(value) };
            for value in values {
                let value =
                    scalar(value).ok_or_else(|| format!("the header {} has a value that is not text", name.name))?;
                headers.push((name.name.clone(), value));
            }
        }
    }
    // Policies see the path as rules do.
    let path = normalize(path).map_err(|why| format!("the path {path:?} is answered 400: {why}"))?;
    Ok(HttpCall { method, path: path.into_owned(), query: query.into(), headers })
}

/// The caller: a workload, or a VPC and what is in it.
fn from(fields: &Fields<'_>, world: &World<'_>, call: &mut Call) -> Result<(), String> {
    let from = fields.map("from", &["workload", "vpc", "role", "session", "address"])?.ok_or("`from` is missing")?;
    let workload = match from.text("workload")? {
        Some(name) => Some(world.workload(&name).ok_or_else(|| {
            let names = world.model.workloads.iter().map(|workload| workload.name.as_str());
            format!(
                "there is no Workload document {name:?}{}; a workload that is found by its interface is in no document: \
                 write its `vpc`, and perhaps its `address`",
                guess(&name, names)
            )
        })?),
        None => None,
    };
    let vpc = match (from.text("vpc")?, workload) {
        (Some(text), _) => world.vpc(&text)?,
        (None, Some(workload)) => world.vpc(&workload.vpc)?,
        (None, None) => return Err("from: say `workload` or `vpc`".into()),
    };
    if let Some(workload) = workload.filter(|workload| workload.vpc != vpc.name) {
        return Err(format!("the workload {} is in the VPC {}", workload.name, workload.vpc));
    }
    call.vpc = vpc.name.clone();
    call.evidence = vec![Evidence::Interface];
    if workload.is_some_and(|workload| workload.namespace.is_some()) {
        call.evidence.push(Evidence::Namespace);
    }
    call.address = match from.text("address")? {
        Some(text) => Some(text.parse().map_err(|_| format!("{text:?} is no address"))?),
        None => workload.and_then(|workload| workload.addresses.first().copied()),
    };
    // A VPC alone stands for any workload in it: its session is not known.
    let session = from.text("session")?.or_else(|| workload.map(|workload| workload.name.clone()));
    let role = match (from.text("role")?, workload) {
        (Some(text), workload) => {
            let role = world.role(&text)?;
            // A workload that is named must be one that may be the role; a VPC alone stands for any workload in it.
            if workload.is_some() && !role.trusts(&vpc.name, workload, &call.evidence) {
                return Err(format!("the role {} does not trust this workload", role.name));
            }
            Some(role)
        }
        (None, Some(workload)) => world.role_of(workload, &call.evidence)?,
        // As explain does it: some roles trust everything in a VPC.
        (None, None) => world.role_in(vpc, &call.evidence)?,
    };
    if role.is_none() {
        call.attested = workload.map(|workload| workload_arn(vpc, world.model, &workload.name));
        call.roleless = workload.map(|workload| workload.name.clone());
    }
    call.who = role.map_or(Who::Anonymous, |role| Who::Role(role.name.clone(), session));
    Ok(())
}

/// `true` or `false`; false where it is left out.
fn truth(fields: &Fields<'_>, name: &str) -> Result<bool, String> {
    match fields.text(name)?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("{name} is {other:?}; it is `true` or `false`")),
    }
}

/// The text as it was written, whatever type other readers of YAML would take it for; nothing at all is no text.
fn scalar(value: &Node) -> Option<String> {
    match &value.content {
        Content::Scalar { text, plain } if !*plain || !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// A mapping with known fields.
struct Fields<'n> {
    fields: &'n [(Key, Node)],
    /// Where the mapping begins.
    begin: u32,
    /// The line of the field that was read last, for errors; that of the mapping where the field is missing.
    line: &'n Cell<u32>,
}

impl<'n> Fields<'n> {
    fn of(node: &'n Node, what: &str, known: &[&str], line: &'n Cell<u32>) -> Result<Self, String> {
        line.set(node.mark.line);
        let Content::Map(fields) = &node.content else {
            return Err(format!("{what} is no mapping of names to values"));
        };
        match fields.iter().find(|(key, _)| !known.contains(&key.name.as_str())) {
            Some((key, _)) => {
                line.set(key.mark.line);
                let guess = guess(&key.name, known.iter().copied());
                Err(format!("unknown field {:?} in {what}{guess}; there are {}", key.name, known.join(", ")))
            }
            None => Ok(Self { fields, begin: node.mark.line, line }),
        }
    }

    fn node(&self, name: &str) -> Option<&'n Node> {
        let found = self.fields.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
        self.line.set(found.map_or(self.begin, |node| node.mark.line));
        found
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.node(name).map(|node| scalar(node).ok_or_else(|| format!("{name}: expected a single value"))).transpose()
    }

    fn need(&self, name: &str) -> Result<String, String> {
        self.text(name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    fn map(&self, name: &str, known: &[&str]) -> Result<Option<Self>, String> {
        self.node(name).map(|node| Self::of(node, &format!("`{name}`"), known, self.line)).transpose()
    }
}
