//! Auth policies and roles in the model, and what of them changed.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use brattice_iam::Mode;
use brattice_model::{Evidence, PolicyResource, PolicyState, diff};
use world::good;

const POLICY: &str = "kind: AuthPolicy
spec:
  resourceIdentifier: orders
  mode: audit
  policy:
    Version: '2012-10-17'
    Statement:
    - {Sid: all, Effect: Allow, Principal: '*', Action: '*', Resource: '*'}
    - {Effect: Deny, Principal: '*', Action: '*', Resource: '*/admin'}
";

const NETWORK_POLICY: &str = "kind: AuthPolicy
spec:
  resourceIdentifier: retail
  policy: '{\"Version\": \"2012-10-17\", \"Statement\": {\"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": \"*\", \"Resource\": \"*\"}}'
";

const ROLES: &str = "kind: Workload
metadata: {name: web, labels: {tier: front}}
spec: {vpcIdentifier: platform/blue, namespace: web}
---
kind: Role
metadata: {name: reader}
spec:
  account: platform
  tags: {team: red}
  trust:
  - {workloads: [web], evidence: [namespace]}
  - {vpcIdentifier: platform/green}
  policy: {Version: '2012-10-17', Statement: [{Effect: Allow, Action: '*', Resource: '*/rates'}]}
---
kind: Role
metadata: {name: front}
spec: {account: shop, trust: [{vpcIdentifier: platform/blue, labels: {tier: front}}]}
";

#[test]
fn policies_are_their_resources() {
    let files = [("accounts/shop/policy.yaml", POLICY), ("accounts/platform/policy.yaml", NETWORK_POLICY)];
    let model = good(&files).model;
    let names: Vec<String> = model.policies.iter().map(|policy| policy.resource.to_string()).collect();
    assert_eq!(names, ["the service network platform/retail", "the service shop/orders"]);
    let service = model.policy(&PolicyResource::Service("shop/orders".into())).unwrap();
    assert_eq!((service.mode, service.state), (Mode::Audit, PolicyState::Inactive));
    assert_eq!(service.origin.file(), "accounts/shop/policy.yaml");
    assert_eq!(service.policy.statements[1].at.line, 9);
    assert_eq!(&*service.policy.file, "accounts/shop/policy.yaml");
    let network = model.policy(&PolicyResource::ServiceNetwork("platform/retail".into())).unwrap();
    assert_eq!((network.mode, network.policy.statements[0].at.line), (Mode::Enforce, 4));
    assert!(model.policy(&PolicyResource::Service("platform/retail".into())).is_none());
}

#[test]
fn resources_go_by_name_id_and_arn() {
    let orders = good(&[]).model.service("shop/orders").unwrap().clone();
    for identifier in ["orders", "shop/orders", &orders.id, &orders.arn] {
        let text = POLICY.replace("resourceIdentifier: orders", &format!("resourceIdentifier: {identifier}"));
        let model = good(&[("accounts/shop/policy.yaml", &text)]).model;
        assert_eq!(model.policies[0].resource, PolicyResource::Service("shop/orders".into()), "{identifier}");
    }
}

#[test]
fn roles_trust_whom_they_name() {
    let model = good(&[("roles.yaml", ROLES)]).model;
    let (front, reader) = (model.role("shop/front").unwrap(), model.role("platform/reader").unwrap());
    assert_eq!(reader.arn, "arn:aws:iam::111111111111:role/reader");
    assert_eq!(reader.tags["team"], "red");
    assert!(reader.status.is_active() && reader.policy.is_some() && front.policy.is_none());
    let web = model.workloads.iter().find(|workload| workload.name == "web");
    let namespace = &[Evidence::Namespace];
    assert!(reader.trusts("platform/blue", web, namespace) && reader.trusts("platform/green", None, &[]));
    assert!(!reader.trusts("platform/blue", None, namespace) && !reader.trusts("bank/vault", None, namespace));
    assert!(!reader.trusts("platform/blue", web, &[Evidence::Interface]));
    assert!(front.trusts("platform/blue", web, &[]));
    assert!(!front.trusts("platform/blue", None, &[]) && !front.trusts("platform/green", web, &[]));
}

