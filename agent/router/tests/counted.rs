//! What a look-up costs, in comparisons: the same numbers on every machine.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use brattice_router::{Count, Router, limits::MAX_REGEXES};
use brattice_wire::rules::{Precedence, Rule};
use common::{Asked, asked, matches, rule};

/// How the n-th rule is told from the others, and a request that only it matches.
type Shape = (&'static str, fn(usize) -> String, fn(usize) -> Asked);

fn compile(precedence: Precedence, line: fn(usize) -> String, count: usize) -> Router {
    let rules: Vec<Rule> =
        (0..count).map(|n| rule(&format!("r{n}"), u16::try_from(n).unwrap(), matches(&line(n)))).collect();
    Router::compile(precedence, &rules).unwrap()
}

/// Comparisons of the worst of some requests.
fn worst(router: &Router, request: fn(usize) -> Asked, count: usize) -> u64 {
    let step = (count / 500).max(1);
    let places = (0..count).step_by(step).chain([count - 1]);
    let found = places.map(|n| {
        let mut tally = Count::default();
        let request = request(n);
        assert_eq!(router.find_counted(&request, &mut tally), Some(n), "{request:?}");
        assert_eq!(router.find(&request), Some(n));
        tally.comparisons
    });
    found.max().unwrap()
}

const SHAPES: [Shape; 13] = [
    ("exact path", |n| format!("path=/svc-{n}/v1"), |n| asked("GET", &format!("/svc-{n}/v1"))),
    ("exact path in any case", |n| format!("i:path=/svc-{n}/v1"), |n| asked("GET", &format!("/SVC-{n}/v1"))),
    ("prefix", |n| format!("path^/svc-{n}"), |n| asked("GET", &format!("/svc-{n}/v1/orders"))),
    (
        "prefixes that differ early",
        |n| format!("path^/{:x}", spread(n)),
        |n| asked("GET", &format!("/{:x}/a", spread(n))),
    ),
    ("prefix by character", |n| format!("path^^/svc-{n}."), |n| asked("GET", &format!("/svc-{n}.html"))),
    // Of as many as a listener may have; the rest are what they match.
    (
        "regular expressions that begin differently",
        |n| if n < MAX_REGEXES { format!("path~/svc-{n}/[0-9]+") } else { format!("path=/svc-{n}/7") },
        |n| asked("GET", &format!("/svc-{n}/7")),
    ),
    ("exact host", |n| format!("host=s{n}.internal"), |n| asked("GET", "/").host(&format!("s{n}.internal"))),
    ("host suffix", |n| format!("host$s{n}.internal"), |n| asked("GET", "/").host(&format!("a.b.s{n}.internal"))),
    ("method", |n| format!("method=M{n}"), |n| asked(&format!("M{n}"), "/")),
    (
        "gRPC method",
        |n| format!("grpc=p.S/M{n}"),
        |n| asked("POST", &format!("/p.S/M{n}")).header("content-type", "application/grpc"),
    ),
    (
        "exact header",
        |n| format!("path^/a h.x-tenant=t{n}"),
        |n| asked("GET", "/a").header("x-tenant", &format!("T{n}")),
    ),
    (
        "beginning of a header",
        |n| format!("path^/a h.x-tenant^t{n}."),
        |n| asked("GET", "/a").header("x-tenant", &format!("T{n}.x")),
    ),
    ("exact query parameter", |n| format!("path^/a q.tenant=t{n}"), |n| asked("GET", &format!("/a?tenant=t{n}"))),
];

fn spread(n: usize) -> u32 {
    u32::try_from(n).unwrap().wrapping_mul(0x9e37_79b1)
}

#[test]
fn ten_thousand_rules_cost_at_most_four_times_ten() {
    for (name, line, request) in SHAPES {
        for precedence in [Precedence::Priority, Precedence::MostSpecific] {
            let costs = [10, 100, 1_000, 10_000].map(|count| worst(&compile(precedence, line, count), request, count));
            println!("{name}, {precedence:?}: {costs:?}");
            assert!(costs[3] <= 4 * costs[0], "{name}, {precedence:?}: {costs:?}");
        }
    }
}

#[test]
fn without_a_match_it_costs_no_more() {
    for (name, line, _) in SHAPES {
        let cost = |count: usize| {
            let mut tally = Count::default();
            let request = asked("GET", "/svc-/x?tenant=t").header("x-tenant", "t").host("a.b.c.internal");
            assert_eq!(compile(Precedence::Priority, line, count).find_counted(&request, &mut tally), None, "{name}");
            tally.comparisons
        };
        let (few, many) = (cost(10), cost(10_000));
        assert!(many <= 4 * few, "{name}: {few} and {many}");
    }
}

#[test]
fn what_no_table_holds_is_linear_in_its_own_bucket_alone() {
    // 100 regular expressions under one path, 100 under another.
    let line = |n: usize| format!("path^/{} h.x~{n}|x{n}", if n < 100 { "a" } else { "b" });
    let router = compile(Precedence::Priority, line, 200);
    let cost = |path: &str, value: &str, wanted| {
        let mut tally = Count::default();
        assert_eq!(router.find_counted(&asked("GET", path).header("x", value), &mut tally), wanted);
        tally.comparisons
    };
    // A rule and a condition each; a node or two of the tree.
    let first = cost("/a", "0", Some(0));
    assert!(first <= 6, "{first}");
    let last = cost("/a", "99", Some(99));
    assert!((200..=206).contains(&last), "{last}");
    let other = cost("/b", "100", Some(100));
    assert!(other <= 6, "{other}");
    // The first that matches ends it.
    assert_eq!(cost("/a", "x0", Some(0)), first);
}

#[test]
fn a_better_rule_ends_the_search() {
    // Once the first rule is found, no table and no rule after it is asked.
    let line = |n: usize| if n == 0 { "path^^/".to_owned() } else { format!("path^/a h.h{n}=1 h.i{n}*2") };
    let router = compile(Precedence::Priority, line, 100);
    let mut tally = Count::default();
    assert_eq!(router.find_counted(&asked("GET", "/a"), &mut tally), Some(0));
    assert!(tally.comparisons <= 6, "{tally:?}");
    // And a table asks only where something better may be.
    let line = |n: usize| if n == 50 { "path^/a".to_owned() } else { format!("path^/a h.h{n}=1") };
    let router = compile(Precedence::Priority, line, 100);
    let mut tally = Count::default();
    assert_eq!(router.find_counted(&asked("GET", "/a"), &mut tally), Some(50));
    assert!((50..60).contains(&tally.comparisons), "{tally:?}");
}

#[test]
fn every_step_of_a_walk_counts() {
    let path = |n: usize| "/a".repeat(n + 1);
    let rules: Vec<Rule> = (0..20)
        .map(|n| rule(&format!("r{n}"), u16::try_from(n).unwrap(), matches(&format!("path={}", path(n)))))
        .collect();
    let router = Router::compile(Precedence::Priority, &rules).unwrap();
    let cost = |n: usize| {
        let mut tally = Count::default();
        assert_eq!(router.find_counted(&asked("GET", &path(n)), &mut tally), Some(n));
        tally.comparisons
    };
    assert_eq!((1..20).map(|n| cost(n) - cost(n - 1)).collect::<Vec<_>>(), [1; 19]);
}
