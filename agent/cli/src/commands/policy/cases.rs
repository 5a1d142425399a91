//! Written cases: a YAML list.
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

use std::io::Read as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use brattice_model::{Evidence, workload_arn};
use brattice_router::path::normalize;
use saphyr::{LoadableYamlNode as _, MarkedYaml};

use super::world::{Call, HttpCall, Who, World};
use super::{Case, Expected, MAX_BYTES, Undecided};
use crate::Failure;

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
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|e| format!("line {}, column {}: not YAML: {}", e.marker().line(), e.marker().col() + 1, e.info()))?;
    let mut cases = Vec::new();
    for document in documents.iter().filter(|document| !document.data.is_null()) {
        let items = document.data.as_sequence().ok_or("expected a list of cases, each beginning with `- name:`")?;
        cases.extend(items.iter().map(|item| case(item, file, world)));
    }
    if cases.is_empty() {
        return Err("there is no case in it".into());
    }
    Ok(cases)
}

fn case(node: &MarkedYaml<'_>, file: &str, world: &World<'_>) -> Case {
    let place = format!("{file}:{}", node.span.start.line());
    let read = || -> Result<(String, Call, Expected), String> {
        let fields =
            Fields::of(node, "a case", &["name", "from", "to", "request", "time", "tls", "expect", "level", "by"])?;
        let title = fields.text("name")?.unwrap_or_else(|| place.clone());
        let expected = expected(&fields)?;
        Ok((title, call(&fields, world)?, expected))
    };
    match read() {
        Ok((title, call, expected)) => Case { title, call: Ok(call), expected },
        Err(why) => Case { title: place, call: Err(Undecided::Wrong(why)), expected: Expected::default() },
    }
}

fn expected(fields: &Fields<'_, '_>) -> Result<Expected, String> {
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

fn call(fields: &Fields<'_, '_>, world: &World<'_>) -> Result<Call, String> {
    let to = fields.map("to", &["service", "port"])?.ok_or("`to` is missing")?;
    let service = to.need("service")?;
    let service = world
        .service(&service)
        .ok_or_else(|| format!("there is no service {service:?}, or there are several: write account/name"))?;
    let port = to.text("port")?.map(|port| port.parse().map_err(|_| format!("{port:?} is no port"))).transpose()?;
    if let Some(port) = port
        && !service.listeners.iter().any(|listener| listener.port == port)
    {
        return Err(format!("the service {} has no listener on port {port}", service.name));
    }
    let now = match fields.text("time")? {
        Some(text) => brattice_iam::seconds(&text).ok_or_else(|| format!("{text:?} is no time"))?,
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
        tls: fields.text("tls")?.as_deref() == Some("true"),
        http: fields.map("request", &["method", "path", "headers"])?.map(|request| http(&request)).transpose()?,
        ..Call::default()
    };
    from(fields, world, &mut call)?;
    Ok(call)
}

fn http(request: &Fields<'_, '_>) -> Result<HttpCall, String> {
    let target = request.text("path")?.unwrap_or_else(|| "/".into());
    if !target.starts_with('/') {
        return Err(format!("the path {target:?} does not begin with `/`"));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = Vec::new();
    if let Some(node) = request.node("headers") {
        let lines = node.data.as_mapping().ok_or("headers: expected names with values")?;
        for (name, value) in lines {
            let name = scalar(name).ok_or("headers: a name is not text")?;
            let values = value.data.as_sequence().map_or(std::slice::from_ref(value), |values| values.as_slice());
            for value in values {
                let value = scalar(value).ok_or_else(|| format!("the header {name} has a value that is not text"))?;
                headers.push((name.clone(), value));
            }
        }
    }
    let method = request.text("method")?.unwrap_or_else(|| "GET".into());
    // Policies see the path as rules do.
    let path = normalize(path).map_err(|why| format!("the path {path:?} is answered 400: {why}"))?;
    Ok(HttpCall { method, path: path.into_owned(), query: query.into(), headers })
}

/// The caller: a workload, or a VPC and what is in it.
fn from(fields: &Fields<'_, '_>, world: &World<'_>, call: &mut Call) -> Result<(), String> {
    let from = fields.map("from", &["workload", "vpc", "role", "session", "address"])?.ok_or("`from` is missing")?;
    let workload = match from.text("workload")? {
        Some(name) => Some(world.workload(&name).ok_or_else(|| format!("there is no workload {name:?}"))?),
        None => None,
    };
    let vpc = match (from.text("vpc")?, workload) {
        (Some(text), _) => world
            .vpc(&text)
            .ok_or_else(|| format!("there is no VPC {text:?}, or there are several: write account/name"))?,
        (None, Some(workload)) => {
            world.vpc(&workload.vpc).ok_or_else(|| format!("the workload's VPC {} is not there", workload.vpc))?
        }
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
    let session = from.text("session")?.unwrap_or_else(|| workload.map_or("test".into(), |w| w.name.clone()));
    let role = match (from.text("role")?, workload) {
        (Some(text), workload) => {
            let role = world
                .role(&text)
                .ok_or_else(|| format!("there is no role {text:?}, or there are several: write account/name"))?;
            // A workload that is named must be one that may be the role; a VPC alone stands for any workload in it.
            if workload.is_some() && !role.trusts(&vpc.name, workload, &call.evidence) {
                return Err(format!("the role {} does not trust this workload", role.name));
            }
            Some(role)
        }
        (None, Some(workload)) => world.role_of(workload, &call.evidence)?,
        (None, None) => None,
    };
    if role.is_none() {
        call.attested = workload.map(|workload| workload_arn(vpc, world.model, &workload.name));
    }
    call.who = role.map_or(Who::Anonymous, |role| Who::Role(role.name.clone(), session));
    Ok(())
}

fn scalar(value: &MarkedYaml<'_>) -> Option<String> {
    let value = &value.data;
    value
        .as_str()
        .map(str::to_owned)
        .or_else(|| value.as_integer().map(|number| number.to_string()))
        .or_else(|| value.as_floating_point().map(|number| number.to_string()))
        .or_else(|| value.as_bool().map(|truth| truth.to_string()))
}

/// A mapping with known fields.
struct Fields<'n, 't>(Vec<(String, &'n MarkedYaml<'t>)>);

impl<'n, 't> Fields<'n, 't> {
    fn of(node: &'n MarkedYaml<'t>, what: &str, known: &[&str]) -> Result<Self, String> {
        let mapping = node.data.as_mapping().ok_or_else(|| format!("{what} is no mapping"))?;
        let mut fields = Vec::with_capacity(mapping.len());
        for (name, value) in mapping {
            let name = scalar(name).ok_or_else(|| format!("a field of {what} has no name"))?;
            if !known.contains(&name.as_str()) {
                return Err(format!("unknown field {name:?} in {what}; there are {}", known.join(", ")));
            }
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    fn node(&self, name: &str) -> Option<&'n MarkedYaml<'t>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, node)| *node)
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.node(name).map(|node| scalar(node).ok_or_else(|| format!("{name}: expected a single value"))).transpose()
    }

    fn need(&self, name: &str) -> Result<String, String> {
        self.text(name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    fn map(&self, name: &str, known: &[&str]) -> Result<Option<Self>, String> {
        self.node(name).map(|node| Self::of(node, &format!("`{name}`"), known)).transpose()
    }
}
