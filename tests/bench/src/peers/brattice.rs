//! Brattice, on a node of a given size.

use std::{fmt::Write, fs, rc::Rc};

use anyhow::{Context, Result, ensure};
use brattice_tests::lab::{ALIAS_RANGE, AgentOptions, Lab, Namespace, sh};

use super::Peer;
use crate::{
    cpu,
    site::{HTTP1, SERVER, Site},
};

/// Name of the service that is measured.
pub(crate) const HOST: &str = "orders.shop.internal";
/// Services of one owner's folder; an account may have more.
const SERVICES_PER_ACCOUNT: usize = 500;
/// VIPs for 10,000 services and more; of addresses that no site uses.
const VIP_RANGE: &str = "172.20.0.0/16";

/// What is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Features {
    /// A policy that is asked at each request, access log to a file, metrics.
    All,
    /// None of them.
    None,
}

/// How much else there is on the node.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// Services beside the measured one, each with a target group of its own.
    pub(crate) services: usize,
    /// Targets of each of their target groups.
    pub(crate) targets: usize,
    /// Rules of the measured service before its default action.
    pub(crate) rules: usize,
    /// Statements of its policy before the one that allows.
    pub(crate) statements: usize,
    /// Workloads beside client and server, each with an interface.
    pub(crate) workloads: usize,
}

impl Default for Scale {
    fn default() -> Self {
        Self { services: 0, targets: 10, rules: 0, statements: 0, workloads: 0 }
    }
}

pub(super) fn start(core: usize, features: Features, scale: &Scale) -> Result<Peer> {
    let mut site = Site::build(core)?;
    site.client.namespace.ip(&format!("route add {VIP_RANGE} dev eth0"));
    write(&site, features, scale);
    crowd(&site, scale.workloads)?;
    let all = features == Features::All;
    let options = AgentOptions {
        workers: 1,
        access_log: all,
        metrics: all,
        vip_range: VIP_RANGE,
        alias_range: Some(ALIAS_RANGE),
        more: vec!["--log".into(), "warn".into()],
        within: std::time::Duration::from_secs(120),
    };
    site.lab.try_start_agent(&options).map_err(anyhow::Error::msg).with_context(|| site.lab.log())?;
    sound(&site.lab)?;
    let http1 = site.lab.vip("shop/orders", 80);
    let engine = site.lab.engine_pid().as_raw();
    let agent = site.lab.agent().pid().as_raw();
    let mut peer = Peer::direct(&Rc::new(site));
    peer.name = if all { "Brattice" } else { "Brattice, no policy or log" };
    (peer.http1, peer.http2, peer.host) = (http1, Some(http1), HOST);
    peer.others = cpu::with_children(engine);
    peer.agent = Some(agent);
    Ok(peer)
}

/// Whether all that was written is in force.
///
/// # Errors
/// With the documents' errors.
pub(crate) fn sound(lab: &Lab) -> Result<()> {
    let owners = lab.status().owners;
    let errors: Vec<String> = owners.into_values().flat_map(|owner| owner.errors).collect();
    ensure!(errors.is_empty(), "the documents have {} errors; the first:\n{}", errors.len(), errors[0]);
    Ok(())
}

/// More workloads of the VPC green, all in one namespace.
fn crowd(site: &Site, workloads: usize) -> Result<()> {
    if workloads == 0 {
        return Ok(());
    }
    let namespace = Namespace::create(&format!("{}-crowd", site.lab.id));
    let (mut outside, mut inside) = (String::new(), String::new());
    for number in 0..workloads {
        let _ =
            writeln!(outside, "link add green{} type veth peer name e{number} netns {}", number + 2, namespace.name);
        let _ = writeln!(outside, "link set green{} up", number + 2);
        let _ = writeln!(inside, "addr add 10.2.{}.{}/32 dev e{number}", 1 + number / 250, 1 + number % 250);
        let _ = writeln!(inside, "link set e{number} up");
    }
    for (name, text) in [(&site.lab.node.name, outside), (&namespace.name, inside)] {
        let file = site.folder("crowd")?.join(name);
        fs::write(&file, text)?;
        sh(&format!("ip -n {name} -batch {}", file.display()));
    }
    Ok(())
}

