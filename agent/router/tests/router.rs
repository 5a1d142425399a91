//! The compiled router against a scan of the rules, and the shares against their definition.

use brattice_router::{Router, Shares};
use brattice_wire::snapshot::{Action, Match, Origin, PathMatch, PathMatchKind, Rule};
use proptest::prelude::*;

fn rule(priority: u16, method: Option<&str>, host: Option<&str>, path: Option<PathMatch>) -> Rule {
    Rule {
        name: format!("r{priority}"),
        id: format!("rule-{priority}"),
        priority,
        matches: Match { method: method.map(Into::into), path, host: host.map(Into::into) },
        action: Action::FixedResponse { status: 404 },
        origin: Origin::default(),
    }
}

fn path(kind: PathMatchKind, value: &str, case_sensitive: bool) -> PathMatch {
    PathMatch { kind, value: value.into(), case_sensitive }
}

/// What the documentation says, word by word.
fn meets(condition: &PathMatch, path: &str) -> bool {
    let (value, path) = if condition.case_sensitive {
        (condition.value.clone(), path.to_owned())
    } else {
        (condition.value.to_ascii_lowercase(), path.to_ascii_lowercase())
    };
    match condition.kind {
        PathMatchKind::Exact => path == value,
        PathMatchKind::Prefix => {
            let value = value.strip_suffix('/').unwrap_or(&value);
            path == value && !value.is_empty() || path.starts_with(&format!("{value}/"))
        }
    }
}

fn scan(rules: &[Rule], method: &str, host: &str, path: &str) -> Option<usize> {
    rules.iter().position(|rule| {
        rule.matches.method.as_deref().is_none_or(|wanted| wanted == method)
            && rule.matches.host.as_deref().is_none_or(|wanted| wanted == host)
            && rule.matches.path.as_ref().is_none_or(|wanted| meets(wanted, path))
    })
}

#[test]
fn lowest_priority_wins_whatever_the_order() {
    let rules = [rule(20, None, None, Some(path(PathMatchKind::Prefix, "/", true))), rule(10, Some("GET"), None, None)];
    let router = Router::compile(&rules);
    assert_eq!(router.find("GET", "h", "/x"), Some(1), "priority 10 comes first");
    assert_eq!(router.find("PUT", "h", "/x"), Some(0));
    assert_eq!(router.find("PUT", "h", "*"), None, "OPTIONS * has no path");
}

#[test]
fn prefixes_end_at_segments() {
    let rules = [rule(1, None, None, Some(path(PathMatchKind::Prefix, "/a/", true)))];
    let router = Router::compile(&rules);
    for (path, hit) in
        [("/a", true), ("/a/", true), ("/a/b", true), ("/ab", false), ("/A", false), ("/", false), ("/b/a", false)]
    {
        assert_eq!(router.find("GET", "h", path).is_some(), hit, "{path}");
    }
}

#[test]
fn case_is_ignored_only_where_asked() {
    let rules = [
        rule(1, None, None, Some(path(PathMatchKind::Exact, "/Mixed", true))),
        rule(2, None, None, Some(path(PathMatchKind::Exact, "/mIXED", false))),
        rule(3, None, None, Some(path(PathMatchKind::Prefix, "/API", false))),
    ];
    let router = Router::compile(&rules);
    assert_eq!(router.find("GET", "h", "/Mixed"), Some(0));
    assert_eq!(router.find("GET", "h", "/MIXED"), Some(1));
    assert_eq!(router.find("GET", "h", "/MIXEDd"), None);
    assert_eq!(router.find("GET", "h", "/api/V1"), Some(2));
    assert_eq!(router.find("GET", "h", "/apis"), None);
}

