//! Policies as people paste them: what is about no call there can be is told, and nothing is said of those that are right.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use std::fmt::Write as _;

use brattice_iam::{Caller, CallerKind, Chain, Compiled, Guard, Http, Mode, Network, Pairs, Query, Request, Scratch};
use brattice_model::{Linked, VipState};

/// 2026-02-02.
const NOW: u64 = 1_770_000_000;

const NODE: &str = r#"kind: Account
metadata: {name: platform}
spec: {id: "111111111111", organizationPath: o-1example/r-1/}
---
kind: Account
metadata: {name: shop}
spec: {id: "222222222222", domains: [shop.internal], vpcs: [platform/green]}
---
kind: Account
metadata: {name: bank}
spec: {id: "333333333333"}
---
kind: Vpc
metadata: {name: blue}
spec: {account: platform, cidrBlocks: [10.0.0.0/16], attachments: [{namespace: "blue*"}], serviceNetworks: [platform/retail]}
---
kind: Vpc
metadata: {name: green}
spec: {account: platform, cidrBlocks: [10.0.0.0/16], attachments: [{interface: "green*"}], serviceNetworks: [platform/retail]}
---
kind: Vpc
metadata: {name: vault}
spec: {account: bank, cidrBlocks: [10.0.0.0/16]}
---
kind: Workload
metadata: {name: web, labels: {tier: front}}
spec: {vpcIdentifier: platform/blue, namespace: web}
---
kind: Workload
metadata: {name: batch}
spec: {vpcIdentifier: platform/green, interface: green0}
---
kind: Role
metadata: {name: reader}
spec:
  account: platform
  tags: {team: red}
  trust: [{workloads: [web]}]
"#;

const SERVICE: &str = "kind: Service
metadata: {name: orders}
spec:
  authType: AWS_IAM
  tags: {env: prod}
  customDomainNames: [orders.shop.internal]
  serviceNetworks: [platform/retail]
  listeners:
  - protocol: HTTP
    defaultAction: {fixedResponse: {statusCode: 404}}
";

/// The directory with a policy of the service, as JSON text that stands in YAML.
fn linked(policy: &str, more: &str) -> Linked {
    let text = |policy: &str| {
        let indented: String = policy.lines().map(|line| format!("    {line}\n")).collect();
        format!("{SERVICE}---\nkind: AuthPolicy\nspec:\n  resourceIdentifier: orders\n  policy: |\n{indented}")
    };
    let read = |policy: &str| {
        let mut sources = world::sources();
        sources.retain(|source| source.path.contains("networks"));
        sources.push(world::source("node.yaml", &format!("{NODE}{more}")));
        sources.push(world::source("accounts/shop/orders.yaml", &text(policy)));
        let outcome = world::read(&sources, &VipState::default(), NOW);
        assert!(outcome.errors.is_empty(), "{policy}: {:?}", outcome.errors);
        outcome.linked.unwrap()
    };
    let everything = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}"#;
    let model = read(everything).model;
    let places = [
        ("SERVICE_ARN", &model.service("shop/orders").unwrap().arn),
        ("NETWORK_ARN", &model.network("platform/retail").unwrap().arn),
        ("BLUE_ID", &model.vpc("platform/blue").unwrap().id),
        ("VAULT_ID", &model.vpc("bank/vault").unwrap().id),
    ];
    read(&places.iter().fold(policy.to_owned(), |text, (name, value)| text.replace(name, value)))
}

fn warnings(linked: &Linked) -> Vec<String> {
    linked.warnings.values().flatten().map(ToString::to_string).collect()
}

