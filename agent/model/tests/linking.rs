//! The model of documents of several owners: statuses, grants, conflicts, VIPs, changes.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use std::collections::BTreeMap;

use brattice_model::{
    Documents, FieldChange, Identifier, Linked, Model, Owner, Status, VipState, What, diff, failure, link, parse,
    removed_services,
};
use world::{good, read, settings, source, sources};

fn status<'m>(model: &'m Model, member: &str, network: &str) -> &'m Status {
    let found = model.associations.iter().find(|a| a.member == member && a.network == network);
    &found.unwrap_or_else(|| panic!("{member} in {network}: {:#?}", model.associations)).status
}

fn code(status: &Status) -> &str {
    status.failure().map_or("", |(code, _)| code)
}

fn carts(domains: &str, networks: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{name: carts}}\nspec:\n  customDomainNames: [{domains}]\n  serviceNetworks: [{networks}]\n  \
         listeners: [{{protocol: HTTP, defaultAction: {{fixedResponse: {{statusCode: 404}}}}}}]\n"
    )
}

#[test]
fn a_good_world_is_active_and_has_ids_and_arns() {
    let Linked { model, .. } = good(&[]);
    let orders = model.service("shop/orders").unwrap();
    assert_eq!(orders.status.word(), "ACTIVE");
    assert_eq!(orders.arn, format!("arn:aws:vpc-lattice:local:222222222222:service/{}", orders.id));
    assert_eq!(orders.generated_name, format!("orders-{}.svc.brattice.internal", orders.id));
    assert_eq!(orders.vip.unwrap().to_string(), "169.254.64.32");
    let listener = &orders.listeners[0];
    assert_eq!((listener.name.as_str(), listener.port), ("http-80", 80));
    assert_eq!(listener.arn, format!("{}/listener/{}", orders.arn, listener.id));
    assert!(listener.id.starts_with("listener-") && listener.id.len() == "listener-".len() + 17);
    let blue = model.vpc("platform/blue").unwrap();
    assert_eq!(blue.arn, format!("arn:aws:ec2:local:111111111111:vpc/{}", blue.id));
    assert!(model.vpc("node").unwrap().arn.contains(":000000000000:vpc/"));
    assert!(status(&model, "shop/orders", "platform/retail").is_active());
    assert!(status(&model, "platform/blue", "platform/retail").is_active());
    let ids: Vec<&str> = model.associations.iter().map(|a| a.id.split('-').next().unwrap()).collect();
    assert_eq!(ids, ["snsa", "snva", "snva"]);
    assert_eq!(model.dns_vip().to_string(), "169.254.64.17");
}

#[test]
fn every_kind_of_identifier_means_the_same() {
    let group = good(&[]).model.target_group("shop/orders-v1").unwrap().clone();
    for identifier in ["orders-v1", "shop/orders-v1", "222222222222/orders-v1", &group.id, &group.arn] {
        let text = format!(
            "kind: Service\nmetadata: {{name: carts}}\nspec:\n  listeners:\n  - protocol: HTTP\n    defaultAction: \
             {{forward: {{targetGroups: [{{targetGroupIdentifier: \"{identifier}\"}}]}}}}\n"
        );
        let model = good(&[("accounts/shop/x.yaml", &text)]).model;
        let action = &model.service("shop/carts").unwrap().listeners[0].default_action;
        assert_eq!(action.to_string(), "forward to shop/orders-v1 (100)", "{identifier}");
    }
    assert_eq!(Identifier::Qualified("a".into(), "b".into()).to_string(), "a/b");
}

#[test]
fn ids_do_not_depend_on_what_else_there_is() {
    let (one, two) = (good(&[]).model, good(&[("accounts/shop/a.yaml", &carts("a.shop.internal", ""))]).model);
    assert_eq!(one.service("shop/orders").unwrap().id, two.service("shop/orders").unwrap().id);
    assert_eq!(one.network("platform/retail"), two.network("platform/retail"));
}

