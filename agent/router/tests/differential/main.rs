//! The router against one that tries every rule in order, over random rules and requests; and what explanations and
//! shadows say against the same.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod naive;

use brattice_router::{Count, Router, check_regex, explain, shadowed};
use brattice_wire::rules::Precedence;
use proptest::{collection::vec, prelude::*, sample::select};

fn precedence() -> impl Strategy<Value = Precedence> {
    select(vec![Precedence::Priority, Precedence::MostSpecific])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn router_equals_naive(precedence in precedence(), rules in generate::rules(), requests in vec(generate::asked(), 1..16)) {
        let router = Router::compile(precedence, &rules).unwrap();
        for asked in requests {
            let wanted = naive::find(precedence, &rules, &asked);
            prop_assert_eq!(router.find(&asked), wanted, "{:?}", asked);
            prop_assert_eq!(router.find_counted(&asked, &mut Count::default()), wanted);
        }
    }

    #[test]
    fn explanations_agree(precedence in precedence(), rules in generate::rules(), asked in generate::asked()) {
        let verdicts = explain(precedence, &rules, &asked);
        let (last, others) = match verdicts.split_last() {
            Some((last, others)) if last.failed.is_none() => (Some(last.rule), others),
            _ => (None, &verdicts[..]),
        };
        prop_assert_eq!(last, naive::find(precedence, &rules, &asked));
        for verdict in others {
            prop_assert!(verdict.failed.is_some());
            prop_assert!(!naive::matches(&rules[verdict.rule].matches, &asked));
        }
        prop_assert!(last.is_some() || verdicts.len() == rules.len());
        for pair in verdicts.windows(2) {
            let [a, b] = [pair[0].rule, pair[1].rule];
            let (earlier, later) = (a.min(b), a.max(b));
            prop_assert_eq!(naive::before(precedence, &rules[later], &rules[earlier]), a == later);
        }
    }

    #[test]
    fn shadows_are_sound(precedence in precedence(), rules in generate::rules(), requests in vec(generate::asked(), 1..16)) {
        let router = Router::compile(precedence, &rules).unwrap();
        for shadow in shadowed(precedence, &rules) {
            let (rule, by) = (&rules[shadow.rule], &rules[shadow.by]);
            prop_assert!(shadow.rule != shadow.by);
            let (earlier, later) = (shadow.rule.min(shadow.by), shadow.rule.max(shadow.by));
            prop_assert_eq!(naive::before(precedence, &rules[later], &rules[earlier]), shadow.by == later);
            for asked in &requests {
                prop_assert!(router.find(asked) != Some(shadow.rule));
                prop_assert!(!naive::matches(&rule.matches, asked) || naive::matches(&by.matches, asked),
                    "{:?} by {:?}: {:?}", rule, by, asked);
            }
        }
    }

    #[test]
    fn a_rule_behind_its_equal_is_shadowed(precedence in precedence(), rules in generate::rules(), twin in any::<prop::sample::Index>()) {
        prop_assume!(!rules.is_empty());
        let mut rules = rules;
        let twin = twin.index(rules.len());
        rules.push(rules[twin].clone());
        let shadows = shadowed(precedence, &rules);
        let last = rules.len() - 1;
        let covered = |rule: usize| shadows.iter().any(|shadow| shadow.rule == rule);
        prop_assert!(covered(last), "{:?}", rules[twin]);
    }
}

#[test]
fn the_generated_regexes_are_accepted() {
    for (pattern, _) in generate::REGEXES {
        assert_eq!(check_regex(pattern, true).is_ok(), !pattern.contains('#'), "{pattern}");
    }
}
