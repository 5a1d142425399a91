//! What the router promises beyond single conditions, and the shares against their definition.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use brattice_router::{CompileError, RegexError, Router, Shares, Subject, check_regex, limits, sticky};
use brattice_wire::index::VpcIndex;
use brattice_wire::rules::{Match, Precedence, Rule};
use common::{asked, matches, rule, rules};
use proptest::prelude::*;

#[test]
fn lowest_priority_wins_whatever_the_order() {
    let rules = [rule("b", 20, matches("path^/")), rule("a", 10, matches("method=GET"))];
    let router = Router::compile(Precedence::Priority, &rules).unwrap();
    assert_eq!(router.find(&asked("GET", "/x")), Some(1), "priority 10 comes first");
    assert_eq!(router.find(&asked("PUT", "/x")), Some(0));
    assert_eq!(router.find(&asked("PUT", "*")), None, "OPTIONS * has no path");
}

#[test]
fn of_equal_rules_the_first_wins() {
    for precedence in [Precedence::Priority, Precedence::MostSpecific] {
        for line in ["path=/a", "i:path^/a", "path~/a", "h.x=1", "q.x=1", "h.x*1 path^/", "host=h", "host$h method=GET"]
        {
            let rules = [rule("b", 7, matches(line)), rule("a", 7, matches(line))];
            let router = Router::compile(precedence, &rules).unwrap();
            let request = asked("GET", "/a?x=1").header("x", "1").host(if line.contains('$') { "g.h" } else { "h" });
            assert_eq!(router.find(&request), Some(0), "{precedence:?} {line}");
        }
    }
}

#[test]
fn no_rules_no_match() {
    for precedence in [Precedence::Priority, Precedence::MostSpecific] {
        assert_eq!(Router::compile(precedence, &[]).unwrap().find(&asked("GET", "/")), None);
    }
    assert_eq!(Router::default().find(&asked("GET", "/")), None);
}

#[test]
fn refused_regexes_say_where_they_are() {
    let find = |line: &str| Router::compile(Precedence::Priority, &rules(&["path^/", line])).unwrap_err();
    for (line, subject) in [
        ("path~/(a", Subject::Path),
        ("h.x-env~(a", Subject::Header("x-env".into())),
        ("!h.x~(a", Subject::Header("x".into())),
        ("q.v~(a", Subject::Query("v".into())),
    ] {
        let CompileError::Regex { rule: 1, name, file, line: 20, subject: found, error } = find(line) else {
            panic!("{line}");
        };
        assert_eq!((name.as_str(), file.as_str()), ("r20", "rules.yaml"));
        assert_eq!(found, subject, "{line}");
        assert!(matches!(*error, RegexError::Syntax { .. }), "{error}");
    }
    let text = find("path~/(a").to_string();
    assert!(
        text.starts_with("rule r20 (rules.yaml:20), path: the regular expression is not valid at its byte 1: "),
        "{text}"
    );
}

#[test]
fn rules_and_regexes_are_bounded() {
    let many = |count: usize, line: &str| -> Vec<Rule> {
        let matches = matches(line);
        (0..count).map(|_| rule("r", 1, matches.clone())).collect()
    };
    let compile = |rules: &[Rule]| Router::compile(Precedence::Priority, rules);
    assert!(compile(&many(limits::MAX_RULES, "path=/a")).is_ok());
    let error = compile(&many(limits::MAX_RULES + 1, "path=/a")).unwrap_err();
    assert_eq!(error, CompileError::Rules(limits::MAX_RULES + 1));
    for line in ["path~a", "h.x~a", "!h.x~a", "q.x~a"] {
        assert!(compile(&many(limits::MAX_REGEXES, line)).is_ok(), "{line}");
        let error = compile(&many(limits::MAX_REGEXES + 1, line)).unwrap_err();
        assert_eq!(error, CompileError::Regexes(limits::MAX_REGEXES + 1), "{line}");
    }
    // Two in a rule are two.
    let error = compile(&many(limits::MAX_REGEXES / 2 + 1, "path~a q.x~a")).unwrap_err();
    assert_eq!(error, CompileError::Regexes(limits::MAX_REGEXES + 2));
}

