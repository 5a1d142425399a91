//! Three accounts, five workloads with equal addresses in three VPCs, and policies for calls between them.

use std::net::SocketAddr;

use super::{AgentOptions, Lab, Wiring, Workload};
use crate::{
    client::{Answer, Connection},
    server::Server,
};

/// The operator's file: accounts, VPCs (all three in the network), workloads and what they call as. `visitor` is anonymous.
pub const OPERATOR: &str = r#"
kind: Account
metadata: {name: platform}
spec: {id: "111111111111", organizationPath: o-corp/r-1/ou-platform/}
---
kind: Account
metadata: {name: shop}
spec: {id: "222222222222", domains: [shop.internal], vpcs: [platform/green], organizationPath: o-corp/r-1/ou-sales/}
---
kind: Account
metadata: {name: bank}
spec: {id: "333333333333", domains: [bank.internal], vpcs: [platform/green]}
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
  serviceNetworks: [platform/retail]
---
kind: Workload
metadata: {name: web, labels: {tier: front}}
spec: {vpcIdentifier: platform/blue, interface: blue1, addresses: [10.0.0.10]}
---
kind: Workload
metadata: {name: batch}
spec: {vpcIdentifier: platform/blue, interface: blue2, addresses: [10.0.0.11]}
---
kind: Workload
metadata: {name: clerk}
spec: {vpcIdentifier: platform/green, interface: green1, addresses: [10.0.0.10]}
---
kind: Workload
metadata: {name: teller}
spec: {vpcIdentifier: platform/green, interface: green2, addresses: [10.0.0.11]}
---
kind: Workload
metadata: {name: visitor}
spec: {vpcIdentifier: platform/red, interface: red1, addresses: [10.0.0.10]}
---
kind: Role
metadata: {name: web}
spec: {account: shop, tags: {team: front}, trust: [{vpcIdentifier: platform/blue, labels: {tier: front}}]}
---
kind: Role
metadata: {name: batch}
spec: {account: platform, tags: {team: finance}, trust: [{workloads: [batch]}]}
---
kind: Role
metadata: {name: clerk}
spec:
  account: shop
  trust: [{workloads: [clerk]}]
  policy:
    Version: "2012-10-17"
    Statement: [{Sid: noledger, Effect: Allow, Action: "vpc-lattice-svcs:Invoke", Resource: "*/reports/*"}]
---
kind: Role
metadata: {name: teller}
spec: {account: bank, tags: {team: finance}, trust: [{workloads: [teller]}]}
"#;

/// The network's policy: callers with a role may call, and others `/public`; no caller may delete.
pub const RETAIL: &str = r#"
kind: ServiceNetwork
metadata: {name: retail}
spec: {sharedWith: [shop, bank], authType: AWS_IAM}
---
kind: AuthPolicy
spec:
  resourceIdentifier: retail
  policy:
    Version: "2012-10-17"
    Statement:
    - Sid: roles
      Effect: Allow
      Principal: "*"
      Action: "vpc-lattice-svcs:Invoke"
      Resource: "*"
      Condition: {StringNotEquals: {"aws:PrincipalType": Anonymous}}
    - {Sid: visitors, Effect: Allow, Principal: "*", Action: "vpc-lattice-svcs:Invoke", Resource: "*/public/*"}
    - Sid: nodelete
      Effect: Deny
      Principal: "*"
      Action: "*"
      Resource: "*"
      Condition: {StringEquals: {"vpc-lattice-svcs:RequestMethod": DELETE}}
"#;

/// `shop/orders`, at clerk's port 8080: web may do all, others read reports, everyone reads `/public`; no caller
/// debugs.
pub const ORDERS: &str = r#"
kind: Service
metadata: {name: orders}
spec:
  customDomainNames: [orders.shop.internal]
  serviceNetworks: [platform/retail]
  authType: AWS_IAM
  listeners:
  - protocol: HTTP
    port: 80
    defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: orders, weight: 1}]}}
---
kind: TargetGroup
metadata: {name: orders}
spec: {config: {vpcIdentifier: platform/green, port: 8080, protocol: HTTP}, targets: [{id: 10.0.0.10}]}
---
kind: AuthPolicy
spec:
  resourceIdentifier: orders
  policy:
    Version: "2012-10-17"
    Statement:
    - Sid: web
      Effect: Allow
      Principal: {AWS: "arn:aws:iam::222222222222:role/web"}
      Action: "vpc-lattice-svcs:Invoke"
      Resource: "*"
    - Sid: reports
      Effect: Allow
      Principal: {AWS: ["111111111111", "arn:aws:iam::222222222222:role/clerk"]}
      Action: "vpc-lattice-svcs:Invoke"
      Resource: "*/reports/*"
      Condition: {StringEquals: {"vpc-lattice-svcs:RequestMethod": [GET, HEAD]}}
    - {Sid: public, Effect: Allow, Principal: "*", Action: "vpc-lattice-svcs:Invoke", Resource: "*/public/*"}
    - Sid: nodebug
      Effect: Deny
      Principal: "*"
      Action: "vpc-lattice-svcs:Invoke"
      Resource: "*"
      Condition: {"Null": {"vpc-lattice-svcs:RequestHeader/x-debug": "false"}}
