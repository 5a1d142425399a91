//! Any request head against rules with every kind of condition: no panic, a normal path that stays normal and hides
//! nothing, the explanation takes the rule that the router takes, and rewrites and redirects end in normal paths.
//! `cargo +nightly fuzz run head` in `agent/router`.

#![no_main]

use std::sync::LazyLock;

use brattice_router::{
    RequestHead, Router, passed_over, path,
    rewrite::{Redirector, Rewriter, Target},
    shadowed, sticky,
};
use brattice_wire::{
    index::VpcIndex,
    rules::{
        Action, Filters, FixedResponse, GrpcMatch, HeaderMatch, HostMatch, HostMatchKind, Match, PathMatch,
        PathMatchKind, PathRewrite, Precedence, QueryMatch, Redirect, Rule, ValueMatch,
    },
    snapshot::Origin,
};
use libfuzzer_sys::fuzz_target;

struct Head<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    query: &'a str,
    fields: Vec<(&'a str, &'a [u8])>,
}

impl RequestHead for Head<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn host(&self) -> &str {
        self.host
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> &str {
        self.query
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.fields.iter().filter(|(own, _)| *own == name).for_each(|(_, value)| each(value));
    }

    fn port(&self) -> u16 {
        80
    }

    fn source_vpc(&self) -> VpcIndex {
        VpcIndex::new(1)
    }
}

const PATHS: [(PathMatchKind, &str); 8] = [
    (PathMatchKind::Exact, "/a/b"),
    (PathMatchKind::Exact, "/"),
    (PathMatchKind::Prefix, "/a"),
    (PathMatchKind::Prefix, "/"),
    (PathMatchKind::StringPrefix, "/a/b%2F"),
    (PathMatchKind::StringPrefix, "/%C3"),
    (PathMatchKind::Regex, "/a/[^/]+(/.*)?"),
    (PathMatchKind::Regex, "(?i)/X(y|z)*"),
];

fn values() -> Vec<ValueMatch> {
    vec![
        ValueMatch::Present,
        ValueMatch::Exact("a".into()),
        ValueMatch::Prefix("a".into()),
        ValueMatch::Suffix("a".into()),
        ValueMatch::Contains("a, b".into()),
        ValueMatch::Regex("(a|ab)*c".into()),
        ValueMatch::Range { start: -1, end: 100 },
    ]
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let mut all = vec![
        Match { method: Some("GET".into()), port: Some(80), source_vpcs: Some(vec![VpcIndex::new(2)]), ..Match::default() },
        Match { grpc: Some(GrpcMatch { service: Some("p.S".into()), method: Some("M".into()) }), ..Match::default() },
        Match { grpc: Some(GrpcMatch { service: None, method: None }), ..Match::default() },
    ];
    for kind in [HostMatchKind::Exact, HostMatchKind::Suffix] {
        all.push(Match { host: Some(HostMatch { kind, value: "a.b".into() }), ..Match::default() });
    }
    for value in values() {
        for (case_sensitive, invert) in [(false, false), (true, false), (false, true), (true, true)] {
            let header = HeaderMatch { name: "x".into(), value: value.clone(), case_sensitive, invert };
            let second = HeaderMatch { name: "y".into(), ..header.clone() };
            all.push(Match { headers: vec![header, second], method: Some("PUT".into()), ..Match::default() });
        }
        all.push(Match { query: vec![QueryMatch { name: "q r".into(), value }], ..Match::default() });
    }
    for (kind, value) in PATHS {
        for case_sensitive in [false, true] {
            all.push(Match { path: Some(PathMatch { kind, value: value.into(), case_sensitive }), ..Match::default() });
        }
    }
    let action = Action::FixedResponse(FixedResponse { status: 404, content_type: None, body: String::new() });
    let rule = |(matches, priority): (Match, u16)| Rule {
        name: format!("r{priority}"),
        id: String::new(),
        priority,
        matches,
        filters: Filters::default(),
        action: action.clone(),
        origin: Origin::default(),
    };
    all.into_iter().zip(1..).map(rule).collect()
});

static ROUTERS: LazyLock<Vec<(Precedence, Router, Vec<usize>)>> = LazyLock::new(|| {
    [Precedence::Priority, Precedence::MostSpecific]
        .map(|precedence| {
            let never = shadowed(precedence, &RULES).iter().map(|shadow| shadow.rule).collect();
            (precedence, Router::compile(precedence, &RULES).expect("the rules are valid"), never)
        })
        .into()
});

static REWRITERS: LazyLock<Vec<(Rewriter, Redirector)>> = LazyLock::new(|| {
    let regex = PathRewrite::Regex { pattern: "/([^/]*)/".into(), substitution: "$1.".into() };
    [PathRewrite::Full("/new".into()), PathRewrite::Prefix("/new".into()), regex]
        .map(|path| {
            let redirect = Redirect { scheme: None, host: None, port: None, path: Some(path.clone()), status: 302 };
            let matched = PathMatch { kind: PathMatchKind::Prefix, value: "/a".into(), case_sensitive: true };
            let rewriter = Rewriter::compile(&path, Some(&matched)).expect("the rewrite is valid");
            (rewriter, Redirector::compile(&redirect, Some(&matched)).expect("the redirect is valid"))
        })
        .into()
});

fuzz_target!(|data: &[u8]| {
    // A line for the method, one for the target, one for the host, the rest `name: value`.
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut text = || lines.next().and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
    let (method, target, host) = (text(), text(), text());
    let (raw, query) = target.split_once('?').unwrap_or((target, ""));
    let fields = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
        })
        .collect();
    let Ok(path) = path::normalize(raw) else { return };
    assert_eq!(path::normalize(&path).as_deref(), Ok(&*path));
    assert!(path == "*" || path.starts_with('/') && !path.contains("//"));
    let decoded = path.replace("%2F", "/").replace("%5C", "/");
    assert!(decoded.split('/').all(|segment| segment != "." && segment != ".."));
    let head = Head { method, host, path: &path, query, fields };
    for (precedence, router, never) in &*ROUTERS {
        let found = router.find(&head);
        let passed = passed_over(*precedence, &RULES, None, &head, &|vpc| vpc.to_string());
        assert_eq!(passed.iter().find(|own| own.failed.is_none()).map(|own| own.rule), found);
        assert!(found.is_none_or(|found| !never.contains(&found)));
    }
    for (rewriter, redirector) in &*REWRITERS {
        if let Ok(new) = rewriter.apply(&path) {
            assert_eq!(path::normalize(&new).as_deref(), Ok(&*new));
        }
        if let Ok(location) = redirector.location(&Target { scheme: "http", host: "h", port: 80, path: &path, query }) {
            assert!(location.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
    assert!(sticky(&[("a", 1), ("b", 2)], data).is_some());
});
