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
    assert_eq!(service.origin.file, "accounts/shop/policy.yaml");
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