#[test]
fn methods_and_hosts_are_exact() {
    let rules = [rule(1, Some("PURGE"), Some("a.example"), None), rule(2, Some("get"), None, None)];
    let router = Router::compile(&rules);
    assert_eq!(router.find("PURGE", "a.example", "/"), Some(0));
    assert_eq!(router.find("PURGE", "b.example", "/"), None);
    assert_eq!(router.find("GET", "a.example", "/"), None, "methods are case-sensitive");
    assert_eq!(router.find("get", "a.example", "/"), Some(1));
}

#[test]
fn cost_does_not_grow_with_rules() {
    let many: Vec<Rule> = (1..=2_000)
        .map(|n| rule(n, Some("GET"), None, Some(path(PathMatchKind::Prefix, &format!("/svc-{n}/v1"), true))))
        .collect();
    let time = |router: &Router, path: &str| {
        let started = std::time::Instant::now();
        for _ in 0..20_000 {
            assert!(router.find("GET", "h", std::hint::black_box(path)).is_some());
        }
        started.elapsed()
    };
    let (few, many) = (Router::compile(&many[..10]), Router::compile(&many));
    let best = |router: &Router, path: &str| (0..5).map(|_| time(router, path)).min().unwrap();
    let (small, large) = (best(&few, "/svc-9/v1/x"), best(&many, "/svc-1999/v1/x"));
    assert!(large < small * 10, "10 rules: {small:?}, 2,000 rules: {large:?}");
}

fn condition() -> impl Strategy<Value = Option<PathMatch>> {
    let value = prop::collection::vec(prop::sample::select(vec!["/", "a", "b", "A", "/a", "//", "é"]), 0..5)
        .prop_map(|parts| format!("/{}", parts.concat()));
    prop::option::weighted(
        0.8,
        (value, any::<bool>(), any::<bool>()).prop_map(|(value, exact, sensitive)| {
            path(if exact { PathMatchKind::Exact } else { PathMatchKind::Prefix }, &value, sensitive)
        }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn router_equals_scan(
        conditions in prop::collection::vec(
            (condition(), prop::option::of(prop::sample::select(vec!["GET", "get", "PUT"])),
             prop::option::of(prop::sample::select(vec!["a", "b"]))), 0..24),
        requests in prop::collection::vec(
            (prop::collection::vec(prop::sample::select(vec!["/", "a", "b", "A", "B", "/a", "/b", "É"]), 0..7),
             prop::sample::select(vec!["GET", "get", "PUT", "POST"]), prop::sample::select(vec!["a", "b", "c"])), 1..12),
    ) {
        let rules: Vec<Rule> = conditions
            .into_iter()
            .enumerate()
            .map(|(n, (path, method, host))| rule(u16::try_from(n).unwrap() + 1, method, host, path))
            .collect();
        let router = Router::compile(&rules);
        for (parts, method, host) in requests {
            let path = format!("/{}", parts.concat());
            prop_assert_eq!(router.find(method, host, &path), scan(&rules, method, host, &path), "{} {} {}", method, host, path);
        }
    }

    #[test]
    fn shares_stay_within_one(weights in prop::collection::vec(prop_oneof![3 => 1u16..=999, 1 => Just(0u16), 1 => 1u16..=3], 1..=10)) {
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let mut shares = Shares::new(&weights);
        let mut chosen = vec![0i64; weights.len()];
        for n in 1..=5_000i64 {
            match shares.choose() {
                None => prop_assert_eq!(total, 0),
                Some(index) => chosen[index] += 1,
            }
            if total > 0 {
                for (weight, chosen) in weights.iter().zip(&chosen) {
                    let difference = chosen * total - n * i64::from(*weight);
                    prop_assert!(difference.abs() <= total, "after {} choices of {:?}: {:?}", n, weights, chosen);
                    prop_assert!(*weight > 0 || *chosen == 0);
                }
            }
        }
    }
}

#[test]
fn no_weight_no_choice() {
    assert_eq!(Shares::new(&[0, 0]).choose(), None);
    assert_eq!(Shares::new(&[]).choose(), None);
    assert_eq!(Shares::new(&[0, 7]).choose(), Some(1));
}
