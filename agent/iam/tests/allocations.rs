//! An allowed request costs no allocation. A test alone in its process, as it counts for the whole of it.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use brattice_allocations::{Counting, allocations};
use brattice_iam::Scratch;
use common::{Line, SERVICE, Stands, Texts};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A policy with everything in it that a request may have to be compared with.
fn policy(identity: bool) -> String {
    let principal = if identity {
        ""
    } else {
        r#""Principal": {"AWS": ["210987654321", "arn:aws:iam::123456789012:role/green"]},"#
    };
    let everyone = if identity { "" } else { r#""Principal": "*","# };
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [
            {{"Effect": "Deny", {everyone} "Action": "*", "Resource": "*/admin/*"}},
            {{"Effect": "Deny", {everyone} "Action": "*", "Resource": "*", "Condition": {{
                "StringNotEqualsIgnoreCase": {{"aws:PrincipalTag/Team": ["RED", "blue"]}}}}}},
            {{"Effect": "Allow", {principal} "Action": "vpc-lattice-svcs:Invoke",
              "Resource": "{SERVICE}/${{aws:PrincipalTag/team}}/*/x?z*", "Condition": {{
                "StringEquals": {{"vpc-lattice-svcs:SourceVpc": ["vpc-1", "vpc-2"], "vpc-lattice-svcs:RequestMethod": "GET"}},
                "StringLike": {{"aws:userid": "*:${{aws:PrincipalTag/session, 's?'}}", "vpc-lattice-svcs:RequestPath": "*/??/*"}},
                "StringEqualsIgnoreCase": {{"vpc-lattice-svcs:RequestHeader/x-team": "${{aws:PrincipalTag/TEAM}}"}},
                "ArnLike": {{"aws:PrincipalArn": "arn:*:iam::${{aws:PrincipalAccount}}:role/*"}},
                "ForAnyValue:StringLike": {{"vpc-lattice-svcs:RequestQueryString/type": ["a*", "b c"], "aws:PrincipalOrgPaths": "o-1/*"}},
                "IpAddress": {{"aws:SourceIp": "10.0.0.0/8"}},
                "DateGreaterThan": {{"aws:CurrentTime": "2026-01-01"}},
                "NumericLessThanEquals": {{"vpc-lattice-svcs:Port": 443}},
                "Bool": {{"aws:SecureTransport": "true"}},
                "Null": {{"aws:PrincipalTag/none": "true"}}}}}}]}}"#
    )
}

#[test]
fn allowing_allocates_nothing() {
    let stands = |identity| Stands::Policy(policy(identity), false);
    let texts = Texts {
        identity: stands(true),
        networks: vec![stands(false), stands(false)],
        service: stands(false),
        listeners: None,
    };
    let (policies, findings) = texts.compile();
    assert!(findings.is_empty(), "{findings:?}");
    let line = Line::parse(
        "GET /red/ab/xyz?type=b+c&type=%62%20c caller=role:green!s1@123456789012 tag.team=red tag.session=s1 userid=AROA:s1 \
         vpc=vpc-2 h.x-team=Red orgpath=o-1/r-1/ ip=10.1.1.1 tls",
    );
    line.with(|request| {
        policies.with(|chain| {
            let mut scratch = Scratch::default();
            let first = chain.decide(request, &mut scratch);
            assert!(first.is_allowed(), "{:#?}", chain.explain(request));
            let before = allocations();
            for _ in 0..100 {
                assert!(chain.decide(request, &mut scratch).is_allowed());
            }
            assert_eq!(allocations() - before, 0);
        });
    });
    // A refusal costs none either; its message does.
    let line = Line { path: "/red/admin/x".into(), ..line };
    line.with(|request| {
        policies.with(|chain| {
            let mut scratch = Scratch::default();
            chain.decide(request, &mut scratch);
            let before = allocations();
            assert!(!chain.decide(request, &mut scratch).is_allowed());
            assert_eq!(allocations() - before, 0);
        });
    });
}

#[test]
fn the_count_counts() {
    let before = allocations();
    let text = std::hint::black_box(String::from("x"));
    assert!(allocations() > before, "{text}");
}
