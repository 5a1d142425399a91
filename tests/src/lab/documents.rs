//! The documents most tests begin with, and the workloads that go with them.

use super::{Lab, Wiring, Workload};
use crate::server::Server;

/// The operator's file: two accounts, three VPCs with the same addresses; `red` is in no network.
pub const NODE: &str = r#"
kind: Account
metadata: {name: platform}
spec: {id: "111111111111"}
---
kind: Account
metadata: {name: shop}
spec: {id: "222222222222", domains: [shop.internal], vpcs: [platform/green]}
---
kind: Vpc
metadata: {name: blue}
spec:
  account: platform
  cidrBlocks: [10.0.0.0/16]
  attachments: [{interface: "blue*"}]
  serviceNetworks: [platform/retail]
---
kind: Vpc
metadata: {name: green}
spec:
  account: platform
  cidrBlocks: [10.0.0.0/16]
  attachments: [{interface: "green*"}]
  serviceNetworks: [platform/retail]
---
kind: Vpc
metadata: {name: red}
spec:
  account: platform
  cidrBlocks: [10.0.0.0/16]
  attachments: [{interface: "red*"}]
"#;

/// The account `platform`: one network.
pub const NETWORK: &str = "
kind: ServiceNetwork
metadata: {name: retail}
spec: {sharedWith: [shop]}
";

/// A service `orders` in the account `shop` with one HTTP listener on port 80 and this default action.
pub fn service(default_action: &str) -> String {
    format!(
        "
kind: Service
metadata: {{name: orders}}
spec:
  customDomainNames: [orders.shop.internal]
  serviceNetworks: [platform/retail]
  listeners:
  - protocol: HTTP
    port: 80
    defaultAction: {default_action}
---
kind: TargetGroup
metadata: {{name: orders-v1}}
spec: {{config: {{vpcIdentifier: platform/green, port: 8080, protocol: HTTP}}, targets: [{{id: 10.0.0.10}}]}}
---
kind: TargetGroup
metadata: {{name: orders-v2}}
spec: {{config: {{vpcIdentifier: platform/green, port: 8080, protocol: HTTP}}, targets: [{{id: 10.0.0.11}}]}}
"
    )
}

/// Two VPCs of both families with equal addresses, `blue` and `green`; `shop` may target both.
pub const NODE_OF_BOTH: &str = r#"
kind: Account
metadata: {name: platform}
spec: {id: "111111111111"}
---
kind: Account
metadata: {name: shop}
spec: {id: "222222222222", domains: [shop.internal], vpcs: [platform/blue, platform/green]}
---
kind: Vpc
metadata: {name: blue}
spec:
  account: platform
  cidrBlocks: [10.0.0.0/16, "fd10::/64"]
  attachments: [{interface: "blue*"}]
  serviceNetworks: [platform/retail]
---
kind: Vpc
metadata: {name: green}
spec:
  account: platform
  cidrBlocks: [10.0.0.0/16, "fd10::/64"]
  attachments: [{interface: "green*"}]
  serviceNetworks: [platform/retail]
"#;

/// A service `name.shop.internal` on port 80 whose one target is port 8080 of an address in a VPC of `platform`.
pub fn service_of(name: &str, vpc: &str, target: impl std::fmt::Display) -> String {
    format!(
        "
kind: Service
metadata: {{name: {name}}}
spec:
  customDomainNames: [{name}.shop.internal]
  serviceNetworks: [platform/retail]
  listeners: [{{protocol: HTTP, port: 80, defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: {name}}}]}}}}}}]
---
kind: TargetGroup
metadata: {{name: {name}}}
spec: {{config: {{vpcIdentifier: platform/{vpc}, port: 8080, protocol: HTTP}}, targets: [{{id: \"{target}\"}}]}}
"
    )
}

/// A forward to the two target groups of [`service`].
pub fn forward(v1: u16, v2: u16) -> String {
    format!(
        "{{forward: {{targetGroups: [{{targetGroupIdentifier: orders-v1, weight: {v1}}}, {{targetGroupIdentifier: orders-v2, weight: {v2}}}]}}}}"
    )
}

/// A node with blue (routed), green (bridged, two servers) and red (routed), all at 10.0.0.10, agent running.
pub struct Retail {
    // Dropped in this order: servers before the lab that holds their namespaces.
    /// Version 1, at green's 10.0.0.10:8080.
    pub v1: Server,
    /// Version 2, at green's 10.0.0.11:8080.
    pub v2: Server,
    /// Calls; in the network.
    pub blue: Workload,
    /// Serves version 1; in the network.
    pub green: Workload,
    /// Serves version 2.
    pub green2: Workload,
    /// Calls; in no network.
    pub red: Workload,
    /// The node.
    pub lab: Lab,
}

impl Retail {
    /// Builds it, all requests to version 1, and starts the agent.
    ///
    /// # Panics
    /// When anything of it does not work.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&service(&forward(1, 0)))
    }

    /// Builds it with this file as `accounts/shop/orders.yaml`, and starts the agent.
    ///
    /// # Panics
    /// When anything of it does not work.
    #[track_caller]
    pub fn start_with(orders: &str) -> Self {
        let mut retail = Self::prepare(orders);
        retail.lab.start_agent();
        retail
    }

    /// Builds it with this file as `accounts/shop/orders.yaml`; no agent yet.
    ///
    /// # Panics
    /// When anything of it does not work.
    #[track_caller]
    pub fn prepare(orders: &str) -> Self {
        let lab = Lab::new();
        let blue = lab.workload("blue1", "10.0.0.10", Wiring::Routed);
        let green = lab.workload("green1", "10.0.0.10", Wiring::Bridged("brgreen"));
        let green2 = lab.workload("green2", "10.0.0.11", Wiring::Bridged("brgreen"));
        let red = lab.workload("red1", "10.0.0.10", Wiring::Routed);
        let v1 = Server::start(&green.namespace, "v1", 8080);
        let v2 = Server::start(&green2.namespace, "v2", 8080);
        lab.write("node.yaml", NODE);
        lab.write("accounts/platform/network.yaml", NETWORK);
        lab.write("accounts/shop/orders.yaml", orders);
        Self { v1, v2, blue, green, green2, red, lab }
    }

    /// VIP and port 80 of `shop/orders`.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn orders(&self) -> std::net::SocketAddr {
        self.lab.vip("shop/orders", 80)
    }
}
