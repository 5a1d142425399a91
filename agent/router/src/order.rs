//! The order in which rules are tried.

use std::cmp::Reverse;

use brattice_wire::rules::{HostMatchKind, Match, PathMatchKind, Precedence, Rule};

/// The indices of rules, first to be tried first.
pub(crate) fn order(precedence: Precedence, rules: &[Rule]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rules.len()).collect();
    match precedence {
        Precedence::Priority => order.sort_by_key(|index| rules[*index].priority),
        Precedence::MostSpecific => {
            order.sort_by_cached_key(|index| (specificity(&rules[*index].matches), rules[*index].priority));
        }
    }
    order
}

/// Kind of a host condition, then its length, longest first.
type HostKey = (u8, Reverse<usize>);
/// Kind of a path condition, then its length, longest first.
type PathKey = (u8, Reverse<usize>);
/// [`HostKey`], [`PathKey`], no method, header and query conditions, most first.
type Key = (HostKey, PathKey, bool, Reverse<usize>, Reverse<usize>);

/// Gateway API, `HTTPRouteRule.matches`: lower is more specific.
fn specificity(matches: &Match) -> Key {
    let host = match &matches.host {
        Some(host) if host.kind == HostMatchKind::Exact => (0, Reverse(0)),
        Some(host) => (1, Reverse(host.value.len())),
        None => (2, Reverse(0)),
    };
    let by_path = matches.path.as_ref().map(|path| match path.kind {
        PathMatchKind::Exact => EXACT,
        PathMatchKind::Regex => (1, Reverse(0)),
        PathMatchKind::Prefix | PathMatchKind::StringPrefix => prefix(path.value.trim_end_matches('/').len()),
    });
    // A gRPC call is a path: `/service/method`, or what begins with `/service`.
    let by_grpc = matches.grpc.as_ref().map(|grpc| match (&grpc.service, &grpc.method) {
        (Some(_), Some(_)) => EXACT,
        (Some(service), None) => prefix(1 + service.len()),
        (None, _) => prefix(0),
    });
    // Without a path, Gateway API means the prefix `/`.
    let path = by_path.into_iter().chain(by_grpc).min().unwrap_or(prefix(0));
    let no_method = matches.method.is_none() && matches.grpc.is_none();
    (host, path, no_method, Reverse(matches.headers.len()), Reverse(matches.query.len()))
}

const EXACT: PathKey = (0, Reverse(0));

fn prefix(length: usize) -> PathKey {
    (2, Reverse(length))
}