#[test]
fn an_association_without_grant_fails_and_others_stay() {
    let text = carts("carts.shop.internal", "platform/private, platform/retail, platform/retial");
    let linked = good(&[("accounts/shop/x.yaml", &text)]);
    assert_eq!(code(status(&linked.model, "shop/carts", "platform/private")), failure::ACCESS_DENIED);
    assert_eq!(code(status(&linked.model, "shop/carts", "platform/retial")), failure::NETWORK_NOT_FOUND);
    assert!(status(&linked.model, "shop/carts", "platform/retail").is_active());
    assert!(linked.model.service("shop/carts").unwrap().status.is_active());
    assert_eq!(linked.warnings.keys().collect::<Vec<_>>(), [&Owner::Account("shop".into())]);
}

#[test]
fn a_network_owner_may_take_a_service_shared_with_it() {
    let text = carts("carts.shop.internal", "").replace("spec:\n", "spec:\n  sharedWith: [platform]\n");
    let association = "kind: ServiceNetworkServiceAssociation\nspec: {serviceIdentifier: shop/carts, serviceNetworkIdentifier: private}\n";
    let linked = good(&[("accounts/shop/x.yaml", &text), ("accounts/platform/x.yaml", association)]);
    assert!(status(&linked.model, "shop/carts", "platform/private").is_active());
    let linked = good(&[
        ("accounts/shop/x.yaml", &text.replace("[platform]", "[bank]")),
        ("accounts/platform/x.yaml", association),
    ]);
    assert_eq!(code(status(&linked.model, "shop/carts", "platform/private")), failure::ACCESS_DENIED);
}

#[test]
fn if_either_side_may_associate_it_is_associated() {
    // The service's owner has no grant, the network's owner has one.
    let text = carts("carts.shop.internal", "platform/private").replace("spec:\n", "spec:\n  sharedWith: [platform]\n");
    let association = "kind: ServiceNetworkServiceAssociation\nspec: {serviceIdentifier: shop/carts, serviceNetworkIdentifier: private}\n";
    let linked = good(&[("accounts/shop/x.yaml", &text), ("accounts/platform/x.yaml", association)]);
    assert!(status(&linked.model, "shop/carts", "platform/private").is_active());
    assert_eq!(linked.model.associations_of_service("shop/carts").count(), 1);
}

#[test]
fn the_operators_vpc_needs_no_grant_and_an_accounts_does() {
    let association = |vpc: &str| {
        format!(
            "kind: ServiceNetworkVpcAssociation\nspec: {{vpcIdentifier: {vpc}, serviceNetworkIdentifier: platform/private}}\n"
        )
    };
    let model = good(&[("x.yaml", &association("node"))]).model;
    assert!(status(&model, "node", "platform/private").is_active());
    let model = good(&[("x.yaml", &association("bank/vault"))]).model;
    assert_eq!(code(status(&model, "bank/vault", "platform/private")), failure::ACCESS_DENIED);
    // An account may do it for its own VPC.
    let network = "kind: ServiceNetwork\nmetadata: {name: own}\n---\nkind: ServiceNetworkVpcAssociation\nspec: {vpcIdentifier: vault, serviceNetworkIdentifier: own}\n";
    let model = good(&[("accounts/bank/x.yaml", network)]).model;
    assert!(status(&model, "bank/vault", "bank/own").is_active());
}

#[test]
fn of_two_services_with_one_domain_in_a_network_the_first_by_owner_keeps_it() {
    let shared = "kind: ServiceNetwork\nmetadata: {name: retail}\nspec: {sharedWith: [shop, bank]}\n---\nkind: ServiceNetwork\nmetadata: {name: private}\n";
    let linked = good(&[
        ("accounts/platform/networks.yaml", shared),
        ("accounts/bank/x.yaml", &carts("orders.shop.internal", "platform/retail")),
    ]);
    assert!(status(&linked.model, "bank/carts", "platform/retail").is_active());
    let lost = status(&linked.model, "shop/orders", "platform/retail");
    assert_eq!(code(lost), failure::DOMAIN_CONFLICT);
    assert!(lost.to_string().contains("bank/carts at accounts/bank/x.yaml:2"), "{lost}");
    assert!(linked.warnings[&Owner::Account("shop".into())][0].message.contains("already claimed"));
}

