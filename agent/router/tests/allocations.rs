//! A match costs no allocation. Tests that count, alone in their process.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use brattice_allocations::{Counting, counted};
use brattice_router::{Router, path::normalize, rewrite::Rewriter, sticky};
use brattice_wire::rules::{PathRewrite, Precedence};
use common::{asked, rules};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn matching_allocates_nothing() {
    let rules = rules(&[
        "host=other path=/a",
        "host$example method=PUT i:path^/A",
        "path^/a s:h.x=1 h.y^2 h.z$3",
        "path^/a h.list*never",
        "path^/a h.list~never.* !h.list",
        "i:path^/A/B q.a␣b=never",
        "path~/a/b/[0-9]+/.*x q.v~[0-9]{2,} h.x~(a|b)+c",
        "grpc=p.S/M vpc=1,2 port=80",
        "path^/ h.list~.*,␣two,.* h.list*TWO q.a␣b*c␣d q.n#1..9 h.list$three !h.none~x",
    ]);
    let requests = [
        asked("GET", "/a/b/12/yx?v=77&a+b=c%20d&n=8")
            .host("a.b.example")
            .header("x", "abac")
            .header("list", "one")
            .header("list", "two")
            .header("list", "three"),
        asked("POST", "/p.S/M").header("content-type", "application/grpc"),
        asked("PUT", "/A/nothing").host("a.b.example").header("list", "1").header("list", "2"),
    ];
    for precedence in [Precedence::Priority, Precedence::MostSpecific] {
        let router = Router::compile(precedence, &rules).unwrap();
        let found: Vec<Option<usize>> = requests.iter().map(|asked| router.find(asked)).collect();
        assert!(found[0].is_some() && found[2].is_some(), "{found:?}");
        let count = counted(|| {
            for _ in 0..100 {
                for (asked, found) in requests.iter().zip(&found) {
                    assert_eq!(router.find(asked), *found);
                }
            }
        });
        assert_eq!(count, 0, "{precedence:?}");
    }
}

#[test]
fn normal_paths_and_choices_allocate_nothing() {
    let groups = [("tg-0123456789abcdef0", 90), ("tg-0123456789abcdef1", 10)];
    let count = counted(|| {
        assert_eq!(normalize("/a/b%20c/").as_deref(), Ok("/a/b%20c/"));
        assert!(sticky(&groups, b"10.0.0.1").is_some());
    });
    assert_eq!(count, 0);
    // What is not normal costs one.
    assert_eq!(counted(|| drop(normalize("/a/../b/%41/%c3%a9//x"))), 1);
    let full = Rewriter::compile(&PathRewrite::Full("/new".into()), None).unwrap();
    assert_eq!(counted(|| drop(full.apply("/old"))), 0);
}

#[test]
fn room_for_long_lists_is_given_back() {
    // A value of more than is kept is put together anew each time; the next request finds the small room again.
    let router = Router::compile(Precedence::Priority, &rules(&["h.x*b"])).unwrap();
    let long = "a".repeat(40_000);
    let (large, small) =
        (asked("GET", "/").header("x", &long).header("x", &long), asked("GET", "/").header("x", "a").header("x", "b"));
    for asked in [&large, &small, &large, &small] {
        router.find(asked);
    }
    assert!(counted(|| assert_eq!(router.find(&large), None)) > 0);
    router.find(&small);
    assert_eq!(counted(|| assert_eq!(router.find(&small), Some(0))), 0);
}

#[test]
fn the_count_counts() {
    assert!(counted(|| drop(std::hint::black_box(String::from("x")))) > 0);
}
