//! Any text as a policy, and what comes of it as the policy of a service: no panic, no policy with errors, and the
//! explanation decides as the decision does. `cargo +nightly fuzz run policy` in `agent/iam`.

#![no_main]

use brattice_iam::{
    Attachment, Caller, CallerKind, Chain, Compiled, Guard, Http, Mode, NOTHING, Network, Policy, Query, Request, Scratch,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // The policy, and behind a NUL the path and query of a request.
    let (policy, target) = text.split_once('\0').unwrap_or((text, "/a?b=c"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let read = Policy::from_json(policy, "policy", Attachment::Service { http: true, tcp: true });
    assert_eq!(read.policy.is_none(), read.findings.iter().any(|finding| finding.is_error()));
    for attachment in [Attachment::Role, Attachment::ServiceNetwork, Attachment::ResourceConfiguration] {
        Policy::from_json(policy, "policy", attachment);
    }
    let Some(policy) = read.policy else { return };
    let compiled = Compiled::new(policy, "service", Mode::Enforce);
    let networks = [Network { arn: "arn:aws:vpc-lattice:local:123456789012:servicenetwork/sn-0", guard: Guard::Open }];
    let chain = Chain { identity: Guard::Open, networks: &networks, service: Guard::Policy(&compiled) };
    let caller = Caller {
        session: Some("arn:aws:sts::123456789012:assumed-role/green/s"),
        account: Some("123456789012"),
        ..Caller::new(CallerKind::Role, "arn:aws:iam::123456789012:role/green")
    };
    let query = Query(query);
    let mut request = Request {
        caller,
        attested: None,
        evidence: &["interface"],
        service_arn: "arn:aws:vpc-lattice:local:123456789012:service/svc-0",
        service_account: "123456789012",
        service_tags: NOTHING,
        port: 80,
        source_vpc: Some("vpc-1"),
        source_vpc_account: None,
        source_ip: None,
        secure: false,
        now: 1_769_854_830,
        http: Some(Http { method: "GET", path, headers: NOTHING, query: &query }),
    };
    let mut scratch = Scratch::default();
    for connect in [false, true] {
        if connect {
            request.http = None;
        }
        assert_eq!(chain.decide(&request, &mut scratch), chain.explain(&request).decision);
    }
});
