//! A small world of documents, and reading a policies directory as the agent does.

// Each test uses its part; a panic in a test is the report.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;

use brattice_model::{Diagnostic, Documents, Linked, Owner, Settings, Source, VipState, link, parse};

pub const VIP: &str = "169.254.64.0/20";
pub const ALIAS: &str = "100.127.0.0/16";
pub const VIP6: &str = "fd00:a9fe::/64";
pub const ALIAS6: &str = "fd00:64::/48";

pub fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

pub fn sources() -> Vec<Source> {
    vec![
        source(
            "node.yaml",
            r#"kind: Account
metadata: {name: platform}
spec: {id: "111111111111"}
---
kind: Account
metadata: {name: shop}
spec: {id: "222222222222", domains: [shop.internal, "*.store.internal"], vpcs: [platform/green]}
---
kind: Account
metadata: {name: bank}
spec: {id: "333333333333", domains: [internal]}
---
kind: Vpc
metadata: {name: blue}
spec:
  account: platform
  cidrBlocks: [10.0.0.0/16]
  attachments: [{namespace: "blue*"}]
  serviceNetworks: [platform/retail]
---
kind: Vpc
metadata: {name: green}
spec: {account: platform, cidrBlocks: [10.0.0.0/16, 10.9.0.0/24], serviceNetworks: [platform/retail]}
---
kind: Vpc
metadata: {name: vault}
spec: {account: bank, cidrBlocks: [10.0.0.0/16]}
---
kind: Vpc
metadata: {name: node}
spec: {cidrBlocks: [192.168.0.0/24]}
"#,
        ),
        source(
            "accounts/platform/networks.yaml",
            "kind: ServiceNetwork
metadata: {name: retail}
spec: {sharedWith: [shop]}
---
kind: ServiceNetwork
metadata: {name: private}
",
        ),
        source(
            "accounts/shop/orders.yaml",
            "kind: Service
metadata: {name: orders}
spec:
  customDomainNames: [orders.shop.internal]
  serviceNetworks: [platform/retail]
  listeners:
  - protocol: HTTP
    defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: orders-v1}]}}
---
kind: TargetGroup
metadata: {name: orders-v1}
spec: {config: {vpcIdentifier: platform/green, port: 8080}, targets: [{id: 10.0.0.10}]}
",
        ),
    ]
}

/// What reading a directory gave.
pub struct Outcome {
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
    pub documents: BTreeMap<Owner, Documents>,
    pub linked: Option<Linked>,
}

/// Parses all owners and, if that works for all, links them.
pub fn read(sources: &[Source], vips: &VipState, now: u64) -> Outcome {
    let mut by_owner: BTreeMap<Owner, Vec<Source>> = BTreeMap::new();
    let mut outcome = Outcome { errors: Vec::new(), warnings: Vec::new(), documents: BTreeMap::new(), linked: None };
    for source in sources {
        match Owner::of_path(&source.path) {
            Ok(owner) => by_owner.entry(owner).or_default().push(source.clone()),
            Err(diagnostic) => outcome.errors.push(*diagnostic),
        }
    }
    for (owner, sources) in by_owner {
        match parse(&owner, &sources) {
            Ok(documents) => {
                outcome.documents.insert(owner, documents);
            }
            Err(errors) => outcome.errors.extend(errors),
        }
    }
    if outcome.errors.is_empty() {
        let linked = link(&outcome.documents, &settings(vips, now));
        outcome.errors.extend(linked.errors.values().flatten().cloned());
        outcome.warnings.extend(linked.warnings.values().flatten().cloned());
        outcome.linked = Some(linked);
    }
    outcome
}

pub fn settings(vips: &VipState, now: u64) -> Settings<'_> {
    Settings {
        dns_suffix: brattice_model::limits::DEFAULT_DNS_SUFFIX,
        region: "local",
        vip: VIP.parse().unwrap(),
        alias: ALIAS.parse().unwrap(),
        ipv6: Some(brattice_model::Ipv6Pools { vip: VIP6.parse().unwrap(), alias: ALIAS6.parse().unwrap(), on: true }),
        vips,
        now,
    }
}

/// The world with one more file (or one replaced), which must be right.
pub fn good(files: &[(&str, &str)]) -> Linked {
    let mut sources = sources();
    for (path, text) in files {
        sources.retain(|source| source.path != *path);
        sources.push(source(path, text));
    }
    let outcome = read(&sources, &VipState::default(), 0);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    outcome.linked.expect("no errors")
}
