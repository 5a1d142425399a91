//! The conditions of a rule, one by one: what the index cannot tell, and what explanations name.

use std::fmt;

use brattice_wire::{
    index::VpcIndex,
    rules::{GrpcMatch, HeaderMatch, HostMatch, HostMatchKind, Match, PathMatch, PathMatchKind, ValueMatch},
};

use crate::{
    RequestHead, field,
    pattern::{Pattern, RegexError},
    tree::Place,
    value::{Value, folded},
};

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The method.
    Method,
    /// The path.
    Path,
    /// The host.
    Host,
    /// A header field, by its name in lower case.
    Header(String),
    /// A query parameter, by its name.
    Query(String),
    /// That it is a gRPC call, of a service and method.
    Grpc,
    /// The port of the VIP.
    Port,
    /// The caller's VPC.
    SourceVpc,
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => out.write_str("method"),
            Self::Path => out.write_str("path"),
            Self::Host => out.write_str("host"),
            Self::Header(name) => write!(out, "header {name}"),
            Self::Query(name) => write!(out, "query parameter {name}"),
            Self::Grpc => out.write_str("gRPC call"),
            Self::Port => out.write_str("port"),
            Self::SourceVpc => out.write_str("source VPC"),
        }
    }
}

/// A member of a [`Match`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source<'a> {
    Method(&'a str),
    Host(&'a HostMatch),
    Path(&'a PathMatch),
    Header(&'a HeaderMatch),
    Query(&'a str, &'a ValueMatch),
    Grpc(&'a GrpcMatch),
    Port(u16),
    Vpcs(&'a [VpcIndex]),
}

/// The members of a match, in the order in which they are looked at.
pub(crate) fn sources(matches: &Match) -> impl Iterator<Item = Source<'_>> {
    let Match { method, path, host, headers, query, grpc, port, source_vpcs } = matches;
    (host.iter().map(Source::Host))
        .chain(port.map(Source::Port))
        .chain(source_vpcs.as_deref().map(Source::Vpcs))
        .chain(method.as_deref().map(Source::Method))
        .chain(path.as_ref().map(Source::Path))
        .chain(grpc.as_ref().map(Source::Grpc))
        .chain(headers.iter().map(Source::Header))
        .chain(query.iter().map(|query| Source::Query(&query.name, &query.value)))
}

impl Source<'_> {
    /// What it is about.
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Method(_) => Subject::Method,
            Self::Host(_) => Subject::Host,
            Self::Path(_) => Subject::Path,
            Self::Header(header) => Subject::Header(header.name.clone()),
            Self::Query(name, _) => Subject::Query((*name).into()),
            Self::Grpc(_) => Subject::Grpc,
            Self::Port(_) => Subject::Port,
            Self::Vpcs(_) => Subject::SourceVpc,
        }
    }
}

/// A member of a match, compiled.
#[derive(Debug)]
pub(crate) enum Condition {
    Method(Box<str>),
    Host(HostMatchKind, Box<str>),
    /// A text that the path is or begins with.
    Path(Place, Box<[u8]>, bool),
    /// A regular expression that the path fits.
    PathRegex(Pattern),
    Header {
        name: Box<str>,
        value: Value,
        invert: bool,
    },
    Query {
        name: Box<str>,
        value: Value,
    },
    Grpc(GrpcMatch),
    Port(u16),
    /// Ascending.
    Vpcs(Box<[VpcIndex]>),
}

impl Condition {
    pub(crate) fn new(source: Source<'_>) -> Result<Self, RegexError> {
        Ok(match source {
            Source::Method(method) => Self::Method(method.into()),
            Source::Host(host) => Self::Host(host.kind, host.value.as_str().into()),
            Source::Path(path) => match place(path) {
                Some((place, text)) => Self::Path(place, folded(text, !path.case_sensitive), !path.case_sensitive),
                None => Self::PathRegex(Pattern::new(&path.value, path.case_sensitive)?),
            },
            Source::Header(header) => Self::Header {
                name: header.name.as_str().into(),
                value: Value::new(&header.value, header.case_sensitive)?,
                invert: header.invert,
            },
            Source::Query(name, value) => Self::Query { name: name.into(), value: Value::new(value, true)? },
            Source::Grpc(grpc) => Self::Grpc(grpc.clone()),
            Source::Port(port) => Self::Port(port),
            Source::Vpcs(vpcs) => {
                let mut vpcs = vpcs.to_vec();
                vpcs.sort_unstable();
                Self::Vpcs(vpcs.into())
            }
        })
    }

    /// Whether a request fits.
    pub(crate) fn matches<R: RequestHead + ?Sized>(&self, request: &R) -> bool {
        match self {
            Self::Method(method) => **method == *request.method(),
            Self::Host(HostMatchKind::Exact, host) => **host == *request.host(),
            Self::Host(HostMatchKind::Suffix, suffix) => {
                request.host().strip_suffix(&**suffix).is_some_and(|before| before.ends_with('.'))
            }
            Self::Path(place, text, fold) => {
                let path = request.path().as_bytes();
                let Some((start, rest)) = path.split_at_checked(text.len()) else { return false };
                (if *fold { text.eq_ignore_ascii_case(start) } else { **text == *start })
                    && match place {
                        Place::All => rest.is_empty(),
                        Place::Segments => matches!(rest, [] | [b'/', ..]),
                        Place::Start => true,
                    }
            }
            Self::PathRegex(pattern) => pattern.matches(request.path().as_bytes()),
            Self::Header { name, value, invert } => {
                field::header(request, name, |found| value.matches(found)).unwrap_or(false) != *invert
            }
            Self::Query { name, value } => {
                field::query(request.query(), name.as_bytes(), |found| value.matches(found)).unwrap_or(false)
            }
            Self::Grpc(grpc) => grpc_call(request).is_some_and(|(service, method)| {
                grpc.service.as_deref().is_none_or(|wanted| wanted == service)
                    && grpc.method.as_deref().is_none_or(|wanted| wanted == method)
            }),
            Self::Port(port) => *port == request.port(),
            Self::Vpcs(vpcs) => vpcs.binary_search(&request.source_vpc()).is_ok(),
        }
    }
}

/// How a path is compared with text; `None` for a regular expression.
pub(crate) fn place(path: &PathMatch) -> Option<(Place, &str)> {
    let value = path.value.as_str();
    match path.kind {
        PathMatchKind::Exact => Some((Place::All, value)),
        PathMatchKind::Prefix => Some((Place::Segments, value.strip_suffix('/').unwrap_or(value))),
        PathMatchKind::StringPrefix => Some((Place::Start, value)),
        PathMatchKind::Regex => None,
    }
}

/// Service and method of a gRPC call; `None` where a request is none.
pub(crate) fn grpc_call<R: RequestHead + ?Sized>(request: &R) -> Option<(&str, &str)> {
    const TYPE: &[u8] = b"application/grpc";
    if request.method() != "POST" {
        return None;
    }
    let (service, method) = request.path().strip_prefix('/')?.split_once('/')?;
    if service.is_empty() || method.is_empty() || method.contains('/') {
        return None;
    }
    field::header(request, "content-type", |value| {
        value.get(..TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
            && matches!(value.get(TYPE.len()), None | Some(b'+' | b';' | b' '))
    })
    .unwrap_or(false)
    .then_some((service, method))
}