/// All documents of the node.
fn write(site: &Site, features: Features, scale: &Scale) {
    let lab = &site.lab;
    let accounts = scale.services.div_ceil(SERVICES_PER_ACCOUNT);
    let mut operator = String::from(
        "kind: Account
metadata: {name: platform}
spec: {id: \"111111111111\"}
---
kind: Account
metadata: {name: shop}
spec: {id: \"222222222222\", domains: [shop.internal], vpcs: [platform/green]}
---
kind: Vpc
metadata: {name: blue}
spec: {account: platform, cidrBlocks: [10.1.0.0/16], attachments: [{interface: \"blue*\"}], serviceNetworks: [platform/retail]}
---
kind: Vpc
metadata: {name: green}
spec: {account: platform, cidrBlocks: [10.2.0.0/16], attachments: [{interface: \"green*\"}], serviceNetworks: [platform/retail]}
---
kind: Role
metadata: {name: storefront}
spec: {account: platform, trust: [{vpcIdentifier: platform/blue}]}
",
    );
    let mut shared = vec!["shop".to_owned()];
    for account in 0..accounts {
        let id = 300_000_000_000_u64 + account as u64;
        let _ = write!(
            operator,
            "---\nkind: Account\nmetadata: {{name: crowd{account}}}\nspec: {{id: \"{id}\", vpcs: [platform/green]}}\n"
        );
        shared.push(format!("crowd{account}"));
    }
    lab.write("node.yaml", &operator);
    let network =
        format!("kind: ServiceNetwork\nmetadata: {{name: retail}}\nspec: {{sharedWith: [{}]}}\n", shared.join(", "));
    lab.write("accounts/platform/network.yaml", &network);
    lab.write("accounts/shop/orders.yaml", &orders(features, scale, 1));
    for account in 0..accounts {
        let first = account * SERVICES_PER_ACCOUNT;
        let mut text = String::new();
        for number in first..(first + SERVICES_PER_ACCOUNT).min(scale.services) {
            let targets: Vec<String> = (0..scale.targets)
                .map(|target| format!("{{id: {SERVER}, port: {}}}", HTTP1 as usize + target))
                .collect();
            let _ = write!(
                text,
                "---\nkind: Service\nmetadata: {{name: service-{number}}}\nspec: {{serviceNetworks: [platform/retail], listeners: [{{protocol: HTTP, port: 80, defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: targets-{number}}}]}}}}}}]}}\n---\nkind: TargetGroup\nmetadata: {{name: targets-{number}}}\nspec: {{config: {{vpcIdentifier: platform/green, port: {HTTP1}}}, targets: [{}]}}\n",
                targets.join(", ")
            );
        }
        lab.write(&format!("accounts/crowd{account}/services.yaml"), &text);
    }
}

/// The measured service; `version` is in a rule's header, so that a change is a change.
pub(crate) fn orders(features: Features, scale: &Scale, version: usize) -> String {
    let all = features == Features::All;
    let mut rules = String::new();
    for rule in 0..scale.rules {
        let _ = writeln!(
            rules,
            "      - {{name: path-{rule}, priority: {}, match: {{httpMatch: {{pathMatch: {{match: {{exact: /rule/{rule}}}}}}}}}, action: {{fixedResponse: {{statusCode: 404}}}}}}",
            rule + 1
        );
    }
    let rules = if rules.is_empty() { String::new() } else { format!("    rules:\n{rules}") };
    let auth = if all { "AWS_IAM" } else { "NONE" };
    let mut text = format!(
        "kind: Service
metadata: {{name: orders, labels: {{version: \"{version}\"}}}}
spec:
  customDomainNames: [{HOST}]
  serviceNetworks: [platform/retail]
  authType: {auth}
  idleTimeoutSeconds: 600
  listeners:
  - protocol: HTTP
    port: 80
{rules}    defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: orders, weight: {version}}}]}}}}
---
kind: TargetGroup
metadata: {{name: orders}}
spec: {{config: {{vpcIdentifier: platform/green, port: {HTTP1}}}, targets: [{{id: {SERVER}}}]}}
"
    );
    if all {
        text.push_str("---\nkind: AuthPolicy\nspec:\n  resourceIdentifier: orders\n  policy:\n    Version: \"2012-10-17\"\n    Statement:\n");
        for statement in 0..scale.statements {
            let _ = writeln!(
                text,
                "    - {{Effect: Allow, Principal: {{AWS: \"arn:aws:iam::111111111111:role/other{statement}\"}}, Action: \"vpc-lattice-svcs:Invoke\", Resource: \"*\"}}"
            );
        }
        text.push_str("    - {Effect: Allow, Principal: {AWS: \"arn:aws:iam::111111111111:role/storefront\"}, Action: \"vpc-lattice-svcs:Invoke\", Resource: \"*\", Condition: {StringEquals: {\"vpc-lattice-svcs:RequestMethod\": [GET, POST]}}}\n");
    }
    text
}
