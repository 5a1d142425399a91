//! The router against one that tries every rule in order, over random rules and requests; and what explanations and
//! shadows say against the same.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod naive;

use brattice_router::{Count, Router, check_regex, mismatch, passed_over, shadowed};
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
        let taken = naive::find(precedence, &rules, &asked);
        let passed = passed_over(precedence, &rules, taken, &asked, &|vpc| vpc.to_string());
        for own in &passed {
            prop_assert!(own.failed.is_some());
            prop_assert!(!naive::matches(&rules[own.rule].matches, &asked));
        }
        if let Some(taken) = taken {
            prop_assert_eq!(mismatch(&rules[taken], &asked, &|vpc| vpc.to_string()), None);
        } else {
            prop_assert_eq!(passed.len(), rules.len());
        }
        let tried: Vec<usize> = passed.iter().map(|own| own.rule).chain(taken).collect();
        for pair in tried.windows(2) {
            let (earlier, later) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
            prop_assert_eq!(naive::before(precedence, &rules[later], &rules[earlier]), pair[0] == later);
        }
        // Control: of a rule behind the right one, the right one is said to fit.
        let wrong = passed_over(precedence, &rules, None, &asked, &|vpc| vpc.to_string());
        prop_assert_eq!(wrong.iter().find(|own| own.failed.is_none()).map(|own| own.rule), taken);
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
