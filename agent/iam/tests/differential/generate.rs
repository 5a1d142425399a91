//! Random policies and requests over few names, so that they meet.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::common::{Line, NETWORKS, SERVICE, Stands, Texts};

const A: &str = "123456789012";
const B: &str = "210987654321";

fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(of).prop_map(str::to_owned)
}

/// A caller and what it carries.
pub(crate) const CALLERS: &[&str] = &[
    "caller=anonymous",
    "caller=account:123456789012",
    "caller=user:ann@123456789012",
    "caller=role:green@123456789012",
    "caller=role:green!s1@123456789012",
    "caller=role:green!s2@123456789012",
    "caller=role:green!s1@210987654321",
    "caller=role:p/blue!s1@210987654321 provider=cognito-identity.amazonaws.com",
    "caller=role:p/blue!s2@210987654321",
    "caller=federated:fed@123456789012",
    "caller=service:lambda.amazonaws.com",
];

const FACTS: &[&str] = &[
    "org=o-1",
    "org=o-2",
    "orgpath=o-1/r-1/",
    "orgpath=o-1/r-2/",
    "userid=AROA:s1",
    "userid=red",
    "tag.team=red",
    "tag.Team=blue",
    "tag.team=RED",
    "tag.team=*",
    "tag.level=5",
    "tag.level=10.5",
    "tag.on=True",
    "tag.until=2026-02-01T00:00:00Z",
    "tag.until=2026-01-31T12:20:30+02:00",
    "tag.ip=10.1.2.3",
    "rtag.team=red",
    "rtag.env=prod",
    "h.x-team=red",
    "h.X-Team=blue",
    "h.user-agent=curl/8",
    "port=80",
    "vpc=vpc-1",
    "vpc=vpc-2",
    "vpcaccount=123456789012",
    "ip=10.0.0.1",
    "ip=10.1.2.3",
    "ip=2001:db8::1",
    "tls",
    "now=1769854829",
    "now=0",
    "attested=arn:aws:iam::123456789012:role/green",
    "evidence=interface",
    "evidence=cgroup",
];

pub(crate) fn line() -> impl Strategy<Value = Line> {
    let target = select(&[
        "GET /a",
        "GET /a*",
        "POST /a",
        "GET /a/b",
        "GET /admin",
        "GET /red/x",
        "GET /x/red",
        "GET /é",
        "GET /a?type=a",
        "GET /a?type=a&Type=b",
        "GET /a?type=b&type=c+d",
        "DELETE /a?type=x%2Fy&n=7",
        "CONNECT",
        "CONNECT",
    ]);
    let facts = proptest::sample::subsequence(FACTS, 0..12);
    (target, select(CALLERS), facts)
        .prop_map(|(target, caller, facts)| Line::parse(&format!("{target} {caller} {}", facts.join(" "))))
}