#[test]
fn changes_are_told_statement_by_statement() {
    let before = good(&[("accounts/shop/policy.yaml", POLICY), ("roles.yaml", ROLES)]).model;
    let policy = POLICY.replace("*/admin", "*/root").replace("mode: audit", "mode: enforce");
    let roles = ROLES.replace("platform/green", "bank/vault").replace("team: red", "team: blue");
    let after = good(&[("accounts/shop/policy.yaml", &policy), ("roles.yaml", &roles)]).model;
    let changes: Vec<String> = diff(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "~ AuthPolicy the service shop/orders\n    mode: audit -> enforce\n    policy.statements.1: \
             {\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"*\", \"Resource\": \"*/admin\"} -> \
             {\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"*\", \"Resource\": \"*/root\"}",
            "~ Role platform/reader\n    tags.team: red -> blue\n    trust: workloads web and known by namespace, \
             VPC platform/green -> workloads web and known by namespace, VPC bank/vault",
        ]
    );
    assert_eq!(diff(&before, &before), []);
}

/// What is said of a policy that stands behind `policy: `, its later lines as they are.
fn said(policy: &str) -> Vec<String> {
    let text = format!("kind: AuthPolicy\nspec:\n  resourceIdentifier: orders\n  policy: {policy}\n");
    let mut sources = world::sources();
    sources.push(world::source("accounts/shop/policy.yaml", &text));
    let outcome = world::read(&sources, &brattice_model::VipState::default(), 0);
    outcome.errors.iter().map(ToString::to_string).collect()
}

#[test]
fn policies_in_one_line_name_the_statement() {
    let one = r#"{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}"#;
    let two = format!(r#"{{"Statement": [{one}, {}]}}"#, one.replace("Allow", "allow"));
    let escaped = format!("\"{}\"", two.replace('"', "\\\""));
    // As written, every place is known; where only the beginning is, the number tells the statements apart.
    let found = said(&format!("'{two}'"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("accounts/shop/policy.yaml:4:"), "{found:?}");
    assert!(!found[0].starts_with("accounts/shop/policy.yaml:4:11:"), "{found:?}");
    for text in [format!("'{two}'"), escaped, format!(">\n    {two}")] {
        let found = said(&text);
        assert!(found.len() == 1 && found[0].contains(": statement 2: unknown Effect `allow`"), "{text}: {found:?}");
    }
    // Each on lines of its own: their places say it all.
    let lines = said(&format!("|\n    {}", two.replace("}, {", "},\n    {")));
    assert!(lines.len() == 1 && lines[0].contains(":6:") && !lines[0].contains("statement 2"), "{lines:?}");
}

#[test]
fn the_first_of_two_is_where_it_is_in_the_file() {
    let member = "{\"Version\": \"2012-10-17\",\n    \"Statement\": [],\n    \"Version\": \"2012-10-17\"}";
    let found = said(&format!("|\n    {member}"));
    assert_eq!(found.len(), 1, "{found:?}");
    let expected = "accounts/shop/policy.yaml:7:5: the name `Version` is there twice; first at line 5, column 6";
    assert!(found[0].starts_with(expected), "{found:?}");
    // Folded, the lines are those of the text alone, and the message says that.
    let found = said(&format!(">\n    {member}"));
    assert!(
        found[0].contains("line 1, column ")
            && found[0].contains(" of the policy: the name `Version` is there twice; first at line 1, column 2"),
        "{found:?}"
    );
    let one = r#"{"Sid": "a", "Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}"#;
    let found = said(&format!("|\n    {{\"Statement\": [\n    {one},\n    {one}]}}"));
    assert!(found[0].contains("policy.yaml:7:5: the Sid `a` is there twice; first in statement 1"), "{found:?}");
}
