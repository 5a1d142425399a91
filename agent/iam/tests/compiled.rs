//! What compiled policies tell about themselves.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

use std::cell::Cell;

use brattice_iam::{Attachment, Caller, Chain, Compiled, Guard, Key, Lookup, Mode, Network, Policy, Request, Scratch};

fn compiled(statement: &str, mode: Mode) -> Compiled {
    let text = format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Principal": "*", "Action": "*", {statement}}}}}"#
    );
    let read = Policy::from_json(&text, "policies/x.json", Attachment::ServiceNetwork);
    Compiled::new(read.policy.unwrap_or_else(|| panic!("{:?}", read.findings)), "retail", mode)
}

#[test]
fn what_requests_of_a_connection_differ_in_is_known() {
    let per_connection = |statement: &str| compiled(statement, Mode::Enforce).per_connection();
    assert!(per_connection(r#""Resource": "*""#));
    assert!(per_connection(
        r#""Resource": "*", "Condition": {"StringEquals": {"vpc-lattice-svcs:SourceVpc": "${aws:PrincipalTag/vpc}"},
        "NumericEquals": {"vpc-lattice-svcs:Port": 80}, "Bool": {"aws:SecureTransport": true}}"#
    ));
    for asks in [
        r#""Resource": "*/a""#,
        r#""Resource": ["*", "*/a"]"#,
        r#""NotResource": "*/a""#,
        r#""Resource": "*", "Condition": {"StringEquals": {"vpc-lattice-svcs:RequestMethod": "GET"}}"#,
        r#""Resource": "*", "Condition": {"StringEquals": {"aws:userid": "${vpc-lattice-svcs:RequestHeader/x}"}}"#,
        r#""Resource": "*", "Condition": {"Null": {"vpc-lattice-svcs:RequestQueryString/x": true}}"#,
        r#""Resource": "*", "Condition": {"DateLessThan": {"aws:CurrentTime": "2027"}}"#,
        r#""Resource": "*", "Condition": {"NumericLessThan": {"aws:EpochTime": 1}}"#,
        r#""Resource": "*", "Condition": {"StringLike": {"aws:UserAgent": "curl/*"}}"#,
    ] {
        assert!(!per_connection(asks), "{asks}");
    }
}

#[test]
fn a_policy_says_what_it_asks_about() {
    let statement = r#""Resource": "*/${aws:userid}", "Condition": {
        "StringEquals": {"aws:PrincipalType": ["a", "${aws:PrincipalTag/A, 'x'}"]},
        "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::${aws:PrincipalAccount}:role/${aws:ResourceTag/b}"},
        "StringEqualsIgnoreCase": {"aws:UserAgent": "${aws:SourceIp}"}}"#;
    let policy = compiled(statement, Mode::Enforce);
    let mut keys: Vec<&Key> = policy.policy().keys().collect();
    keys.sort();
    let mut expected = [
        &Key::PrincipalType,
        &Key::PrincipalTag("a".into()),
        &Key::PrincipalArn,
        &Key::PrincipalAccount,
        &Key::ResourceTag("b".into()),
        &Key::UserAgent,
        &Key::SourceIp,
        &Key::UserId,
    ];
    expected.sort();
    assert_eq!(keys, expected);
}

#[test]
fn a_policy_keeps_its_name_mode_and_file() {
    let policy = compiled(r#""Resource": "*""#, Mode::Audit);
    assert_eq!((policy.name(), policy.mode(), &*policy.policy().file), ("retail", Mode::Audit, "policies/x.json"));
    assert_eq!(compiled(r#""Resource": "*""#, Mode::Enforce).mode(), Mode::Enforce);
}

#[test]
fn a_policy_is_written_as_it_was_meant() {
    let text = r#"{"Version": "2012-10-17", "Id": "i\"d", "Statement": [{"Sid": "s", "Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:iam::123456789012:role/r", "Service": "a.b"}, "NotAction": "vpc-lattice-svcs:Connect", "NotResource": ["*/a", "*/${aws:userid}"], "Condition": {"ForAnyValue:StringLikeIfExists": {"vpc-lattice-svcs:RequestQueryString/a": ["b*", "c"]}, "Null": {"aws:userid": "true"}}}]}"#;
    let policy = Policy::from_json(text, "p", Attachment::ServiceNetwork).policy.unwrap();
    assert_eq!(policy.json(), text);
    assert!(text.contains(&policy.statements[0].json()));
    let old = r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "*", "Resource": "*"}}"#;
    let policy = Policy::from_json(old, "p", Attachment::ServiceNetwork).policy.unwrap();
    assert_eq!(
        policy.json(),
        r#"{"Version": "2008-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}"#
    );
    let role = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#;
    assert_eq!(Policy::from_json(role, "p", Attachment::Role).policy.unwrap().json(), role);
}

/// Tags that count how often they are asked for.
struct Counted(Cell<u32>);

impl Lookup for Counted {
    fn each(&self, _: &str, found: &mut dyn FnMut(&str)) {
        self.0.set(self.0.get() + 1);
        found("x");
    }
}

/// How often a policy is asked about one request that may come through two networks.
#[test]
fn a_policy_is_asked_once_for_all_networks_unless_it_asks_for_the_network() {
    let arns = ["arn:aws:vpc-lattice:us-west-2:1:servicenetwork/a", "arn:aws:vpc-lattice:us-west-2:1:servicenetwork/b"];
    let networks = arns.map(|arn| Network { arn, guard: Guard::Open });
    let asked = |identity: &str, service: &str| {
        let (identity, service) = (compiled(identity, Mode::Enforce), compiled(service, Mode::Enforce));
        let chain = Chain { identity: Guard::Policy(&identity), networks: &networks, service: Guard::Policy(&service) };
        let (role, resource) = (Counted(Cell::new(0)), Counted(Cell::new(0)));
        let request = Request {
            caller: Caller { tags: &role, ..Caller::anonymous() },
            attested: None,
            evidence: &[],
            service_arn: "arn:aws:vpc-lattice:us-west-2:1:service/svc-1",
            service_account: "000000000001",
            service_tags: &resource,
            port: 80,
            source_vpc: None,
            source_vpc_account: None,
            source_ip: None,
            secure: false,
            now: 0,
            http: None,
        };
        assert!(chain.decide(&request, &mut Scratch::default()).is_allowed());
        (role.0.get(), resource.0.get())
    };
    let plain = |tag: &str| format!(r#""Resource": "*", "Condition": {{"StringEquals": {{"aws:{tag}/t": "x"}}}}"#);
    let network = |tag: &str| {
        format!(
            r#""Resource": "*", "Condition": {{"StringEquals": {{"aws:{tag}/t": "x"}}, "StringLike": {{"vpc-lattice-svcs:ServiceNetworkArn": "*"}}}}"#
        )
    };
    let (principal, resource) = ("PrincipalTag", "ResourceTag");
    assert_eq!(asked(&plain(principal), &plain(resource)), (1, 1));
    assert_eq!(asked(&network(principal), &plain(resource)), (2, 1));
    assert_eq!(asked(&plain(principal), &network(resource)), (1, 2));
}
