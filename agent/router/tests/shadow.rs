//! Rules that are never taken: what is found, and beside it what is not one.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use std::time::{Duration, Instant};

use brattice_router::{Shadow, shadowed};
use brattice_wire::rules::Precedence;
use common::{matches, rule, rules};

/// Whether the first of two rules shadows the second.
fn covers(first: &str, second: &str) -> bool {
    let shadows = shadowed(Precedence::Priority, &rules(&[first, second]));
    assert!(shadows.is_empty() || shadows == [Shadow { rule: 1, by: 0 }]);
    !shadows.is_empty()
}

#[test]
fn equal_and_broader_rules_shadow() {
    for (wide, narrow, not) in [
        // Nothing, and the same.
        ("", "path=/a", None),
        ("", "", None),
        ("", "path~x h.a q.b grpc", None),
        ("method=GET", "method=GET path=/a", Some("method=get path=/a")),
        ("port=80", "port=80", Some("port=81")),
        ("port=80", "port=80 path=/", Some("path=/")),
        // Paths.
        ("path=/a", "path=/a", Some("path=/a/")),
        ("path=/a", "path=/a method=GET", Some("path^/a")),
        ("path^/a", "path=/a", Some("path=/ab")),
        ("path^/a", "path=/a/", Some("path=/A")),
        ("path^/a/", "path=/a", Some("path=/")),
        ("path^/a", "path^/a/b", Some("path^/ab")),
        ("path^/a", "path^/a", Some("path^^/a")),
        ("path^/a", "path^^/a/", Some("path^^/ab")),
        ("path^/a", "path^^/a/b", Some("path^^/")),
        ("path^^/a", "path^/ab", Some("path^/")),
        ("path^^/a", "path^^/ab", Some("path^^/b")),
        ("path^^/a", "path=/a", Some("path=/")),
        ("path^^/", "path^/", Some("")),
        ("path^/", "path^^/", Some("")),
        ("path^/", "path=/a", Some("path=*")),
        ("path^/", "i:path=/a", Some("path~.*")),
        ("path^/1", "i:path=/1/a", Some("i:path=/a")),
        ("path=/1", "i:path=/1", Some("i:path=/1a")),
        ("path^/1", "i:path^/1", Some("i:path^^/1")),
        ("path^^/1/", "i:path^/1/a", Some("i:path^/1")),
        ("path^^/a", "path^/a", Some("i:path^/a")),
        ("i:path^^/1", "i:path^^/1a", Some("i:path^^/a")),
        ("i:path=/A", "path=/a", Some("path=/b")),
        ("i:path=/A", "i:path=/a", Some("i:path^/a")),
        ("i:path^/A", "path^/a/B", Some("path^/ab")),
        ("path^/a", "path=/a", Some("i:path=/a")),
        ("path^/a", "path~/a/[0-9]+", Some("path~/a[0-9]+")),
        ("path^^/a", "path~/a[0-9]+", Some("path~/[ab]")),
        ("path^^/a", "path~(/a/b)c*", Some("path~(/a/b)?")),
        ("path^^/a", "path~/a(b|c)", Some("path~/a|b")),
        ("path^^/a", "path~/ab*", Some("i:path~/a")),
        ("path~/a|/b", "path=/a", Some("path=/c")),
        ("path~/a|/b", "path~/a|/b", Some("path~/b|/a")),
        ("i:path~/a", "i:path~/a", Some("path~/a")),
        ("i:path~/a", "path=/A", Some("i:path=/b")),
        ("path~/[^a]", "path=/b", Some("i:path=/b")),
        ("path~/a.*", "path~/a.* h.x", Some("path^/a")),
        // Hosts.
        ("host=a.b", "host=a.b path=/", Some("host=b")),
        ("host$b", "host=a.b", Some("host=b")),
        ("host$b", "host=a.b", Some("host=ab")),
        ("host$b", "host$b", Some("host=b")),
        ("host$b", "host$a.b", Some("host$ab")),
        ("host$b", "host$a.b", Some("path=/")),
        ("host$a.b", "host$a.b", Some("host$b")),
        ("host=a.b", "host=a.b", Some("host$a.b")),
        // Header fields.
        ("h.x", "h.x=1", Some("h.y=1")),
        ("h.x", "h.x^1", Some("!h.x^1")),
        ("h.x", "h.x$1", Some("")),
        ("h.x", "h.x#1..2", None),
        ("h.x", "h.x~a", None),
        ("h.x", "h.x*a", None),
        ("h.x=a", "h.x=A", Some("h.x=ab")),
        ("h.x=a", "s:h.x=A", Some("s:h.x^a")),
        ("s:h.x=a", "s:h.x=a", Some("h.x=a")),
        ("h.x^a", "h.x=Ab", Some("h.x=ba")),
        ("h.x^a", "h.x^ab", Some("h.x^b")),
        ("h.x^a", "s:h.x^Ab", Some("h.x$a")),
        ("s:h.x^a", "s:h.x^ab", Some("s:h.x^Ab")),
        ("s:h.x^a", "s:h.x=ab", Some("h.x^ab")),
        ("h.x^ab", "h.x^ab", Some("h.x^a")),
        ("h.x$b", "h.x$ab", Some("h.x$ba")),
        ("h.x$b", "h.x=ab", Some("h.x^b")),
        ("h.x*b", "h.x=abc", Some("h.x=ac")),
        ("h.x*b", "h.x^ab", Some("h.x^a")),
        ("h.x*b", "h.x$ab", Some("h.x$a")),
        ("h.x*b", "h.x*aBc", Some("h.x*a")),
        ("s:h.x*b", "s:h.x*abc", Some("s:h.x*aBc")),
        ("h.x~a+", "s:h.x=aa", Some("s:h.x=ab")),
        ("h.x~a+", "h.x~a+", Some("h.x~a")),
        ("s:h.x~a+", "s:h.x~a+", Some("h.x~a+")),
        ("h.x~a+", "h.x~a+", Some("s:h.x~a+")),
        ("h.x#1..9", "h.x#1..9", Some("h.x#0..9")),
        ("h.x#1..9", "h.x#2..8", Some("h.x#1..10")),
        ("h.x#1..9", "s:h.x=8", Some("s:h.x=9")),
        ("h.x=a h.y=b", "h.y=b h.z h.x=a", Some("h.x=a h.z")),
        // Inverted.
        ("!h.x", "!h.x", Some("h.x")),
        ("!h.x=a", "!h.x=A", Some("!h.x=b")),
        ("!h.x=a", "!h.x^a", Some("!h.x^b")),
        ("!h.x=a", "!h.x", Some("h.x")),
        ("!h.x=a", "s:h.x=b", Some("s:h.x=A")),
        ("!h.x#1..3", "s:h.x=3", Some("s:h.x=2")),
        ("!h.x^a", "!h.x^a", Some("!h.x=a")),
        ("!h.x^a", "!h.x^a", Some("")),
        // Query parameters.
        ("q.a", "q.a=1", Some("q.A=1")),
        ("q.a^x", "q.a^xy", Some("q.a^Xy")),
        ("q.a*x", "q.a=axb", Some("q.a=b")),
        ("q.a q.b", "q.b=1 q.a", Some("q.a")),
        // gRPC.
        ("grpc", "grpc=s", Some("method=POST path=/s/m")),
        ("grpc=s", "grpc=s/m", Some("grpc=t/m")),
        ("grpc=s/m", "grpc=s/m h.x", Some("grpc=s")),
        ("method=POST", "grpc=s/m", Some("grpc=s/m method=GET")),
        ("path^/s", "grpc=s", Some("grpc")),
        ("path=/s/m", "grpc=s/m", Some("grpc=s/n")),
        ("path^^/s/", "grpc=s", Some("grpc=st")),
        ("path~/s/m", "grpc=s/m", Some("grpc=s")),
        // VPCs.
        ("vpc=1,2", "vpc=2", Some("vpc=2,3")),
        ("vpc=1,2", "vpc=2,1", Some("")),
    ] {
        assert!(covers(wide, narrow), "`{wide}` covers `{narrow}`");
        if let Some(not) = not {
            assert!(!covers(wide, not), "`{wide}` does not cover `{not}`");
        }
    }
}

