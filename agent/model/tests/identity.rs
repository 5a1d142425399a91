//! The identities of live workloads, and what they follow from, in the snapshot.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use brattice_model::{Binding, Evidence, Model, NoRole, Numbers, Plan, Roles, plan};
use brattice_wire::auth::{AuthType, PolicyAttachment};
use brattice_wire::index::NetworkIndex;
use brattice_wire::snapshot::{AliasGeneration, Workload, WorkloadNumber};
use world::good;

const ROLES: &str = "kind: Workload
metadata: {name: web, labels: {tier: front}}
spec: {vpcIdentifier: platform/blue, namespace: web}
---
kind: Workload
metadata: {name: batch, labels: {tier: back}}
spec: {vpcIdentifier: platform/blue, namespace: batch, roleIdentifier: worker}
---
kind: Role
metadata: {name: front}
spec:
  account: shop
  tags: {team: red}
  trust: [{workloads: [web], evidence: [namespace]}]
  policy: {Version: '2012-10-17', Statement: [{Effect: Allow, Action: '*', Resource: '*'}]}
---
kind: Role
metadata: {name: worker}
spec: {account: platform, trust: [{labels: {tier: back}}]}
---
kind: Role
metadata: {name: spare}
spec: {account: platform, trust: [{labels: {tier: back}}]}
---
kind: Role
metadata: {name: green}
spec: {account: platform, trust: [{vpcIdentifier: platform/green}]}
";

fn binding(vpc: &str, name: &str, documented: bool, evidence: &[Evidence], alias: u8) -> Binding {
    Binding {
        vpc: vpc.into(),
        address: format!("10.0.0.{alias}").parse().unwrap(),
        alias: format!("100.127.0.{alias}").parse().unwrap(),
        name: name.into(),
        documented,
        evidence: evidence.to_vec(),
        number: WorkloadNumber::new(u32::from(alias)),
        generation: AliasGeneration::new(1),
    }
}

const ALL: &[Evidence] = &[Evidence::Interface, Evidence::Namespace];

fn planned(model: &Model, bindings: &[Binding]) -> Plan {
    plan(model, bindings, &mut Numbers::default(), 1)
}

/// The only workload of a plan, and the name of its role.
fn only(model: &Model, binding: Binding) -> (Workload, Option<String>) {
    let snapshot = planned(model, &[binding]).snapshot;
    let [workload] = &snapshot.workloads[..] else { panic!("one workload") };
    // A role without a workload is left out.
    assert_eq!(snapshot.roles.len(), usize::from(workload.role.is_some()));
    (workload.clone(), workload.role.map(|role| snapshot.roles[role.position()].name.clone()))
}

#[test]
fn a_workload_with_a_role_is_its_session() {
    let model = good(&[("roles.yaml", ROLES)]).model;
    let (web, role) = only(&model, binding("platform/blue", "web", true, ALL, 1));
    assert_eq!(role.as_deref(), Some("shop/front"));
    assert_eq!(web.attested, "arn:aws:sts::222222222222:assumed-role/front/web");
    assert_eq!(
        (web.session.as_str(), &web.evidence[..]),
        ("web", &["interface".to_owned(), "namespace".to_owned()][..])
    );
    // Not known by what the role's trust asks for.
    let (web, role) = only(&model, binding("platform/blue", "web", true, &[Evidence::Interface], 1));
    assert_eq!((role, web.session.as_str()), (None, ""));
    assert_eq!(web.attested, "arn:aws:vpc-lattice:local:111111111111:workload/blue/web");
}

#[test]
fn what_is_only_called_like_a_workload_has_nothing_of_it() {
    let model = good(&[("roles.yaml", ROLES)]).model;
    for (vpc, documented) in [("platform/blue", false), ("platform/green", true), ("bank/vault", false)] {
        let (_, role) = only(&model, binding(vpc, "web", documented, ALL, 1));
        assert_eq!(role, None, "{vpc} {documented}");
    }
    // One without a document has the role of its VPC; a document that is gone leaves none.
    let (other, role) = only(&model, binding("platform/green", "veth a", false, ALL, 1));
    assert_eq!(role.as_deref(), Some("platform/green"));
    let green = model.vpc("platform/green").unwrap();
    assert_eq!(other.attested, format!("arn:aws:sts::111111111111:assumed-role/green/veth=20a@{}", green.id));
    assert_eq!(only(&model, binding("platform/green", "gone", true, ALL, 1)).1, None);
}