#[test]
fn one_domain_in_two_networks_is_no_conflict_but_a_vpc_in_both_is_warned_about() {
    let network = "kind: ServiceNetwork\nmetadata: {name: own}\n---\n";
    let bank = format!("{network}{}", carts("orders.shop.internal", "own"));
    let linked = good(&[("accounts/bank/x.yaml", &bank)]);
    assert!(linked.warnings.is_empty());
    let both = "kind: ServiceNetworkVpcAssociation\nspec: {vpcIdentifier: node, serviceNetworkIdentifier: bank/own}\n---\nkind: ServiceNetworkVpcAssociation\nspec: {vpcIdentifier: node, serviceNetworkIdentifier: platform/retail}\n";
    let linked = good(&[("accounts/bank/x.yaml", &bank), ("x.yaml", both)]);
    assert!(status(&linked.model, "shop/orders", "platform/retail").is_active());
    assert!(linked.warnings[&Owner::Operator][0].message.contains("means bank/carts"));
}

#[test]
fn a_target_group_without_its_vpc_fails_alone() {
    let text = "kind: TargetGroup\nmetadata: {name: orders-v2}\nspec: {config: {vpcIdentifier: platform/gone}}\n";
    let model = good(&[("accounts/shop/x.yaml", text)]).model;
    assert_eq!(code(&model.target_group("shop/orders-v2").unwrap().status), failure::VPC_NOT_FOUND);
    assert!(model.service("shop/orders").unwrap().status.is_active());
}

#[test]
fn an_owner_with_errors_does_not_keep_the_others_from_linking() {
    // The operator takes the domain and the VPC away: shop's documents are wrong now, and only what they are wrong in fails.
    let mut files = sources();
    files[0].text = files[0]
        .text
        .replace("domains: [shop.internal, \"*.store.internal\"], vpcs: [platform/green]", "domains: [else.internal]");
    let outcome = read(&files, &VipState::default(), 0);
    let linked = outcome.linked.unwrap();
    assert_eq!(linked.errors.keys().collect::<Vec<_>>(), [&Owner::Account("shop".into())]);
    assert_eq!(linked.errors.values().next().unwrap().len(), 2);
    assert_eq!(code(&linked.model.service("shop/orders").unwrap().status), failure::INVALID);
    assert_eq!(code(&linked.model.target_group("shop/orders-v1").unwrap().status), failure::INVALID);
    assert_eq!(code(status(&linked.model, "shop/orders", "platform/retail")), failure::MEMBER_FAILED);
    assert!(linked.model.network("platform/retail").unwrap().status.is_active());
}

#[test]
fn an_account_that_is_not_there_takes_its_folder_with_it() {
    let mut files = sources();
    files.push(source("accounts/ghost/x.yaml", "kind: ServiceNetwork\nmetadata: {name: mine}\n"));
    let linked = read(&files, &VipState::default(), 0).linked.unwrap();
    assert!(linked.errors.contains_key(&Owner::Account("ghost".into())));
    assert!(linked.model.network("ghost/mine").is_none());
    assert!(linked.model.service("shop/orders").unwrap().status.is_active());
}

#[test]
fn vips_stay_and_freed_ones_rest() {
    let two = [("accounts/shop/x.yaml", carts("carts.shop.internal", ""))];
    let with: Vec<_> = sources().into_iter().chain(two.iter().map(|(path, text)| source(path, text))).collect();
    let first = read(&with, &VipState::default(), 1_000).linked.unwrap();
    let vip = |linked: &Linked, name: &str| linked.model.service(name).and_then(|s| s.vip).map(|v| v.to_string());
    assert_eq!(vip(&first, "shop/carts").unwrap(), "169.254.64.32");
    assert_eq!(vip(&first, "shop/orders").unwrap(), "169.254.64.33");
    let without = read(&sources(), &first.vips, 2_000).linked.unwrap();
    assert_eq!(vip(&without, "shop/orders").unwrap(), "169.254.64.33");
    let back = read(&with, &without.vips, 2_100).linked.unwrap();
    assert_eq!(vip(&back, "shop/carts").unwrap(), "169.254.64.32");
}

#[test]
fn an_exhausted_vip_range_is_an_error_of_who_is_last() {
    let documents: BTreeMap<Owner, Documents> = read(&sources(), &VipState::default(), 0).documents;
    let vips = VipState::default();
    let mut settings = settings(&vips, 0);
    // 32 addresses are reserved; one is left, then none.
    settings.vip = "169.254.64.0/27".parse().unwrap();
    let linked = link(&documents, &settings);
    let errors = &linked.errors[&Owner::Account("shop".into())];
    assert!(errors[0].to_string().starts_with("accounts/shop/orders.yaml:2:18: no VIP is left"), "{}", errors[0]);
    let orders = linked.model.service("shop/orders").unwrap();
    assert_eq!((code(&orders.status), orders.vip), (failure::VIPS_EXHAUSTED, None));
}

