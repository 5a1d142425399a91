//! Random rules and requests over few words, so that they meet.

use brattice_wire::index::VpcIndex;
use brattice_wire::rules::{
    GrpcMatch, HeaderMatch, HostMatch, HostMatchKind, Match, PathMatch, PathMatchKind, QueryMatch, Rule, ValueMatch,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::common::{Asked, rule};

/// Regular expressions, and what they match, said otherwise. Letters are lower case.
pub(crate) type Known = (&'static str, fn(&str) -> bool);

pub(crate) const REGEXES: &[Known] = &[
    ("a|ab", |text| text == "a" || text == "ab"),
    ("[ab]+", |text| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a' | b'b'))),
    (".*b", |text| text.ends_with('b')),
    ("", str::is_empty),
    ("/a/.*", |text| text.starts_with("/a/")),
    ("/(a|b)", |text| text == "/a" || text == "/b"),
    ("/a(/b)?", |text| text == "/a" || text == "/a/b"),
    ("/a|/b/.*", |text| text == "/a" || text.starts_with("/b/")),
    ("(/a/)b.*", |text| text.starts_with("/a/b")),
    ("/ab*", |text| text.starts_with("/a") && text[2..].bytes().all(|byte| byte == b'b')),
    ("(?x) / a # b", |_| unreachable!("refused")),
];

/// Those for values, those for paths.
const VALUE_REGEXES: [&str; 4] = ["a|ab", "[ab]+", ".*b", ""];
const PATH_REGEXES: [&str; 7] = [".*b", "/a/.*", "/(a|b)", "/a(/b)?", "/a|/b/.*", "(/a/)b.*", "/ab*"];

fn text() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "A", "B", "1", "-", ", "]), 0..3).prop_map(|parts| parts.concat())
}

fn path() -> impl Strategy<Value = String> {
    vec(select(vec!["/", "a", "b", "A", "/a", "/b", "/a/b"]), 0..4).prop_map(|parts| format!("/{}", parts.concat()))
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let kind = select(vec![PathMatchKind::Exact, PathMatchKind::Prefix, PathMatchKind::StringPrefix]);
    let texts = (kind, path(), any::<bool>()).prop_map(|(kind, value, case_sensitive)| PathMatch {
        kind,
        value,
        case_sensitive,
    });
    let regexes = (select(PATH_REGEXES.to_vec()), any::<bool>()).prop_map(|(value, case_sensitive)| PathMatch {
        kind: PathMatchKind::Regex,
        value: value.into(),
        case_sensitive,
    });
    prop_oneof![4 => texts, 1 => regexes]
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        1 => Just(ValueMatch::Present),
        4 => text().prop_map(ValueMatch::Exact),
        2 => text().prop_map(ValueMatch::Prefix),
        1 => text().prop_map(ValueMatch::Suffix),
        1 => text().prop_map(ValueMatch::Contains),
        1 => select(VALUE_REGEXES.to_vec()).prop_map(|pattern| ValueMatch::Regex(pattern.into())),
        1 => (-2_i64..3, -1_i64..4).prop_map(|(start, end)| ValueMatch::Range { start, end }),
    ]
}

fn header() -> impl Strategy<Value = HeaderMatch> {
    (select(vec!["x", "y"]), value(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(name, value, case_sensitive, invert)| HeaderMatch { name: name.into(), value, case_sensitive, invert },
    )
}

fn query() -> impl Strategy<Value = QueryMatch> {
    (select(vec!["a", "A", "b c"]), value()).prop_map(|(name, value)| QueryMatch { name: name.into(), value })
}

fn host() -> impl Strategy<Value = HostMatch> {
    let kind = select(vec![HostMatchKind::Exact, HostMatchKind::Suffix]);
    (kind, select(vec!["a", "b", "b.a", "a.b.a", "ba"]))
        .prop_map(|(kind, value)| HostMatch { kind, value: value.into() })
}

fn grpc() -> impl Strategy<Value = GrpcMatch> {
    prop_oneof![
        Just((None, None)),
        Just((Some("a"), None)),
        Just((Some("a"), Some("b"))),
        Just((Some("b"), Some("b"))),
    ]
    .prop_map(|(service, method): (Option<&str>, Option<&str>)| GrpcMatch {
        service: service.map(Into::into),
        method: method.map(Into::into),
    })
}

/// One of the first `count` VPCs.
fn vpc(count: usize) -> impl Strategy<Value = VpcIndex> {
    (0..count).prop_map(VpcIndex::new)
}

fn conditions() -> impl Strategy<Value = Match> {
    (
        option::weighted(0.3, select(vec!["GET", "get", "POST"])),
        option::weighted(0.7, path_match()),
        option::weighted(0.3, host()),
        prop_oneof![2 => vec(header(), 0..1), 1 => vec(header(), 1..4)],
        prop_oneof![2 => vec(query(), 0..1), 1 => vec(query(), 1..3)],
        option::weighted(0.1, grpc()),
        option::weighted(0.1, select(vec![80, 81])),
        option::weighted(0.2, vec(vpc(3), 0..3)),
    )
        .prop_map(|(method, path, host, headers, query, grpc, port, source_vpcs)| Match {
            method: method.map(Into::into),
            path,
            host,
            headers,
            query,
            grpc,
            port,
            source_vpcs,
        })
}

/// Rules, some of equal priority, in any order.
pub(crate) fn rules() -> impl Strategy<Value = Vec<Rule>> {
    vec((conditions(), 1_u16..60), 0..24).prop_map(|all| {
        all.into_iter().enumerate().map(|(n, (matches, priority))| rule(&format!("r{n}"), priority, matches)).collect()
    })
}

/// A request.
pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    let name = select(vec!["a", "A", "%61", "%41", "b+c", "b%20c", "b", ""]);
    let value = vec(select(vec!["a", "b", "A", "%61", "+", "%2B", "1", "-", "%26", "%3D", "="]), 0..3);
    let pair = (name, option::weighted(0.8, value)).prop_map(|(name, value)| match value {
        Some(value) => format!("{name}={}", value.concat()),
        None => name.to_owned(),
    });
    let kind = select(vec![
        "application/grpc",
        "Application/GRPC+proto",
        "application/grpc;x",
        "application/grpcx",
        "text/plain",
    ]);
    (
        prop_oneof![4 => select(vec!["GET", "get", "PUT"]), 2 => Just("POST")],
        prop_oneof![8 => path(), 1 => Just("*".to_owned()), 2 => Just("/a/b".to_owned())],
        vec(pair, 0..3),
        select(vec!["", "a", "b", "b.a", "a.b.a", "x.a.b.a", "ba", "c.ba", ".a"]),
        vec((select(vec!["x", "y", "z"]), text()), 0..4),
        option::weighted(0.5, kind),
        80_u16..82,
        vpc(4),
    )
        .prop_map(|(method, path, pairs, host, headers, kind, port, vpc)| Asked {
            method: method.into(),
            host: host.into(),
            path,
            query: pairs.join("&"),
            headers: headers
                .into_iter()
                .chain(kind.map(|kind| ("content-type", kind.to_owned())))
                .map(|(name, value)| (name.to_owned(), value.into_bytes()))
                .collect(),
            port,
            vpc,
        })
}