#[test]
fn of_several_roles_the_one_that_is_named_or_none() {
    let linked = good(&[("roles.yaml", ROLES)]);
    assert!(linked.warnings.is_empty(), "{:?}", linked.warnings);
    let (_, role) = only(&linked.model, binding("platform/blue", "batch", true, ALL, 1));
    assert_eq!(role.as_deref(), Some("platform/worker"));
    let unnamed = ROLES.replace(", roleIdentifier: worker", "");
    let linked = good(&[("roles.yaml", &unnamed)]);
    assert_eq!(linked.warnings.values().flatten().count(), 1);
    let (batch, role) = only(&linked.model, binding("platform/blue", "batch", true, ALL, 1));
    assert_eq!((role, batch.attested.as_str()), (None, "arn:aws:vpc-lattice:local:111111111111:workload/blue/batch"));
    let workload = linked.model.workloads.iter().find(|workload| workload.name == "batch");
    let roles = Roles::new(&linked.model);
    let Err(NoRole::Several(several)) = roles.of("platform/blue", workload, ALL) else { panic!("several") };
    assert_eq!(
        several.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(),
        ["platform/spare", "platform/worker"]
    );
}

#[test]
fn a_workload_of_the_operators_vpc_has_the_operators_account() {
    let model = good(&[]).model;
    let (node, _) = only(&model, binding("node", "eth", false, &[Evidence::Interface], 1));
    let id = &model.vpc("node").unwrap().id;
    assert_eq!(node.attested, format!("arn:aws:vpc-lattice:local:000000000000:workload/node/eth@{id}"));
    let snapshot = planned(&model, &[]).snapshot;
    let account = |name: &str| snapshot.vpcs.iter().find(|vpc| vpc.name == name).unwrap().account.clone();
    assert_eq!((account("node").as_str(), account("bank/vault").as_str()), ("", "333333333333"));
}

#[test]
fn a_role_says_all_that_policies_may_ask() {
    let operator = world::sources()[0]
        .text
        .replace("spec: {id: \"222222222222\",", "spec: {id: \"222222222222\", organizationPath: o-a/r-b/ou-c/,");
    let model = good(&[("node.yaml", &operator), ("roles.yaml", ROLES)]).model;
    let bindings = [binding("platform/blue", "web", true, ALL, 1), binding("platform/green", "a", false, ALL, 2)];
    let snapshot = planned(&model, &bindings).snapshot;
    let [green, front] = &snapshot.roles[..] else { panic!("two roles") };
    assert_eq!((front.name.as_str(), front.arn.as_str()), ("shop/front", "arn:aws:iam::222222222222:role/front"));
    assert_eq!((front.account.as_str(), front.organization.as_deref()), ("222222222222", Some("o-a")));
    assert_eq!(front.organization_paths, ["o-a/r-b/ou-c/"]);
    assert_eq!(front.tags, [("team".to_owned(), "red".to_owned())]);
    assert_eq!((front.origin.file(), front.origin.line()), ("roles.yaml", 10));
    let policy = &snapshot.policies[front.policy.unwrap().position()];
    assert_eq!((policy.attachment, policy.name.as_str(), policy.audit), (PolicyAttachment::Role, "shop/front", false));
    assert_eq!((policy.file.as_str(), &policy.lines[..]), ("roles.yaml", &[15][..]));
    assert_eq!((green.organization.as_deref(), green.policy), (None, None));
    assert_eq!(snapshot.policies.len(), 1);
}