#[test]
fn the_guard_counts_what_goes_away() {
    let services = |names: &[&str]| {
        let text: String = names.iter().map(|name| carts("", "").replace("carts", name) + "---\n").collect();
        parse(&Owner::Account("shop".into()), &[source("accounts/shop/x.yaml", &text)]).unwrap()
    };
    assert_eq!(removed_services(&services(&["aaa", "bbb", "ccc"]), &services(&["ccc", "ddd"])), (2, 3));
    assert_eq!(removed_services(&services(&[]), &services(&["ccc"])), (0, 0));
    let documents = read(&sources(), &VipState::default(), 0).documents;
    // The operator: 3 accounts and 4 VPCs; a network is counted where there are no services.
    let (operator, platform) = (&documents[&Owner::Operator], &documents[&Owner::Account("platform".into())]);
    let mut fewer = operator.clone();
    fewer.vpcs.truncate(1);
    assert_eq!(removed_services(operator, &fewer), (3, 4));
    assert_eq!(removed_services(operator, &Documents::default()), (3, 3));
    assert_eq!(removed_services(platform, &Documents::default()), (2, 2));
}

#[test]
fn differences_are_told_by_field() {
    let before = good(&[]).model;
    let changed = sources()[2]
        .text
        .replace("orders-v1}]", "orders-v1, weight: 0}, {targetGroupIdentifier: orders-v2, weight: 100}]")
        + "---\nkind: TargetGroup\nmetadata: {name: orders-v2}\nspec: {config: {vpcIdentifier: platform/green, port: 8080}}\n";
    let after = good(&[("accounts/shop/orders.yaml", &changed)]).model;
    let changes = diff(&before, &after);
    assert_eq!(changes.len(), 2);
    assert_eq!((changes[0].kind, changes[0].name.as_str()), ("Service", "shop/orders"));
    let field = FieldChange {
        field: "listeners.http-80.defaultAction".into(),
        old: Some("forward to shop/orders-v1 (100)".into()),
        new: Some("forward to shop/orders-v1 (0), shop/orders-v2 (100)".into()),
    };
    assert_eq!(changes[0].what, What::Changed(vec![field]));
    assert_eq!(changes[1].to_string(), "+ TargetGroup shop/orders-v2");
    assert_eq!(diff(&after, &before)[1].to_string(), "- TargetGroup shop/orders-v2");
    // Lines that move are no change.
    let moved = good(&[("accounts/shop/orders.yaml", &format!("# a comment\n{}", sources()[2].text))]).model;
    assert_eq!(diff(&before, &moved), []);
}

#[test]
fn vpcs_that_select_by_the_same_pattern_are_told() {
    let vpcs = |pattern: &str| {
        format!(
            "kind: Vpc\nmetadata: {{name: one}}\nspec: {{cidrBlocks: [10.9.0.0/16], attachments: [{{interface: \"x*\"}}]}}\n---\n\
             kind: Vpc\nmetadata: {{name: two}}\nspec: {{cidrBlocks: [10.9.0.0/16], attachments: [{{{pattern}}}]}}\n"
        )
    };
    let reported = |pattern: &str| -> Vec<String> {
        let linked = good(&[("more.yaml", &vpcs(pattern))]);
        let warnings = linked.warnings.get(&Owner::Operator).cloned().unwrap_or_default();
        warnings.iter().map(ToString::to_string).filter(|text| text.contains("same pattern")).collect()
    };
    let same = reported("interface: \"x*\"");
    assert_eq!(same.len(), 1, "{same:?}");
    assert!(
        same[0].starts_with("more.yaml:")
            && same[0].contains("two selects by the same pattern (interface: \"x*\") as one")
    );
    for other in ["interface: \"y*\"", "namespace: \"x*\"", "interface: \"x*\", namespace: \"x*\""] {
        assert_eq!(reported(other), [""; 0], "{other}");
    }
}