/// Whether the policy lets some call pass: of everyone there is, with usual methods, paths, fields and queries.
fn passes(linked: &Linked) -> bool {
    let model = &linked.model;
    let service = model.service("shop/orders").unwrap();
    let compiled = Compiled::new(model.policies[0].policy.clone(), "orders", Mode::Enforce);
    let network = &model.network("platform/retail").unwrap().arn;
    let networks = [Network { arn: network, guard: Guard::Open }];
    let chain = Chain { identity: Guard::Open, networks: &networks, service: Guard::Policy(&compiled) };
    let reader = model.role("platform/reader").unwrap();
    let session = "arn:aws:sts::111111111111:assumed-role/reader/web";
    let web = Caller {
        session: Some(session),
        account: Some("111111111111"),
        organization: Some("o-1example"),
        organization_paths: &["o-1example/r-1/"],
        tags: &reader.tags,
        ..Caller::new(CallerKind::Role, &reader.arn)
    };
    let batch = "arn:aws:vpc-lattice:local:111111111111:workload/green/batch";
    let callers = [(web, session, "platform/blue"), (Caller::anonymous(), batch, "platform/green")];
    let fields: [&[(&str, &str)]; 2] = [&[], &[("x-tenant", "a"), ("user-agent", "curl/8")]];
    for (caller, attested, vpc) in callers {
        let vpc = &model.vpc(vpc).unwrap().id;
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            for path in ["/", "/rates", "/orders", "/orders/1", "/red/x", "/api.parking/List", "/admin"] {
                for (fields, query) in fields.iter().zip(["", "type=a"]) {
                    let fields = Pairs(fields);
                    let request = Request {
                        caller,
                        attested: Some(attested),
                        evidence: &["interface"],
                        service_arn: &service.arn,
                        service_account: "222222222222",
                        service_tags: &service.tags,
                        port: 80,
                        source_vpc: Some(vpc),
                        source_vpc_account: Some("111111111111"),
                        source_ip: Some([10, 0, 0, 9].into()),
                        secure: false,
                        now: i64::try_from(NOW).unwrap(),
                        http: Some(Http { method, path, headers: &fields, query: &Query(query) }),
                    };
                    if chain.decide(&request, &mut Scratch::default()).is_allowed() {
                        return true;
                    }
                }
            }
        }
    }
    false
}

/// Statements, with what AWS's examples write around them.
fn policy(statements: &str) -> String {
    format!("{{\"Version\": \"2012-10-17\", \"Statement\": [{statements}]}}")
}

/// An Allow statement for everyone with a condition.
fn allow_if(condition: &str) -> String {
    policy(&format!(
        r#"{{"Effect": "Allow", "Principal": "*", "Action": "vpc-lattice-svcs:Invoke", "Resource": "*", "Condition": {{{condition}}}}}"#
    ))
}

const ALL: &str = r#"{"Effect": "Allow", "Principal": "*", "Action": "vpc-lattice-svcs:Invoke", "Resource": "*"}"#;

/// A Deny statement with a condition, beside one that allows everything.
fn deny_if(condition: &str) -> String {
    policy(&format!(
        r#"{ALL}, {{"Effect": "Deny", "Principal": "*", "Action": "vpc-lattice-svcs:*", "Resource": "*", "Condition": {{{condition}}}}}"#
    ))
}

fn allow_principal(principal: &str) -> String {
    policy(&format!(
        r#"{{"Effect": "Allow", "Principal": {principal}, "Action": "vpc-lattice-svcs:Invoke", "Resource": "*"}}"#
    ))
}

fn allow_resource(resource: &str) -> String {
    policy(&format!(
        r#"{{"Effect": "Allow", "Principal": "*", "Action": "vpc-lattice-svcs:Invoke", "Resource": {resource}}}"#
    ))
}

