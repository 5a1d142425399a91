//! Why rules before the one that was taken were passed over: the one place that words it.

use brattice_wire::{
    index::VpcIndex,
    rules::{HostMatchKind, PathMatchKind, Precedence, Rule, ValueMatch},
};

use crate::{
    RequestHead,
    condition::{Condition, Source, Subject, grpc_call, sources},
    field,
    limits::MAX_SHOWN,
    order::order,
};

/// Header fields whose values are never repeated.
const SECRET: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-amz-security-token"];

/// A rule that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Index in the slice.
    pub rule: usize,
    /// The first condition that the request does not fit. `None`: it fits all of them, so the rule should have been taken,
    /// and either the router or its conditions are wrong.
    pub failed: Option<Failed>,
}

/// A condition that a request does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The part of the request that it compares.
    pub subject: Subject,
    /// The value that the rule asks for, in words.
    pub wanted: String,
    /// The value of the request, in words.
    pub found: String,
}

/// Why the rules before the one that was taken (none: the default action) were passed over, in the order in which they are
/// tried. VPCs get their names from `vpc`. Linear in the rules: for people, not for the request path.
pub fn passed_over<R: RequestHead + ?Sized>(
    precedence: Precedence,
    rules: &[Rule],
    taken: Option<usize>,
    request: &R,
    vpc: &dyn Fn(VpcIndex) -> String,
) -> Vec<PassedOver> {
    let before = order(precedence, rules).into_iter().take_while(|rule| Some(*rule) != taken);
    before.map(|rule| PassedOver { rule, failed: mismatch(&rules[rule], request, vpc) }).collect()
}

/// The first condition of a rule that a request does not fit; `None`: it fits all of them. VPCs get their names from `vpc`.
pub fn mismatch<R: RequestHead + ?Sized>(rule: &Rule, request: &R, vpc: &dyn Fn(VpcIndex) -> String) -> Option<Failed> {
    sources(&rule.matches).find_map(|source| {
        let found = match Condition::new(source) {
            Ok(condition) if condition.matches(request) => return None,
            Ok(_) => found(source, request, vpc),
            Err(error) => error.to_string(),
        };
        Some(Failed { subject: source.subject(), wanted: wanted(source, vpc), found })
    })
}

fn wanted(source: Source<'_>, vpc: &dyn Fn(VpcIndex) -> String) -> String {
    match source {
        Source::Method(method) => format!("`{method}`"),
        Source::Host(host) => match host.kind {
            HostMatchKind::Exact => format!("`{}`", host.value),
            HostMatchKind::Suffix => format!("a name that ends in `.{}`", host.value),
        },
        Source::Path(path) => {
            let case = case(path.case_sensitive, true);
            match path.kind {
                PathMatchKind::Exact => format!("`{}`{case}", path.value),
                PathMatchKind::Prefix => format!("`{}` or what is below it{case}", path.value),
                PathMatchKind::StringPrefix => format!("one that begins with `{}`{case}", path.value),
                PathMatchKind::Regex => format!("one that all of `{}` matches{case}", path.value),
            }
        }
        Source::Header(header) => {
            let not = if header.invert { "not: " } else { "" };
            let case = match header.value {
                ValueMatch::Present | ValueMatch::Range { .. } => "",
                _ => case(header.case_sensitive, false),
            };
            format!("{not}{}{case}", value(&header.value))
        }
        Source::Query(_, wanted) => value(wanted),
        Source::Grpc(grpc) => match (&grpc.service, &grpc.method) {
            (Some(service), Some(method)) => format!("one of `{service}/{method}`"),
            (Some(service), None) => format!("one of the service `{service}`"),
            (None, _) => "any".into(),
        },
        Source::Port(port) => port.to_string(),
        Source::Vpcs([]) => "none".into(),
        Source::Vpcs(vpcs) => vpcs.iter().copied().map(vpc).collect::<Vec<_>>().join(" or "),
    }
}

/// A note about the case of letters, where that is unusual.
fn case(sensitive: bool, usually: bool) -> &'static str {
    match (sensitive, usually) {
        (true, false) => ", in this case of letters",
        (false, true) => ", in any case of letters",
        _ => "",
    }
}

fn value(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Present => "any value".into(),
        ValueMatch::Exact(value) => format!("`{value}`"),
        ValueMatch::Prefix(value) => format!("a value that begins with `{value}`"),
        ValueMatch::Suffix(value) => format!("a value that ends with `{value}`"),
        ValueMatch::Contains(value) => format!("a value that contains `{value}`"),
        ValueMatch::Regex(pattern) => format!("a value that all of `{pattern}` matches"),
        ValueMatch::Range { start, end } => format!("an integer from {start} up to and without {end}"),
    }
}

fn found<R: RequestHead + ?Sized>(source: Source<'_>, request: &R, vpc: &dyn Fn(VpcIndex) -> String) -> String {
    match source {
        Source::Method(_) => shown(request.method().as_bytes()),
        Source::Host(_) => shown(request.host().as_bytes()),
        Source::Path(_) => shown(request.path().as_bytes()),
        Source::Header(header) if SECRET.contains(&header.name.as_str()) => {
            field::header(request, &header.name, |_| "a value that is not shown".into())
                .unwrap_or_else(|| "nothing".into())
        }
        Source::Header(header) => field::header(request, &header.name, shown).unwrap_or_else(|| "nothing".into()),
        Source::Query(name, _) => {
            field::query(request.query(), name.as_bytes(), shown).unwrap_or_else(|| "nothing".into())
        }
        Source::Grpc(_) => match grpc_call(request) {
            Some((service, method)) => shown(format!("{service}/{method}").as_bytes()),
            None => "no gRPC call (that is a POST to `/service/method` with content-type application/grpc)".into(),
        },
        Source::Port(_) => request.port().to_string(),
        Source::Vpcs(_) => vpc(request.source_vpc()),
    }
}

/// What came from outside, in printable ASCII and not too long.
fn shown(value: &[u8]) -> String {
    let cut = value.len() > MAX_SHOWN;
    let more = if cut { "…" } else { "" };
    format!("`{}{more}`", value[..value.len().min(MAX_SHOWN)].escape_ascii())
}