#[test]
fn the_first_that_shadows_is_named() {
    let shadows =
        shadowed(Precedence::Priority, &rules(&["path=/x", "path^^/a", "path^/a", "path~/a.*", "path=/a", "path=/b"]));
    let by_first = |rule| Shadow { rule, by: 1 };
    assert_eq!(shadows, [by_first(2), by_first(3), by_first(4)]);
    let shadows = shadowed(Precedence::Priority, &rules(&["path~/a", "i:path^/a", "path=/a", "path^/a"]));
    assert_eq!(shadows, [Shadow { rule: 2, by: 0 }, Shadow { rule: 3, by: 1 }]);
}

#[test]
fn it_is_the_order_that_counts() {
    let broad_last = [rule("narrow", 2, matches("path=/a")), rule("broad", 1, matches("path^/"))];
    assert_eq!(shadowed(Precedence::Priority, &broad_last), [Shadow { rule: 0, by: 1 }]);
    assert_eq!(shadowed(Precedence::MostSpecific, &broad_last), []);
    let twins = [rule("b", 2, matches("path=/a")), rule("a", 1, matches("path=/a"))];
    assert_eq!(shadowed(Precedence::MostSpecific, &twins), [Shadow { rule: 0, by: 1 }]);
    assert_eq!(shadowed(Precedence::MostSpecific, &[]), []);
}

#[test]
fn regexes_that_are_refused_shadow_nothing() {
    for line in ["path~/(a", "h.x~(a", "!h.x~(a", "q.x~(a"] {
        assert!(!covers(line, line), "{line}");
    }
    assert!(covers("path~/(a)", "path~/(a)"));
}

#[test]
fn two_thousand_rules_are_looked_through_at_once() {
    for line in [
        |n: usize| format!("path^/svc-{n}"),
        |n: usize| format!("path^/a h.x={n}"),
        |n: usize| format!("path^/a q.x~{n}|x"),
        |n: usize| format!("path~/[ab]{n}"),
        |n: usize| format!("host=h{n} i:path^/a/b/c method=GET"),
    ] {
        let rules: Vec<_> = (0..2_000).map(|n| rule("r", u16::try_from(n).unwrap(), matches(&line(n)))).collect();
        let started = Instant::now();
        assert_eq!(shadowed(Precedence::Priority, &rules), [], "{}", line(0));
        assert!(started.elapsed() < Duration::from_secs(5), "{}: {:?}", line(0), started.elapsed());
    }
}
