//! The crate against the language's definition, and explanations against decisions, on random policies and requests.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod naive;
mod remedy;
mod remedy_keys;

use brattice_iam::{Attachment, Change, Policy, Scratch};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use common::{Line, Policies, Stands, Texts};

/// Cases of each property; more by `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = config.cases.max(10_000);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2_000, ..config }
}

fn check(texts: &Texts, line: &Line, seen: &mut [u32; 5]) -> Result<(), TestCaseError> {
    let (policies, findings) = texts.compile();
    let errors: Vec<&String> = findings.iter().filter(|finding| !finding.contains("warning: ")).collect();
    prop_assert!(errors.is_empty(), "{errors:?}");
    let expected = naive::decide(texts, line);
    let mut scratch = Scratch::default();
    line.with(|request| {
        policies.with(|chain| {
            let decision = chain.decide(request, &mut scratch);
            let found = decision.denied_reason().map_or(Ok(()), Err);
            prop_assert_eq!(found, expected);
            seen[match expected {
                Ok(()) => 0,
                Err("Identity") => 1,
                Err("Network") => 2,
                Err(_) => 3,
            }] += 1;
            seen[4] += u32::from(decision.audited.is_some());
            let explanation = chain.explain(request);
            prop_assert_eq!(&explanation.decision, &decision, "explained otherwise");
            prop_assert_eq!(explanation.remedy.is_empty(), decision.is_allowed());
            // The remedy is one. That of a missing network is not whole where a policy asks for the network's ARN.
            let mut texts = texts.apply(&explanation.remedy);
            if explanation.remedy.contains(&Change::Associate) {
                let more = texts.compile().0.with(|chain| chain.explain(request).remedy);
                texts = texts.apply(&more);
            }
            let (remedied, findings) = texts.compile();
            let errors: Vec<&String> = findings.iter().filter(|finding| !finding.contains("warning: ")).collect();
            prop_assert!(errors.is_empty(), "{errors:?} after {:?}", explanation.remedy);
            remedied.with(|chain| {
                let decision = chain.decide(request, &mut Scratch::default());
                prop_assert!(decision.is_allowed(), "{decision:?} after {:#?}", explanation.remedy);
                Ok(())
            })
        })
    })
}

/// The texts with each policy read and written again.
fn rewritten(texts: &Texts) -> Texts {
    let mut texts = texts.clone();
    let attachment = texts.service_attachment();
    let again = |stands: &mut Stands, attachment| {
        if let Stands::Policy(text, _) = stands {
            *text = Policy::from_json(text, "p", attachment).policy.unwrap().json();
        }
    };
    again(&mut texts.identity, Attachment::Role);
    texts.networks.iter_mut().for_each(|stands| again(stands, Attachment::ServiceNetwork));
    again(&mut texts.service, attachment);
    texts
}

#[test]
fn a_policy_written_again_decides_the_same() {
    let config = ProptestConfig { cases: 500, ..config() };
    TestRunner::new(config)
        .run(&(generate::texts(), generate::line()), |(texts, line)| {
            let (policies, again) = (texts.compile().0, rewritten(&texts).compile().0);
            line.with(|request| {
                let decide =
                    |policies: &Policies| policies.with(|chain| chain.decide(request, &mut Scratch::default()));
                prop_assert_eq!(decide(&policies), decide(&again));
                Ok(())
            })
        })
        .unwrap();
}

#[test]
fn decisions_follow_the_definition_and_explanations_the_decisions() {
    let mut seen = [0; 5];
    let seen_by_test = std::cell::RefCell::new(&mut seen);
    TestRunner::new(config())
        .run(&(generate::texts(), generate::line()), |(texts, line)| {
            check(&texts, &line, &mut seen_by_test.borrow_mut())
        })
        .unwrap();
    // Random policies that all do the same would show nothing.
    println!("allowed, denied by identity, network, service; audited: {seen:?}");
    assert!(seen.iter().all(|count| *count > 200), "{seen:?}");
}