#[test]
fn regexes_are_bounded_where_they_are_written() {
    let check = |pattern: &str| check_regex(pattern, true);
    let groups = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    let depth = usize::try_from(limits::MAX_REGEX_DEPTH).unwrap();
    assert_eq!(check(&"a".repeat(limits::MAX_REGEX)), Ok(()));
    assert_eq!(check(&"a".repeat(limits::MAX_REGEX + 1)), Err(RegexError::Long(limits::MAX_REGEX + 1)));
    assert_eq!(check(&groups(depth)), Ok(()));
    assert!(matches!(check(&groups(depth + 1)), Err(RegexError::Syntax { .. })));
    assert_eq!(check("(a{100}){100}"), Err(RegexError::Large));
    assert!(matches!(check("a("), Err(RegexError::Syntax { at: 1, .. })));
}

#[test]
fn shares_come_in_the_order_of_tijdeman() {
    for (weights, order) in [
        (&[1, 3][..], &[1, 0, 1, 1][..]),
        (&[1, 1, 5], &[2, 2, 0, 2, 1, 2, 2]),
        (&[1, 1, 1, 7], &[3, 3, 0, 3, 3, 3, 1, 2, 3, 3]),
    ] {
        let mut shares = Shares::new(weights);
        let chosen: Vec<usize> = order.iter().filter_map(|_| shares.choose()).collect();
        assert_eq!(chosen, order, "{weights:?}");
    }
}

#[test]
fn conditions_are_all_asked() {
    let all = "method=POST host=h path^/p.S port=80 vpc=0,7 grpc=p.S/M h.a=1 h.b^2 !h.c q.d=4 q.e";
    let router = Router::compile(Precedence::Priority, &rules(&[all])).unwrap();
    let request =
        asked("POST", "/p.S/M?d=4&e").header("content-type", "application/grpc").header("a", "1").header("b", "2x");
    assert_eq!(router.find(&request), Some(0));
    let without = |name: &str| {
        let headers = request.headers.iter().filter(|(own, _)| own != name).cloned().collect();
        common::Asked { headers, ..request.clone() }
    };
    for (what, request) in [
        ("method", common::Asked { method: "PUT".into(), ..request.clone() }),
        ("host", request.clone().host("g")),
        ("path", common::Asked { path: "/p.S/N".into(), ..request.clone() }),
        ("port", common::Asked { port: 81, ..request.clone() }),
        ("vpc", common::Asked { vpc: VpcIndex::new(1), ..request.clone() }),
        ("content-type", without("content-type")),
        ("a", without("a")),
        ("b", without("b")),
        ("c", request.clone().header("c", "")),
        ("d", common::Asked { query: "e".into(), ..request.clone() }),
        ("e", common::Asked { query: "d=4".into(), ..request.clone() }),
    ] {
        assert_eq!(router.find(&request), None, "{what}");
    }
    assert_eq!(router.find(&common::Asked { vpc: VpcIndex::new(7), ..request.clone() }), Some(0));
}