"#;

/// `bank/ledger`, at teller's port 8080: callers tagged `team: finance`.
pub const LEDGER: &str = r#"
kind: Service
metadata: {name: ledger}
spec:
  customDomainNames: [ledger.bank.internal]
  serviceNetworks: [platform/retail]
  authType: AWS_IAM
  listeners:
  - protocol: HTTP
    port: 80
    defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: ledger, weight: 1}]}}
---
kind: TargetGroup
metadata: {name: ledger}
spec: {config: {vpcIdentifier: platform/green, port: 8080, protocol: HTTP}, targets: [{id: 10.0.0.11}]}
---
kind: AuthPolicy
spec:
  resourceIdentifier: ledger
  policy:
    Version: "2012-10-17"
    Statement:
    - Sid: finance
      Effect: Allow
      Principal: "*"
      Action: "vpc-lattice-svcs:Invoke"
      Resource: "*"
      Condition: {StringEquals: {"aws:PrincipalTag/team": finance}}
"#;

/// Host name of [`ORDERS`].
pub const ORDERS_HOST: &str = "orders.shop.internal";
/// Host name of [`LEDGER`].
pub const LEDGER_HOST: &str = "ledger.bank.internal";

/// A node with these documents and workloads, agent running with access log and metrics.
pub struct Guarded {
    // Dropped in this order: servers before the lab that holds their namespaces.
    /// Serves `shop/orders`.
    pub orders: Server,
    /// Serves `bank/ledger`.
    pub ledger: Server,
    /// blue's 10.0.0.10, role `shop/web`.
    pub web: Workload,
    /// blue's 10.0.0.11, role `platform/batch`.
    pub batch: Workload,
    /// green's 10.0.0.10, role `shop/clerk`, which has a policy.
    pub clerk: Workload,
    /// green's 10.0.0.11, role `bank/teller`.
    pub teller: Workload,
    /// red's 10.0.0.10, no role.
    pub visitor: Workload,
    /// The node.
    pub lab: Lab,
}

impl Guarded {
    /// Builds it and starts the agent.
    ///
    /// # Panics
    /// When anything of it does not work.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&AgentOptions::recording())
    }

    /// Builds it and starts the agent with these options.
    ///
    /// # Panics
    /// When anything of it does not work.
    #[track_caller]
    pub fn start_with(options: &AgentOptions) -> Self {
        let mut lab = Lab::new();
        let web = lab.workload("blue1", "10.0.0.10", Wiring::Routed);
        let batch = lab.workload("blue2", "10.0.0.11", Wiring::Routed);
        let clerk = lab.workload("green1", "10.0.0.10", Wiring::Bridged("brgreen"));
        let teller = lab.workload("green2", "10.0.0.11", Wiring::Bridged("brgreen"));
        let visitor = lab.workload("red1", "10.0.0.10", Wiring::Routed);
        let orders = Server::start(&clerk.namespace, "orders", 8080);
        let ledger = Server::start(&teller.namespace, "ledger", 8080);
        lab.write("node.yaml", OPERATOR);
        lab.write("accounts/platform/network.yaml", RETAIL);
        lab.write("accounts/shop/orders.yaml", ORDERS);
        lab.write("accounts/bank/ledger.yaml", LEDGER);
        lab.start_agent_with(options);
        Self { orders, ledger, web, batch, clerk, teller, visitor, lab }
    }

    /// VIP and port 80 of the service with this host name.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn vip(&self, host: &str) -> SocketAddr {
        self.lab.vip(if host == LEDGER_HOST { "bank/ledger" } else { "shop/orders" }, 80)
    }

    /// One request on a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn call(&self, from: &Workload, host: &str, method: &str, path: &str, more: &str) -> Answer {
        let mut open = self.open(from, host);
        open.request(method, path, more).unwrap_or_else(|error| panic!("{method} {host}{path}: {error}"))
    }

    /// A connection for requests to this host.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn open(&self, from: &Workload, host: &str) -> Connection {
        let vip = self.vip(host);
        from.http(vip).unwrap_or_else(|error| panic!("{} to {vip}: {error}", from.interface)).with_host(host)
    }
}
