//! A remedy allows the call that it is for, and no other call that was denied: not of another caller, from another VPC, of
//! another service or port, with another method or path, nor with another value of a header that the denial asks about.

use brattice_iam::{Change, Decision, Scratch};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::common::{Line, Policies, Stands, Texts};
use crate::generate::{self, CALLERS};

const OTHER_SERVICE: &str = "arn:aws:vpc-lattice:us-west-2:123456789012:service/svc-0123456789abcdef1";

/// With a caller of the table that has an attested identity of its own, as every workload does.
pub(crate) fn by(line: &Line, number: usize) -> Line {
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

fn check(texts: &Texts, line: &Line, caller: usize, seen: &mut [u32; 7]) -> Result<(), TestCaseError> {
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
    elsewhere(&policies, &remedied, texts, &line, &remedy, &mut seen[4..])
}

/// The same caller with the same method and path, and another service, port or VPC.
fn elsewhere(
    policies: &Policies,
    remedied: &Policies,
    texts: &Texts,
    line: &Line,
    remedy: &[Change],
    seen: &mut [u32],
) -> Result<(), TestCaseError> {
    let mut others = Vec::new();
    // The policy of a service is about no other service.
    if texts.service == Stands::Open {
        others.push((0, Line { service: OTHER_SERVICE.to_owned(), ..line.clone() }));
    }
    others.extend([80, 443, 8080].map(|port| (1, Line { port, ..line.clone() })));
    // The attested identity of a workload without a role names its VPC.
    if line.vpc.is_some() && !line.attested.as_deref().is_some_and(|attested| attested.contains(":workload/")) {
        others.extend(["vpc-1", "vpc-2", "vpc-3"].map(|vpc| (2, Line { vpc: Some(vpc.to_owned()), ..line.clone() })));
    }
    for (what, other) in others {
        let same = other.service == line.service && other.port == line.port && other.vpc == line.vpc;
        if same || decide(policies, &other).is_allowed() {
            continue;
        }
        seen[what] += 1;
        prop_assert!(!decide(remedied, &other).is_allowed(), "{other:?} passes as well after {remedy:#?}");
    }
    Ok(())
}

#[test]
fn a_remedy_is_for_one_call_alone() {
    let mut seen = [0; 7];
    let by_test = std::cell::RefCell::new(&mut seen);
    let config = ProptestConfig { cases: super::config().cases / 10, ..super::config() };
    TestRunner::new(config)
        .run(&(generate::texts(), generate::line(), 0..CALLERS.len()), |(texts, line, caller)| {
            check(&texts, &line, caller, &mut by_test.borrow_mut())
        })
        .unwrap();
    // Else nothing was shown: remedies, those of Deny statements, calls that stay denied, those of the same caller; of
    // another service, port, VPC.
    println!("{seen:?}");
    let least = [200, 200, 200, 200, 20, 200, 40];
    assert!(seen.iter().zip(least).all(|(count, least)| *count > least), "{seen:?}");
}

/// The values of headers and query parameters that a denial asks about belong to the call, as does its service.
#[test]
fn a_denial_of_a_role_is_lifted_for_one_service_and_the_values_it_asks_about() {
    let statement = |condition: &str| {
        let deny = format!(r#"{{"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {condition}}}"#);
        format!(
            r#"{{"Version": "2012-10-17", "Statement": [{deny}, {{"Effect": "Allow", "Action": "*", "Resource": "*"}}]}}"#
        )
    };
    let user_agent = statement(r#"{"StringLike": {"aws:UserAgent": "*bot*"}}"#);
    let header = statement(r#"{"StringEquals": {"vpc-lattice-svcs:RequestHeader/X-Team": ["red", "blue"]}}"#);
    let query =
        statement(r#"{"ForAnyValue:StringLike": {"vpc-lattice-svcs:RequestQueryString/type": ["a*", "${*}"]}}"#);
    for (policy, denied, others) in [
        (
            &user_agent,
            "GET /basket h.user-agent=bot/1",
            ["GET /basket h.user-agent=bot/2", "GET /b h.user-agent=bot/1"],
        ),
        (&header, "GET /basket h.x-team=red", ["GET /basket h.x-team=blue", "POST /basket h.x-team=red"]),
        (
            &header,
            "GET /a h.x-team=red h.x-team=green",
            ["GET /a h.x-team=blue h.x-team=green", "GET /a h.x-team=blue"],
        ),
        (&query, "GET /basket?type=a*", ["GET /basket?type=ab", "GET /basket?type=*"]),
    ] {
        let texts =
            Texts { identity: Stands::Policy(policy.clone(), false), networks: vec![Stands::Open], ..Texts::default() };
        let line = |text: &str| {
            Line::parse(&format!(
                "{text} {} vpc=vpc-1 attested=arn:aws:sts::123456789012:assumed-role/green/s1",
                CALLERS[4]
            ))
        };
        let call = line(denied);
        let mut others = others.map(line).to_vec();
        others.push(Line { service: OTHER_SERVICE.to_owned(), ..call.clone() });
        others.push(Line { vpc: Some("vpc-2".to_owned()), ..call.clone() });
        let policies = texts.compile().0;
        let remedy = call.with(|request| policies.with(|chain| chain.explain(request).remedy));
        let (remedied, findings) = texts.apply(&remedy).compile();
        assert!(!findings.iter().any(|finding| !finding.contains("warning: ")), "{findings:?}");
        assert!(!decide(&policies, &call).is_allowed() && decide(&remedied, &call).is_allowed(), "{remedy:#?}");
        for other in others {
            assert!(!decide(&policies, &other).is_allowed(), "control: {other:?}");
            assert!(!decide(&remedied, &other).is_allowed(), "{other:?} passes as well after {remedy:#?}");
        }
    }
}