#[test]
fn vpcs_may_come_in_any_order() {
    let router = Router::compile(Precedence::Priority, &rules(&["vpc=9,1,5,3"])).unwrap();
    for vpc in 0..11 {
        let request = common::Asked { vpc: VpcIndex::new(vpc), ..asked("GET", "/") };
        assert_eq!(router.find(&request).is_some(), [1, 3, 5, 9].contains(&vpc), "{vpc}");
    }
    let none = [rule("none", 1, Match { source_vpcs: Some(Vec::new()), ..Match::default() })];
    assert_eq!(Router::compile(Precedence::Priority, &none).unwrap().find(&asked("GET", "/")), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn shares_stay_within_one(weights in prop::collection::vec(prop_oneof![3 => 1u16..=999, 1 => Just(0u16), 1 => 1u16..=3], 1..=10)) {
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let mut shares = Shares::new(&weights);
        let mut chosen = vec![0i64; weights.len()];
        for n in 1..=2_000i64 {
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

    #[test]
    fn raising_a_weight_moves_keys_only_towards_it(
        weights in prop::collection::vec(0u16..=999, 1..=10), raised in any::<prop::sample::Index>(), by in 1u16..=999,
    ) {
        let groups: Vec<(String, u16)> = weights.iter().enumerate().map(|(n, weight)| (format!("tg-{n}"), *weight)).collect();
        let raised = raised.index(groups.len());
        let mut more = groups.clone();
        more[raised].1 = (more[raised].1 + by).min(999);
        let mut turned = groups.clone();
        turned.reverse();
        for key in 0..200u32 {
            let key = key.to_string();
            let (before, after) = (sticky(&groups, key.as_bytes()), sticky(&more, key.as_bytes()));
            prop_assert!(before == after || after == Some(raised), "{} {:?} {:?}", key, before, after);
            prop_assert_eq!(sticky(&turned, key.as_bytes()).map(|index| groups.len() - 1 - index), before);
            prop_assert!(before.is_none_or(|index| weights[index] > 0));
            prop_assert_eq!(before.is_none(), weights.iter().all(|weight| *weight == 0));
        }
    }
}

#[test]
fn no_weight_no_choice() {
    assert_eq!(Shares::new(&[0, 0]).choose(), None);
    assert_eq!(Shares::new(&[]).choose(), None);
    assert_eq!(Shares::new(&[0, 7]).choose(), Some(1));
    assert_eq!(sticky::<&str>(&[], b"k"), None);
    assert_eq!(sticky(&[("a", 0), ("b", 0)], b"k"), None);
    assert_eq!(sticky(&[("a", 0), ("b", 7)], b"k"), Some(1));
}

#[test]
fn of_groups_that_are_the_same_the_first_is_chosen() {
    assert_eq!(sticky(&[("a", 1), ("a", 1), ("a", 1)], b"k"), Some(0));
}

#[test]
fn keys_are_spread_by_weight() {
    for weights in [[1, 1, 1], [1, 2, 7], [999, 1, 0], [90, 10, 0]] {
        let groups = [("tg-0a", weights[0]), ("tg-0b", weights[1]), ("tg-1a", weights[2])];
        let total: u16 = weights.iter().sum();
        let count = 40_000;
        let mut chosen = [0_f64; 3];
        for key in 0..count {
            chosen[sticky(&groups, format!("10.0.{}.{}", key / 256, key % 256).as_bytes()).unwrap()] += 1.0;
        }
        for (weight, chosen) in weights.iter().zip(chosen) {
            let share = f64::from(*weight) / f64::from(total);
            // Six standard deviations of a fair draw.
            let wide = 6.0 * (f64::from(count) * share * (1.0 - share)).sqrt();
            let wanted = f64::from(count) * share;
            assert!((chosen - wanted).abs() <= wide, "{weights:?}: {chosen} of {count}, wanted {wanted}");
        }
    }
}

#[test]
fn a_choice_stays_the_same_between_versions() {
    // Callers would move if the hash changed; of three nodes, each must also choose alike.
    let groups = [("tg-0123456789abcdef0", 50), ("tg-0123456789abcdef1", 50)];
    let chosen: Vec<usize> = (0..16).map(|key: u32| sticky(&groups, &key.to_be_bytes()).unwrap()).collect();
    assert_eq!(chosen, CHOSEN);
    // Where an id ends and a key begins counts.
    let spread = |a: &str, b: &str| {
        (0..64).filter(|n| sticky(&[(a, 1), ("z", 1)], format!("{b}{n}").as_bytes()) == Some(0)).collect::<Vec<_>>()
    };
    assert_ne!(spread("ab", "c"), spread("a", "bc"));
}

const CHOSEN: [usize; 16] = [0, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1];
