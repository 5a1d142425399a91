//! A remedy allows the call that it is for, and no other call that was denied: not of another caller, with another
//! method or another path.

use brattice_iam::{Change, Decision, Scratch};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::common::{Line, Policies, Texts};
use crate::generate::{self, CALLERS};

/// With a caller of the table that has an attested identity of its own, as every workload does.
fn by(line: &Line, number: usize) -> Line {
    let caller = Line::parse(&format!("GET / {}", CALLERS[number]));
    let attested =
        caller.session.clone().unwrap_or_else(|| format!("arn:aws:vpc-lattice:local:1:workload/v/w{number}"));
    Line {
        kind: caller.kind,
        name: caller.name,
        session: caller.session,
        provider: caller.provider,
        account: caller.account,
        attested: Some(attested),
        ..line.clone()
    }
}

fn decide(policies: &Policies, line: &Line) -> Decision {
    line.with(|request| policies.with(|chain| chain.decide(request, &mut Scratch::default())))
}

fn check(texts: &Texts, line: &Line, caller: usize, seen: &mut [u32; 4]) -> Result<(), TestCaseError> {
    let line = by(line, caller);
    let policies = texts.compile().0;
    if decide(&policies, &line).is_allowed() {
        return Ok(());
    }
    let remedy = line.with(|request| policies.with(|chain| chain.explain(request).remedy));
    // What another network would ask for is not known before.
    if remedy.contains(&Change::Associate) {
        return Ok(());
    }
    let remedied = texts.apply(&remedy).compile().0;
    prop_assert!(decide(&remedied, &line).is_allowed(), "{remedy:#?}");
    seen[0] += 1;
    seen[1] += u32::from(remedy.iter().any(|change| matches!(change, Change::Replace { .. })));
    let methods = [line.method.as_deref(), Some("GET"), Some("POST"), Some("PATCH"), None];
    let paths = [line.path.as_str(), "/a", "/a/b", "/admin", "/red/x", "/other"];
    for other in 0..CALLERS.len() {
        for method in methods {
            for path in paths {
                let mut other = by(&line, other);
                other.method = method.map(str::to_owned);
                other.path = if method.is_some() { path.to_owned() } else { String::new() };
                let same = other.attested == line.attested && other.method == line.method && other.path == line.path;
                if same || decide(&policies, &other).is_allowed() {
                    continue;
                }
                seen[2] += 1;
                seen[3] += u32::from(other.attested == line.attested);
                prop_assert!(!decide(&remedied, &other).is_allowed(), "{other:?} passes as well after {remedy:#?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_remedy_is_for_one_call_alone() {
    let mut seen = [0; 4];
    let by_test = std::cell::RefCell::new(&mut seen);
    let config = ProptestConfig { cases: super::config().cases / 10, ..super::config() };
    TestRunner::new(config)
        .run(&(generate::texts(), generate::line(), 0..CALLERS.len()), |(texts, line, caller)| {
            check(&texts, &line, caller, &mut by_test.borrow_mut())
        })
        .unwrap();
    // Else nothing was shown: remedies, those of Deny statements, calls that stay denied, those of the same caller.
    println!("{seen:?}");
    assert!(seen.iter().all(|count| *count > 200), "{seen:?}");
}