#[test]
fn nothing_is_said_of_policies_that_are_right() {
    let reader = r#""arn:aws:iam::111111111111:role/reader""#;
    let web = r#""arn:aws:sts::111111111111:assumed-role/reader/web""#;
    let right = [
        policy(ALL),
        // The User Guide's three.
        allow_if(r#""StringEquals": {"aws:PrincipalOrgID": ["o-1example"]}"#),
        policy(&format!(
            r#"{{"Effect": "Allow", "Principal": {{"AWS": [{reader}]}}, "Action": "vpc-lattice-svcs:Invoke", "Resource": ["SERVICE_ARN/*"], "Condition": {{"StringEquals": {{"vpc-lattice-svcs:RequestMethod": "GET"}}}}}}"#
        )),
        allow_if(
            r#""StringNotEquals": {"aws:PrincipalType": "Anonymous"}, "StringEquals": {"vpc-lattice-svcs:SourceVpc": "BLUE_ID"}"#,
        ),
        // The console's and Terraform's template.
        allow_if(r#""StringNotEqualsIgnoreCase": {"aws:PrincipalType": "anonymous"}"#),
        policy(&format!(
            r#"{ALL}, {{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {{"StringEquals": {{"aws:PrincipalType": "Anonymous"}}}}}}"#
        )),
        allow_principal(&format!(r#"{{"AWS": {web}}}"#)),
        allow_principal(r#"{"AWS": "arn:aws:iam::111111111111:root"}"#),
        allow_principal(r#"{"AWS": "111111111111"}"#),
        policy(&format!(
            r#"{ALL}, {{"Effect": "Deny", "NotPrincipal": {{"AWS": [{web}, {reader}, "arn:aws:iam::111111111111:root"]}}, "Action": "*", "Resource": "*"}}"#
        )),
        allow_resource(r#""*/rates""#),
        allow_resource(r#"["SERVICE_ARN/orders", "SERVICE_ARN/orders/*"]"#),
        allow_resource(r#""SERVICE_ARN/api.parking/*""#),
        allow_resource(r#""arn:aws:vpc-lattice:*:*:service/svc-*/rates""#),
        allow_resource(r#""*/${aws:PrincipalTag/team}/*""#),
        allow_if(r#""StringEquals": {"vpc-lattice-svcs:RequestHeader/x-tenant": "a"}"#),
        allow_if(r#""ForAnyValue:StringEquals": {"vpc-lattice-svcs:RequestQueryString/type": ["a", "b"]}"#),
        allow_if(r#""NumericEquals": {"vpc-lattice-svcs:Port": "80"}"#),
        allow_if(r#""NumericLessThan": {"vpc-lattice-svcs:Port": 1024}"#),
        allow_if(r#""StringEquals": {"aws:PrincipalTag/Team": "red"}"#),
        allow_if(r#""StringLike": {"aws:PrincipalTag/team": "r*"}"#),
        allow_if(r#""StringEquals": {"aws:ResourceTag/env": "prod"}"#),
        allow_if(r#""StringEquals": {"aws:ResourceAccount": "222222222222"}"#),
        allow_if(
            r#""IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "StringEquals": {"vpc-lattice-svcs:SourceVpc": "BLUE_ID"}"#,
        ),
        allow_if(
            r#""IpAddress": {"aws:SourceIp": "10.0.0.9"}, "StringEquals": {"vpc-lattice-svcs:SourceVpcOwnerAccount": "111111111111"}, "StringLike": {"vpc-lattice-svcs:SourceVpc": "vpc-*"}"#,
        ),
        allow_if(r#""DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}"#),
        allow_if(r#""DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}"#),
        allow_if(
            r#""StringEquals": {"brattice:AttestedPrincipalArn": "arn:aws:vpc-lattice:local:111111111111:workload/green/batch"}"#,
        ),
        policy(&format!(
            r#"{ALL}, {{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {{"ArnLike": {{"brattice:AttestedPrincipalArn": "arn:aws:vpc-lattice:local:111111111111:workload/blue/blue-*@*"}}}}}}"#
        )),
        allow_if(r#""ForAnyValue:StringEquals": {"brattice:Evidence": "interface"}"#),
        allow_if(r#""ArnEquals": {"vpc-lattice-svcs:ServiceNetworkArn": "NETWORK_ARN"}"#),
        allow_if(r#""ArnLike": {"aws:PrincipalArn": "arn:aws:iam::111111111111:role/read*"}"#),
        allow_if(r#""Null": {"aws:PrincipalArn": "false"}"#),
        allow_if(r#""StringLike": {"vpc-lattice-svcs:RequestPath": ["/orders/*", "*/rates"]}"#),
        allow_if(
            r#""StringLike": {"vpc-lattice-svcs:RequestPath": "/orders*"}, "StringNotEquals": {"vpc-lattice-svcs:RequestPath": "/orders"}"#,
        ),
        deny_if(r#""StringEquals": {"vpc-lattice-svcs:RequestMethod": ["PUT", "DELETE"]}"#),
        deny_if(r#""StringNotEquals": {"vpc-lattice-svcs:SourceVpc": "BLUE_ID"}"#),
        deny_if(r#""StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-1example"}"#),
        deny_if(r#""Null": {"aws:PrincipalArn": "true"}"#),
        // What a Deny statement guards against need not be there.
        deny_if(r#""StringNotEquals": {"aws:ResourceTag/env": "prod"}"#),
        deny_if(r#""NumericGreaterThan": {"vpc-lattice-svcs:Port": 1024}"#),
        deny_if(r#""StringNotEquals": {"vpc-lattice-svcs:SourceVpcOwnerAccount": "111111111111"}"#),
    ];
    for policy in right {
        let linked = linked(&policy, "");
        assert_eq!(warnings(&linked), Vec::<String>::new(), "{policy}");
        assert!(passes(&linked), "{policy} lets nothing pass");
    }
}

#[test]
fn what_names_nothing_is_told() {
    let wrong: Vec<(String, &[&str])> = vec![
        // The User Guide's, pasted as they are.
        (
            allow_if(r#""StringEquals": {"aws:PrincipalOrgID": ["o-123456example"]}"#),
            &["no account of a caller is in an organization `o-123456example`", "lets nothing pass"],
        ),
        (
            policy(
                r#"{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::123456789012:role/rates-client"]}, "Action": "vpc-lattice-svcs:Invoke", "Resource": ["arn:aws:vpc-lattice:us-west-2:123456789012:service/svc-0123456789abcdef0/*"], "Condition": {"StringEquals": {"vpc-lattice-svcs:RequestMethod": "GET"}}}"#,
            ),
            &[
                "of another place: it has 2 names of the region `us-west-2` (here it is `local`), of the account `123456789012`",
            ],
        ),
        (
            allow_if(
                r#""StringNotEquals": {"aws:PrincipalType": "Anonymous"}, "StringEquals": {"vpc-lattice-svcs:SourceVpc": "vpc-1a2b3c4d"}"#,
            ),
            &["no call comes from a VPC with the id `vpc-1a2b3c4d`"],
        ),
        (
            allow_principal(r#"{"AWS": "arn:aws-cn:iam::111111111111:role/reader"}"#),
            &["the partition `aws-cn` (here it is `aws`)"],
        ),
        (
            allow_principal(r#"{"AWS": "arn:aws:iam::111111111111:role/reeder"}"#),
            &["there is no role", "did you mean `arn:aws:iam::111111111111:role/reader`?"],
        ),
        (
            allow_principal(r#"{"AWS": "111111111112"}"#),
            &["the account `111111111112`", "did you mean `111111111111`?"],
        ),
        (allow_principal(r#"{"AWS": "333333333333"}"#), &["no caller is of the account `333333333333`"]),
        (
            allow_principal(r#"{"AWS": "arn:aws:sts::111111111111:assumed-role/reader/wep"}"#),
            &["no workload calls as the session", "did you mean `arn:aws:sts::111111111111:assumed-role/reader/web`?"],
        ),
        (allow_principal(r#"{"AWS": "arn:aws:iam::111111111111:user/ann"}"#), &["no caller is"]),
        (allow_principal(r#"{"Service": "lambda.amazonaws.com"}"#), &["no caller is `lambda.amazonaws.com`"]),
        (allow_principal(r#"{"Federated": "cognito-identity.amazonaws.com"}"#), &["no caller is"]),
        (
            policy(&format!(
                r#"{ALL}, {{"Effect": "Deny", "NotPrincipal": {{"AWS": "arn:aws:iam::111111111111:role/raeder"}}, "Action": "*", "Resource": "*"}}"#
            )),
            &["there is no role", "denies every call that the policy allows"],
        ),
        (
            policy(&format!(
                r#"{ALL}, {{"Effect": "Deny", "Principal": {{"AWS": "arn:aws:iam::111111111111:role/raeder"}}, "Action": "*", "Resource": "*"}}"#
            )),
            &["there is no role"],
        ),
        (
            allow_if(r#""StringEquals": {"vpc-lattice-svcs:SourceVpc": "blue"}"#),
            &["the key holds the VPC's id, which is `vpc-"],
        ),
        (
            allow_if(r#""StringEquals": {"vpc-lattice-svcs:SourceVpc": "VAULT_ID"}"#),
            &["no call comes from a VPC with the id"],
        ),
        (
            deny_if(r#""StringNotEquals": {"vpc-lattice-svcs:SourceVpc": "vpc-1a2b3c4d"}"#),
            &["no call comes from a VPC", "lets nothing pass"],
        ),
        (
            allow_if(r#""StringEquals": {"vpc-lattice-svcs:SourceVpcOwnerAccount": "222222222222"}"#),
            &["no call comes from a VPC of an account"],
        ),
        (allow_resource(r#""SERVICE_ARN""#), &["is no request: the path stands behind the service's ARN", "/*`"]),
        (allow_resource(r#""SERVICE_ARNorders""#), &["a path begins with `/`"]),
        (
            allow_resource(r#""arn:aws:vpc-lattice:local:222222222222:service/svc-0123456789abcdef0/*""#),
            &["is no service that is called under this policy", "the policy is for shop/orders alone"],
        ),
        (
            allow_if(
                r#""ArnEquals": {"vpc-lattice-svcs:ServiceArn": "arn:aws:vpc-lattice:local:222222222222:service/svc-1"}"#,
            ),
            &["is no service that is called"],
        ),
        (
            allow_if(
                r#""ArnEquals": {"vpc-lattice-svcs:ServiceNetworkArn": "arn:aws:vpc-lattice:local:111111111111:servicenetwork/sn-1"}"#,
            ),
            &["no call comes through a service network"],
        ),
        (allow_resource(r#""*/${aws:userid}/*""#), &["no call has a value for the policy variable `aws:userid`"]),
        (allow_if(r#""StringLike": {"aws:userid": "AROAEXAMPLE:*"}"#), &["no caller has an `aws:userid`"]),
        (allow_if(r#""Bool": {"aws:SecureTransport": "true"}"#), &["no call comes over TLS in this version"]),
        (
            deny_if(r#""Bool": {"aws:SecureTransport": "false"}"#),
            &["no call comes over TLS in this version", "lets nothing pass"],
        ),
        (
            deny_if(r#""Bool": {"aws:SecureTransport": ["true", "false"]}"#),
            &["`true` and `false` together say nothing", "lets nothing pass"],
        ),
        (allow_if(r#""Null": {"aws:PrincipalArn": ["true", "false"]}"#), &["`true` and `false` together say nothing"]),
        (
            allow_if(r#""StringEquals": {"vpc-lattice-svcs:RequestMethod": "get"}"#),
            &["`get` is not the method GET", "write `GET`"],
        ),
        (allow_if(r#""StringLike": {"vpc-lattice-svcs:RequestMethod": "p*"}"#), &["is not the method POST"]),
        (
            allow_if(r#""StringEquals": {"vpc-lattice-svcs:RequestPath": "orders"}"#),
            &["`orders` is no path", "write `/orders`"],
        ),
        (
            allow_if(r#""StringEquals": {"vpc-lattice-svcs:RequestPath": "/orders?x=1"}"#),
            &["the query does not belong to it"],
        ),
        (
            allow_if(r#""NumericEquals": {"vpc-lattice-svcs:Port": 8443}"#),
            &["no call comes to a port `8443`", "expected `80`"],
        ),
        (
            allow_if(r#""NumericGreaterThan": {"vpc-lattice-svcs:Port": 1024}"#),
            &["no call has a `vpc-lattice-svcs:Port` that fulfils `NumericGreaterThan` with `1024`"],
        ),
        (
            allow_if(r#""StringEquals": {"aws:PrincipalTag/team": "blue"}"#),
            &["no role has the tag `team` with the value `blue`", "expected `red`"],
        ),
        (allow_if(r#""StringEquals": {"aws:PrincipalTag/cost-center": "5"}"#), &["no role has a tag `cost-center`"]),
        (
            allow_if(r#""StringEquals": {"aws:ResourceTag/stage": "prod"}"#),
            &["no service that is called has a tag `stage`"],
        ),
        (
            allow_if(r#""StringEquals": {"aws:PrincipalType": "Role"}"#),
            &["no caller is of a type `Role`", "`Anonymous` or `AssumedRole`"],
        ),
        (allow_if(r#""StringEquals": {"aws:PrincipalType": "User"}"#), &["no caller is of a type `User`"]),
        (
            deny_if(r#""StringNotEquals": {"aws:PrincipalAccount": "444444444444"}"#),
            &["the account `444444444444` (there is none such)"],
        ),
        (
            allow_if(r#""ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-a1b2c3d4e5/*"}"#),
            &["no account of a caller has an organization path"],
        ),
        (
            allow_if(r#""ArnLike": {"aws:PrincipalArn": "arn:aws:iam::111111111111:role/admin-*"}"#),
            &["there is no role `arn:aws:iam::111111111111:role/admin-*`"],
        ),
        (
            allow_if(
                r#""StringEquals": {"brattice:AttestedPrincipalArn": "arn:aws:vpc-lattice:local:111111111111:workload/green/bitch"}"#,
            ),
            &["no workload is attested as", "workload/green/batch`?"],
        ),
        (
            allow_if(r#""ForAnyValue:StringEquals": {"brattice:Evidence": "namespaces"}"#),
            &["there is no evidence `namespaces`", "`namespace`"],
        ),
        (
            allow_if(r#""StringEquals": {"vpc-lattice-svcs:RequestHeader/x-amzn-lattice-identity": "x"}"#),
            &["no policy sees the field `x-amzn-lattice-identity`"],
        ),
        (
            allow_if(r#""StringEquals": {"vpc-lattice-svcs:RequestHeader/x-tenant": " a"}"#),
            &["begins or ends with a blank"],
        ),
        (
            allow_if(r#""DateLessThan": {"aws:CurrentTime": "2024-06-30T23:59:59Z"}"#),
            &["is past, so the condition holds no more"],
        ),
        (
            allow_if(
                r#""IpAddress": {"aws:SourceIp": "203.0.113.0/24"}, "StringEquals": {"vpc-lattice-svcs:SourceVpc": "BLUE_ID"}"#,
            ),
            &["no VPC has an address in `203.0.113.0/24`"],
        ),
        (
            allow_if(
                r#""StringEquals": {"vpc-lattice-svcs:RequestMethod": "GET"}, "StringNotEquals": {"vpc-lattice-svcs:RequestMethod": ["GET", "HEAD"]}"#,
            ),
            &["contradict each other", "`StringNotEquals vpc-lattice-svcs:RequestMethod` with `GET`, `HEAD`"],
        ),
        (
            allow_if(r#""StringEquals": {"aws:PrincipalType": "Anonymous", "aws:PrincipalTag/team": "red"}"#),
            &["no call fulfils all that the statement asks for at once"],
        ),
        (
            allow_if(
                r#""DateGreaterThan": {"aws:CurrentTime": "2028-01-01T00:00:00Z"}, "DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"}"#,
            ),
            &["contradict each other, so the statement never applies"],
        ),
        (
            allow_if(
                r#""StringLike": {"vpc-lattice-svcs:RequestPath": "/orders/*"}, "StringNotLike": {"vpc-lattice-svcs:RequestPath": "/o*"}"#,
            ),
            &["no call fulfils all"],
        ),
        (
            policy(
                r#"{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:role/reader"}, "Action": "*", "Resource": "*/orders", "Condition": {"StringEquals": {"vpc-lattice-svcs:RequestPath": "/rates"}}}"#,
            ),
            &["no call fulfils all"],
        ),
        (
            policy(
                r#"{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:PrincipalType": "Anonymous"}}}"#,
            ),
            &["has no Allow statement, so it lets nothing pass"],
        ),
        (
            policy(&format!(r#"{ALL}, {{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}}"#)),
            &["the statement denies every call that the policy allows, so the policy lets nothing pass"],
        ),
        (
            policy(
                r#"{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"vpc-lattice-svcs:RequestMethod": "GET"}}}, {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"vpc-lattice-svcs:RequestMethod": ["GET", "HEAD"]}}}"#,
            ),
            &["the statement denies every call that the policy allows"],
        ),
        (
            deny_if(r#""StringEquals": {"aws:PrincipalType": "Anonymous", "aws:PrincipalTag/team": "red"}"#),
            &["no call fulfils all that the statement asks for at once"],
        ),
        (
            deny_if(
                r#""StringEquals": {"vpc-lattice-svcs:RequestMethod": "PUT"}, "StringNotLike": {"vpc-lattice-svcs:RequestMethod": "P*"}"#,
            ),
            &["contradict each other, so the statement never applies"],
        ),
        (policy(&ALL.replace("Invoke", "Connect")), &["only HTTP requests come here"]),
        (
            policy(ALL)
                .replace("2012-10-17", "2008-10-17")
                .replace(r#""Resource": "*""#, r#""Resource": "*/${aws:PrincipalTag/team}/*""#),
            &["policy variables work since version 2012-10-17"],
        ),
    ];
    let mut missing = String::new();
    for (policy, told) in &wrong {
        let linked = linked(policy, "");
        let found = warnings(&linked).join("\n");
        for text in told.iter().filter(|text| !found.contains(**text)) {
            writeln!(missing, "{policy}\n  does not say: {text}\n  but: {found}").unwrap();
        }
        // What lets nothing pass is never silent, whatever is expected here.
        if !passes(&linked) && found.is_empty() {
            writeln!(missing, "{policy}\n  lets nothing pass without a word").unwrap();
        }
    }
    assert!(missing.is_empty(), "{missing}");
}

#[test]
fn another_place_is_told_once() {
    let statement = |number: usize| {
        format!(
            r#"{{"Sid": "s{number}", "Effect": "Allow", "Principal": {{"AWS": "arn:aws:iam::99999999999{number}:role/a"}}, "Action": "*", "Resource": "arn:aws:vpc-lattice:eu-west-1:99999999999{number}:service/svc-0123456789abcdef0/*"}}"#
        )
    };
    let statements: Vec<String> = (0..5).map(statement).collect();
    let found = warnings(&linked(&policy(&statements.join(", ")), ""));
    let places: Vec<&String> = found.iter().filter(|text| text.contains("another place")).collect();
    assert_eq!(places.len(), 1, "{found:?}");
    assert!(places[0].contains("it has 10 names of the region `eu-west-1`"), "{}", places[0]);
    assert!(places[0].contains("`999999999990`, `999999999991`, `999999999992` and 2 more"), "{}", places[0]);
    // That, and that nothing passes.
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_trust_that_selects_no_workload_is_warned_about() {
    let role = |trust: &str| {
        let more =
            format!("---\nkind: Role\nmetadata: {{name: other}}\nspec: {{account: platform, trust: [{trust}]}}\n");
        warnings(&linked(&policy(ALL), &more)).join("\n")
    };
    for right in ["{labels: {tier: front}, evidence: [namespace]}", "{vpcIdentifier: platform/green}"] {
        let found = role(right);
        assert!(!found.contains("label") && !found.contains("selects"), "{right}: {found}");
    }
    let found = role("{labels: {tier: frond}}");
    assert!(found.contains("no Workload has the label `tier: frond`") && found.contains("`tier: front`?"), "{found}");
    let found = role("{labels: {teer: front}}");
    assert!(found.contains("no Workload has the label `teer: front`") && found.contains("`tier: front`?"), "{found}");
    let found = role("{vpcIdentifier: platform/green, workloads: [web]}");
    assert!(found.contains("the trust selects no workload"), "{found}");
    let found = role("{workloads: [web], evidence: [cgroup]}");
    assert!(found.contains("the trust selects no workload"), "{found}");
}

#[test]
fn a_roles_policy_is_looked_at_as_well() {
    let with = |statement: &str| {
        let more = format!(
            "---\nkind: Role\nmetadata: {{name: writer}}\nspec:\n  account: platform\n  trust: [{{workloads: [batch]}}]\n  policy:\n    Version: '2012-10-17'\n    Statement:\n    - {statement}\n"
        );
        warnings(&linked(&policy(ALL), &more)).join("\n")
    };
    assert_eq!(with("{Effect: Allow, Action: 'vpc-lattice-svcs:Invoke', Resource: '*/orders'}"), "");
    let found = with(
        "{Effect: Allow, Action: '*', Resource: 'arn:aws:vpc-lattice:local:222222222222:service/svc-00000000000000000/*'}",
    );
    assert!(found.contains("is no service that is called under this policy"), "{found}");
    let found =
        with("{Effect: Allow, Action: '*', Resource: '*', Condition: {StringEquals: {aws:PrincipalTag/team: red}}}");
    assert!(found.contains("no role has a tag `team`"), "{found}");
}

#[test]
fn what_is_looked_at_is_bounded() {
    let mut more = String::new();
    for number in 0..300 {
        writeln!(
            more,
            "---\nkind: Vpc\nmetadata: {{name: v{number}}}\nspec: {{account: platform, cidrBlocks: [10.0.0.0/16], attachments: [{{interface: \"v{number}-*\"}}], serviceNetworks: [platform/retail]}}"
        )
        .unwrap();
    }
    // Patterns that have to be looked at closely, for each of hundreds of callers.
    let list = |make: &dyn Fn(usize) -> String| (0..20).map(make).collect::<Vec<_>>().join(", ");
    let statement = |number: usize| {
        format!(
            r#"{{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": [{}], "Condition": {{"ArnLike": {{"brattice:AttestedPrincipalArn": [{}]}}, "StringLike": {{"vpc-lattice-svcs:RequestPath": [{}]}}}}}}"#,
            list(&|own| format!("\"*{number}a*b*c*{own}/*\"")),
            list(&|own| format!("\"arn:*:*:*:*:*w*x*y*{number}-{own}\"")),
            list(&|own| format!("\"/*p*q*{number}{own}\"")),
        )
    };
    let statements: Vec<String> = (0..30).map(statement).collect();
    let started = std::time::Instant::now();
    linked(&policy(&statements.join(", ")), &more);
    // A fraction of a second; looking at all of it would take minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}