/// One, or a list of some.
fn some(item: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Value> {
    proptest::collection::vec(item, 1..4)
        .prop_map(|mut items| if items.len() == 1 { json!(items.remove(0)) } else { json!(items) })
        .boxed()
}

const STRINGS: &[&str] = &[
    "red",
    "blue",
    "RED",
    "*",
    "r*",
    "?ed",
    "b?u*",
    "*e*",
    "",
    "${aws:PrincipalTag/team}",
    "${aws:PrincipalTag/team, 'red'}",
    "${aws:ResourceTag/Team}",
    "${aws:userid, 'r*'}",
    "${*}",
    "r${?}d",
    "${vpc-lattice-svcs:RequestHeader/x-team}",
    "o-1",
    "o-1/*",
    "vpc-1",
    "GET",
    "/a*",
    "a",
    "b",
    "c d",
    "x/y",
    "curl/*",
    "AssumedRole",
    "Anonymous",
    "interface",
    "cgroup",
    "arn:aws:iam::123456789012:role/*",
    "arn:aws:iam::123456789012:role/green",
    "123456789012",
    "5",
    "AROA:s?",
];

const ARNS: &[&str] = &[
    "arn:aws:iam::123456789012:role/green",
    "arn:*:iam::*:role/*",
    "arn:aws:iam::${aws:PrincipalAccount}:*",
    "arn:aws:*:*:*:*",
    "arn:aws:iam::21098765432?:role/p/*",
    "arn:aws:iam::123456789012:*",
    "arn:aws:sts::123456789012:federated-user/fed",
    NETWORKS[0],
    NETWORKS[1],
    SERVICE,
    "arn:aws:vpc-lattice:*:*:service*/s*",
];

const NUMBERS: &[&str] = &["80", "443", "443.0", "5", "-1", "10.25", "10.50", "1769854830", "0", "7"];
const DATES: &[&str] = &[
    "2026-01-31T10:20:30Z",
    "2026-01-31T12:20:30+02:00",
    "2026-02",
    "2025",
    "1769854829",
    "2026-01-31",
    "1970-01-01T00:00Z",
];
const BLOCKS: &[&str] = &["10.0.0.0/8", "10.0.0.0/16", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "::/0", "10.1.2.0/31"];

const TEXT_KEYS: &[&str] = &[
    "vpc-lattice-svcs:SourceVpc",
    "vpc-lattice-svcs:SourceVpcOwnerAccount",
    "vpc-lattice-svcs:RequestMethod",
    "vpc-lattice-svcs:RequestPath",
    "aws:PrincipalAccount",
    "aws:PrincipalOrgID",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalType",
    "aws:userid",
    "AWS:ResourceAccount",
    "aws:UserAgent",
    "brattice:Evidence",
];
const ARN_KEYS: &[&str] = &[
    "aws:PrincipalArn",
    "vpc-lattice-svcs:ServiceArn",
    "vpc-lattice-svcs:ServiceNetworkArn",
    "brattice:AttestedPrincipalArn",
];
const FREE_KEYS: &[&str] = &[
    "aws:PrincipalTag/team",
    "aws:PrincipalTag/Team",
    "aws:PrincipalTag/level",
    "aws:PrincipalTag/on",
    "aws:PrincipalTag/until",
    "aws:PrincipalTag/ip",
    "aws:ResourceTag/team",
    "aws:ResourceTag/env",
    "vpc-lattice-svcs:RequestHeader/X-Team",
    "vpc-lattice-svcs:RequestQueryString/type",
    "vpc-lattice-svcs:RequestQueryString/n",
];

/// Bases, keys, values that go together.
fn family() -> impl Strategy<Value = (String, String, Value)> {
    let of = |bases: &'static [&'static str], keys: Vec<&'static str>, values: &'static [&'static str]| {
        (text(bases), select(keys).prop_map(str::to_owned), some(text(values))).boxed()
    };
    let with_free = |keys: &[&'static str]| [keys, FREE_KEYS].concat();
    prop_oneof![
        6 => of(
            &["StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"],
            with_free(&[TEXT_KEYS, ARN_KEYS].concat()),
            STRINGS,
        ),
        2 => of(&["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"], ARN_KEYS.to_vec(), ARNS),
        2 => of(
            &["NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"],
            vec!["vpc-lattice-svcs:Port", "aws:EpochTime", "aws:PrincipalTag/level", "vpc-lattice-svcs:RequestQueryString/n"],
            NUMBERS,
        ),
        2 => of(
            &["DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"],
            vec!["aws:CurrentTime", "aws:EpochTime", "aws:PrincipalTag/until"],
            DATES,
        ),
        1 => of(&["Bool"], vec!["aws:SecureTransport", "aws:PrincipalTag/on"], &["true", "false", "True"]),
        2 => of(&["IpAddress", "NotIpAddress"], vec!["aws:SourceIp", "aws:PrincipalTag/ip"], BLOCKS),
    ]
}

fn condition() -> impl Strategy<Value = (String, String, Value)> {
    let prefix = prop_oneof![4 => Just(""), 1 => Just("ForAnyValue:"), 1 => Just("ForAllValues:")];
    let suffix = prop_oneof![3 => Just(""), 1 => Just("IfExists")];
    let null = (
        Just("Null".to_owned()),
        select([TEXT_KEYS, ARN_KEYS, FREE_KEYS].concat()).prop_map(str::to_owned),
        some(text(&["true", "false"])),
    );
    prop_oneof![
        8 => (prefix, family(), suffix).prop_map(|(prefix, (base, key, values), suffix)| (format!("{prefix}{base}{suffix}"), key, values)),
        1 => null,
    ]
}

fn principal() -> BoxedStrategy<Value> {
    let aws = some(text(&[
        A,
        B,
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:role/green",
        "arn:aws:iam::123456789012:user/ann",
        "arn:aws:sts::123456789012:assumed-role/green/s1",
        "arn:aws:iam::210987654321:role/p/blue",
        "arn:aws:sts::123456789012:federated-user/fed",
    ]));
    prop_oneof![
        4 => aws.prop_map(|aws| json!({"AWS": aws})),
        // A session beside its role, as NotPrincipal wants them.
        1 => Just(json!({"AWS": [A, "arn:aws:iam::123456789012:role/green", "arn:aws:sts::123456789012:assumed-role/green/s1"]})),
        1 => Just(json!({"AWS": ["arn:aws:iam::210987654321:role/p/blue", "arn:aws:sts::210987654321:assumed-role/blue/s2"]})),
        1 => Just(json!({"Service": "lambda.amazonaws.com"})),
        1 => Just(json!({"Federated": "cognito-identity.amazonaws.com", "AWS": B})),
    ]
    .boxed()
}

const RESOURCES: &[&str] = &[
    "*",
    "*/a",
    "*/a*",
    "*/?",
    "*/*",
    "*/admin",
    "*/${aws:PrincipalTag/team}/*",
    "*/${aws:PrincipalTag/team, 'red'}/?",
    "*/x/${aws:userid}",
    SERVICE,
    "arn:aws:vpc-lattice:us-west-2:123456789012:service/svc-0123456789abcdef0/a",
    "arn:aws:vpc-lattice:*:${aws:PrincipalAccount}:service/*",
];

fn statement(identity: bool) -> impl Strategy<Value = Value> {
    let effect = prop_oneof![3 => Just("Allow"), 2 => Just("Deny")];
    let principals = prop_oneof![3 => Just(json!("*")), 1 => Just(json!({"AWS": "*"})), 6 => principal()];
    let actions = some(text(&[
        "*",
        "vpc-lattice-svcs:*",
        "vpc-lattice-svcs:Invoke",
        "VPC-lattice-svcs:conn*",
        "vpc-lattice-svcs:?nvoke",
    ]));
    let not_actions = some(text(&["vpc-lattice-svcs:Invoke", "vpc-lattice-svcs:Connect"]));
    let resources = prop_oneof![1 => Just(json!("*")), 2 => some(text(RESOURCES))];
    let conditions = proptest::collection::vec(condition(), 0..4);
    let turns = (0..8u8, 0..8u8, 0..8u8);
    (effect, (principals, principal()), (actions, not_actions), resources, conditions, turns).prop_map(
        move |(effect, (principals, not_principals), (actions, not_actions), resources, conditions, turns)| {
            let mut statement = json!({"Effect": effect});
            if !identity {
                // NotPrincipal goes with Deny only.
                if turns.0 < 3 && effect == "Deny" {
                    statement["NotPrincipal"] = not_principals;
                } else {
                    statement["Principal"] = principals;
                }
            }
            if turns.1 == 0 {
                statement["NotAction"] = not_actions;
            } else {
                statement["Action"] = actions;
            }
            statement[if turns.2 == 0 { "NotResource" } else { "Resource" }] = resources;
            for (operator, key, values) in conditions {
                // Keys that differ in case only are an error.
                let other = |own: &str| own.eq_ignore_ascii_case(&key) && own != key;
                let lines = &statement["Condition"][operator.as_str()];
                if !lines.as_object().is_some_and(|lines| lines.keys().any(|own| other(own))) {
                    statement["Condition"][operator.as_str()][key.as_str()] = values;
                }
            }
            statement
        },
    )
}

fn policy(identity: bool) -> impl Strategy<Value = String> {
    let statements = proptest::collection::vec(statement(identity), 1..6);
    (statements, 0..10u8, proptest::bool::ANY).prop_map(move |(mut statements, version, open)| {
        if open {
            // Else most requests fail by default, and denials would not be seen.
            let mut all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
            if !identity {
                all["Principal"] = json!("*");
            }
            statements.push(all);
        }
        match version {
            0 => json!({"Statement": statements}),
            1 => json!({"Version": "2008-10-17", "Statement": statements}),
            _ => json!({"Version": "2012-10-17", "Statement": statements}),
        }
        .to_string()
    })
}

fn stands(identity: bool) -> impl Strategy<Value = Stands> {
    let missing = u32::from(!identity);
    prop_oneof![
        2 => Just(Stands::Open),
        missing => Just(Stands::Missing),
        8 => policy(identity).prop_map(|text| Stands::Policy(text, false)),
        1 => policy(identity).prop_map(|text| Stands::Policy(text, true)),
    ]
}

pub(crate) fn texts() -> impl Strategy<Value = Texts> {
    let networks = prop_oneof![1 => proptest::collection::vec(stands(false), 0..1), 9 => proptest::collection::vec(stands(false), 1..3)];
    (stands(true), networks, stands(false)).prop_map(|(identity, networks, service)| Texts {
        identity,
        networks,
        service,
        listeners: None,
    })
}

/// Operators, keys and values of conditions that many requests fulfil: each about something that differs between calls of
/// one caller to one path.
fn condition_on_a_call() -> impl Strategy<Value = (String, String, Value)> {
    let strings = (
        text(&[
            "StringNotEquals",
            "StringNotEquals",
            "StringNotEqualsIfExists",
            "StringNotEqualsIgnoreCase",
            "StringNotLike",
            "StringEquals",
            "StringLike",
            "ForAnyValue:StringNotEquals",
            "ForAnyValue:StringEquals",
            "ForAllValues:StringNotEquals",
            "ForAllValues:StringEquals",
            "ForAnyValue:StringNotEqualsIfExists",
            "StringEqualsIfExists",
        ]),
        text(&[
            "vpc-lattice-svcs:RequestHeader/X-Team",
            "vpc-lattice-svcs:RequestHeader/X-Team",
            "vpc-lattice-svcs:RequestQueryString/type",
            "vpc-lattice-svcs:RequestQueryString/type",
            "aws:UserAgent",
            "brattice:Evidence",
            "aws:PrincipalTag/team",
            "aws:userid",
            "aws:PrincipalOrgPaths",
        ]),
        some(text(&["red", "blue", "a", "b", "r*", "interface", "${vpc-lattice-svcs:RequestHeader/x-team}", "c d"])),
    );
    let null = (
        Just("Null".to_owned()),
        text(&["vpc-lattice-svcs:RequestHeader/x-team", "vpc-lattice-svcs:RequestQueryString/n", "aws:UserAgent"]),
        some(text(&["true", "true", "false"])),
    );
    let addresses =
        (text(&["IpAddress", "NotIpAddress"]), Just("aws:SourceIp".to_owned()), some(text(&["10.0.0.0/16", "::/0"])));
    let secure =
        (text(&["Bool", "BoolIfExists"]), Just("aws:SecureTransport".to_owned()), some(text(&["true", "false"])));
    prop_oneof![8 => strings, 2 => null, 2 => addresses, 1 => secure]
}

/// A policy of six Deny statements about what calls carry, which allows everything else, at one of the levels.
pub(crate) fn denials() -> impl Strategy<Value = Texts> {
    let conditions = proptest::collection::vec(condition_on_a_call(), 1..4);
    let actions = text(&["*", "*", "vpc-lattice-svcs:Invoke"]);
    let resources = text(&["*", "*", "*", "*/a", "*/${vpc-lattice-svcs:RequestHeader/x-team}/*"]);
    let statements = proptest::collection::vec((actions, resources, conditions), 6);
    (statements, 0..3usize, 0..10u8, proptest::bool::ANY).prop_map(|(statements, level, version, named)| {
        let mut list = Vec::new();
        for (number, (actions, resources, conditions)) in statements.into_iter().enumerate() {
            let mut statement = json!({"Effect": "Deny", "Action": actions, "Resource": resources});
            if named {
                statement["Sid"] = json!(format!("no-{number}"));
            }
            for (operator, key, values) in conditions {
                let key = key.to_lowercase();
                statement["Condition"][operator.as_str()][key.as_str()] = values;
            }
            list.push(statement);
        }
        list.push(json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
        if level > 0 {
            list.iter_mut().for_each(|statement| statement["Principal"] = json!("*"));
        }
        let version = if version == 0 { "2008-10-17" } else { "2012-10-17" };
        let policy = Stands::Policy(json!({"Version": version, "Statement": list}).to_string(), false);
        let mut texts = Texts { networks: vec![Stands::Open], ..Texts::default() };
        match level {
            0 => texts.identity = policy,
            1 => texts.networks[0] = policy,
            _ => texts.service = policy,
        }
        texts
    })
}