const NETWORK: &str = "kind: ServiceNetwork
metadata: {name: retail}
spec: {sharedWith: [shop], authType: AWS_IAM}
---
kind: ServiceNetwork
metadata: {name: private}
---
kind: AuthPolicy
spec:
  resourceIdentifier: retail
  mode: audit
  policy:
    Version: '2012-10-17'
    Statement:
    - {Effect: Allow, Principal: '*', Action: '*', Resource: '*'}
    - {Effect: Deny, Principal: '*', Action: '*', Resource: '*/admin'}
";

const SERVICE_POLICY: &str = "kind: AuthPolicy
spec:
  resourceIdentifier: orders
  policy: {Version: '2012-10-17', Statement: [{Effect: Allow, Principal: '*', Action: '*', Resource: '*'}]}
";

#[test]
fn policies_are_there_where_they_decide() {
    let files = [("accounts/platform/networks.yaml", NETWORK), ("accounts/shop/policy.yaml", SERVICE_POLICY)];
    let snapshot = planned(&good(&files).model, &[]).snapshot;
    // The network `private` has no members.
    let [retail] = &snapshot.networks[..] else { panic!("one network") };
    let retail_index = NetworkIndex::new(0);
    assert_eq!((retail.name.as_str(), retail.auth_type), ("platform/retail", AuthType::AwsIam));
    assert_eq!(retail.origin.file(), "accounts/platform/networks.yaml");
    let policy = &snapshot.policies[retail.policy.unwrap().position()];
    assert_eq!((policy.attachment, policy.audit), (PolicyAttachment::ServiceNetwork, true));
    assert_eq!(policy.lines, [15, 16]);
    // The service's authType is NONE, so its policy decides nothing.
    let orders = &snapshot.services[0];
    assert_eq!((orders.auth_type, orders.policy, &orders.networks[..]), (AuthType::None, None, &[retail_index][..]));
    assert_eq!((snapshot.policies.len(), orders.account.as_str()), (1, "222222222222"));
    let networks = |name: &str| snapshot.vpcs.iter().find(|vpc| vpc.name == name).unwrap().networks.clone();
    assert_eq!((networks("platform/blue"), networks("bank/vault")), (vec![retail_index], vec![]));

    let service = world::sources()[2]
        .text
        .replace("serviceNetworks:", "authType: AWS_IAM\n  tags: {stage: live}\n  serviceNetworks:");
    let files = [("accounts/shop/orders.yaml", service.as_str()), ("accounts/shop/policy.yaml", SERVICE_POLICY)];
    let linked = good(&files);
    assert!(linked.warnings.is_empty(), "{:?}", linked.warnings);
    assert_eq!(linked.model.policies[0].state.word(), "Active");
    let snapshot = planned(&linked.model, &[]).snapshot;
    let orders = &snapshot.services[0];
    assert_eq!(orders.auth_type, AuthType::AwsIam);
    assert_eq!(orders.tags, [("stage".to_owned(), "live".to_owned())]);
    let policy = &snapshot.policies[orders.policy.unwrap().position()];
    assert_eq!(policy.attachment, PolicyAttachment::Service { http: true, tcp: false });
    assert_eq!((snapshot.networks[0].auth_type, snapshot.networks[0].policy), (AuthType::None, None));
}

/// What the engine is given, it can read: the same statements in the same order.
#[test]
fn policies_are_read_again_as_they_were() {
    let files = [("accounts/platform/networks.yaml", NETWORK), ("roles.yaml", ROLES)];
    let model = good(&files).model;
    let snapshot = planned(&model, &[binding("platform/blue", "web", true, ALL, 1)]).snapshot;
    assert_eq!(snapshot.policies.len(), 2);
    for policy in &snapshot.policies {
        let attachment = match policy.attachment {
            PolicyAttachment::Role => brattice_iam::Attachment::Role,
            PolicyAttachment::ServiceNetwork => brattice_iam::Attachment::ServiceNetwork,
            PolicyAttachment::Service { http, tcp } => brattice_iam::Attachment::Service { http, tcp },
        };
        let read = brattice_iam::Policy::from_json(&policy.json, policy.file.as_str(), attachment);
        let read = read.policy.expect("a policy without errors");
        assert_eq!((read.json(), read.statements.len()), (policy.json.clone(), policy.lines.len()));
    }
}
