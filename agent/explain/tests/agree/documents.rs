//! Random documents: policies at all levels, rules and actions of every kind.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::select;

const PRINCIPALS: [&str; 6] = [
    "\"*\"",
    "{AWS: 'arn:aws:iam::111111111111:role/reader'}",
    "{AWS: 'arn:aws:sts::111111111111:assumed-role/reader/web'}",
    "{AWS: '111111111111'}",
    "{AWS: 'arn:aws:iam::111111111111:role/nightly'}",
    "{AWS: ['222222222222', 'arn:aws:iam::111111111111:role/reader']}",
];
const RESOURCES: [&str; 5] = ["*", "*/admin", "*/a/*", "*/a", "*/service/*"];
const CONDITIONS: [&str; 18] = [
    "",
    "",
    "StringEquals: {vpc-lattice-svcs:RequestMethod: [GET, HEAD]}",
    "StringNotEquals: {vpc-lattice-svcs:RequestMethod: POST}",
    "StringLike: {vpc-lattice-svcs:RequestHeader/x-team: 'r*'}",
    "\"Null\": {vpc-lattice-svcs:RequestHeader/x-team: \"true\"}",
    "'ForAnyValue:StringEquals': {vpc-lattice-svcs:RequestQueryString/q: '1'}",
    "StringEquals: {aws:PrincipalTag/team: red}",
    "StringEqualsIfExists: {aws:PrincipalAccount: '222222222222'}",
    "NumericEquals: {vpc-lattice-svcs:Port: 80}",
    "StringLike: {vpc-lattice-svcs:RequestPath: '/a/*'}",
    "StringEquals: {aws:PrincipalType: Anonymous}",
    "ArnLike: {vpc-lattice-svcs:ServiceNetworkArn: 'arn:aws:vpc-lattice:*:*:servicenetwork/sn-*0*'}",
    "'ForAnyValue:StringEquals': {brattice:Evidence: namespace}",
    "StringEquals: {vpc-lattice-svcs:RequestHeader/cookie: 'a=1; b=2'}",
    "StringNotEquals: {vpc-lattice-svcs:RequestHeader/x-forwarded-for: 1.2.3.4}",
    "StringEquals: {vpc-lattice-svcs:RequestHeader/host: www.shop.internal}",
    "\"Null\": {vpc-lattice-svcs:RequestHeader/content-length: \"true\"}",
];
const MATCHES: [&str; 14] = [
    "pathMatch: {match: {exact: /a}}",
    "pathMatch: {match: {prefix: /a}}",
    "pathMatch: {match: {prefix: /a/b}}",
    "pathMatch: {match: {stringPrefix: /ad}}",
    "pathMatch: {match: {regex: '/a/[a-z]+'}}",
    "pathMatch: {match: {exact: /A}, caseSensitive: false}",
    "method: GET",
    "method: POST",
    "headerMatches: [{name: x-team, match: {exact: red}}]",
    "headerMatches: [{name: x-team, match: {prefix: r}}]",
    "queryParameters: [{name: q, match: {exact: '1'}}]",
    "sourceVpcs: [platform/blue]",
    "headerMatches: [{name: cookie, match: {exact: 'a=1; b=2'}}]",
    "headerMatches: [{name: x-forwarded-for, match: {contains: '1.2.3.4'}}]",
];
pub(crate) const ONE: &str = "targetGroups: [{targetGroupIdentifier: orders-v1}]";
const TWO: &str =
    "targetGroups: [{targetGroupIdentifier: orders-v1, weight: 70}, {targetGroupIdentifier: orders-v2, weight: 30}]";
const ALL_BUT_ONE: &str =
    "targetGroups: [{targetGroupIdentifier: orders-v1, weight: 0}, {targetGroupIdentifier: orders-v2, weight: 5}]";
/// Target groups and stickiness of forwards.
const FORWARDS: [(&str, &str); 7] = [
    (ONE, ""),
    (TWO, ""),
    (TWO, ", stickiness: {source: {}}"),
    (TWO, ", stickiness: {header: {name: x-team}}"),
    (TWO, ", stickiness: {cookie: {name: group}}"),
    (ALL_BUT_ONE, ", stickiness: {source: {}}"),
    (ALL_BUT_ONE, ""),
];
/// What forwards write otherwise; of paths, what any rule may.
pub(crate) const REWRITES: [&str; 5] = [
    "",
    "",
    ", rewrite: {path: {exact: /other}, hostname: other.example}",
    ", rewrite: {path: {regex: {pattern: '^/a(/?.*)$', substitution: '/z$1'}}}",
    // No acceptable path.
    ", rewrite: {path: {regex: {pattern: '^/a', substitution: '/x%2f..'}}}",
];
pub(crate) const RESPONSES: [&str; 5] = [
    "{fixedResponse: {statusCode: 204}}",
    "{fixedResponse: {statusCode: 404, contentType: text/plain, body: nothing here}}",
    "{redirect: {hostname: other.example}}",
    "{redirect: {statusCode: 308, port: 8443, path: {exact: /moved}}}",
    "{redirect: {path: {regex: {pattern: '^/a', substitution: '/x%2f..'}}}}",
];
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) allow: bool,
    pub(crate) principal: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) condition: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) audit: bool,
    pub(crate) statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
pub(crate) struct Documents {
    /// `authType` and policy of the networks and the service; the role's.
    pub(crate) networks: [(bool, Option<Policy>); 2],
    pub(crate) service: (bool, Option<Policy>),
    pub(crate) role: Option<Policy>,
    /// Which networks the service is in.
    pub(crate) member: [bool; 2],
    pub(crate) specific: bool,
    pub(crate) rules: Vec<(Vec<&'static str>, String)>,
    pub(crate) default: String,
}

fn policy() -> impl Strategy<Value = Policy> {
    let statement =
        (prop::bool::weighted(0.7), select(&PRINCIPALS[..]), select(&RESOURCES[..]), select(&CONDITIONS[..]))
            .prop_map(|(allow, principal, resource, condition)| Statement { allow, principal, resource, condition });
    (prop::bool::weighted(0.15), prop::collection::vec(statement, 1..4))
        .prop_map(|(audit, statements)| Policy { audit, statements })
}

fn guard() -> impl Strategy<Value = (bool, Option<Policy>)> {
    (prop::bool::weighted(0.6), prop::option::weighted(0.85, policy()))
}

fn action() -> impl Strategy<Value = String> {
    let forward = (select(&FORWARDS[..]), select(&REWRITES[..]))
        .prop_map(|((groups, sticky), rewrite)| format!("{{forward: {{{groups}{sticky}}}{rewrite}}}"));
    prop_oneof![2 => forward, 1 => select(&RESPONSES[..]).prop_map(str::to_owned)]
}

pub(crate) fn documents() -> impl Strategy<Value = Documents> {
    let conditions = prop::collection::btree_set(0..MATCHES.len(), 1..3)
        .prop_map(|set| set.into_iter().map(|index| MATCHES[index]).collect::<Vec<_>>())
        .prop_filter("one of each kind", |list| {
            let kinds: std::collections::BTreeSet<&str> =
                list.iter().filter_map(|text| text.split(':').next()).collect();
            kinds.len() == list.len()
        });
    let rules = prop::collection::vec((conditions, action()), 0..5);
    (
        (guard(), guard()),
        guard(),
        prop::option::weighted(0.4, policy()),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.8),
        any::<bool>(),
        rules,
        action(),
    )
        .prop_map(|((retail, wide), service, role, first, second, specific, rules, default)| Documents {
            networks: [retail, wide],
            service,
            role: role.map(|policy| Policy { audit: false, ..policy }),
            member: [first, second],
            specific,
            rules,
            default,
        })
}

impl Policy {
    fn yaml(&self, indent: usize, principals: bool) -> String {
        let mut text = String::new();
        let pad = " ".repeat(indent);
        for (number, own) in self.statements.iter().enumerate() {
            let effect = if own.allow { "Allow" } else { "Deny" };
            write!(text, "{pad}- {{Sid: s{number}, Effect: {effect}, Action: '*', Resource: '{}'", own.resource)
                .unwrap();
            if principals {
                write!(text, ", Principal: {}", own.principal).unwrap();
            }
            if !own.condition.is_empty() {
                write!(text, ", Condition: {{{}}}", own.condition).unwrap();
            }
            text.push_str("}\n");
        }
        text
    }

    fn document(&self, resource: &str) -> String {
        let mode = if self.audit { "audit" } else { "enforce" };
        let statements = self.yaml(4, true);
        format!(
            "---\nkind: AuthPolicy\nspec:\n  resourceIdentifier: {resource}\n  mode: {mode}\n  policy:\n    Version: '2012-10-17'\n    Statement:\n{statements}"
        )
    }
}

impl Documents {
    /// Path and text of each file.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let auth = |on: bool| if on { "AWS_IAM" } else { "NONE" };
        let mut networks = String::new();
        for (name, (on, policy)) in ["retail", "wide"].into_iter().zip(&self.networks) {
            write!(
                networks,
                "---\nkind: ServiceNetwork\nmetadata: {{name: {name}}}\nspec: {{sharedWith: [shop], authType: {}}}\n",
                auth(*on)
            )
            .unwrap();
            networks.extend(policy.iter().map(|policy| policy.document(name)));
        }
        networks.push_str(
            "---\nkind: ServiceNetworkVpcAssociation\nspec: {serviceNetworkIdentifier: wide, vpcIdentifier: platform/blue}\n",
        );
        let member: Vec<&str> = ["platform/retail", "platform/wide"]
            .into_iter()
            .zip(self.member)
            .filter(|(_, is)| *is)
            .map(|(name, _)| name)
            .collect();
        let mut shop = format!(
            "kind: Service\nmetadata: {{name: shop}}\nspec:\n  customDomainNames: [www.shop.internal]\n  authType: {}\n  tags: {{team: red}}\n  serviceNetworks: [{}]\n  listeners:\n  - protocol: HTTP\n    rulePrecedence: {}\n    defaultAction: {}\n",
            auth(self.service.0),
            member.join(", "),
            if self.specific { "mostSpecific" } else { "priority" },
            self.default
        );
        if !self.rules.is_empty() {
            shop.push_str("    rules:\n");
        }
        for (number, (conditions, action)) in self.rules.iter().enumerate() {
            let priority = if self.specific { String::new() } else { format!("priority: {}, ", 50 - number) };
            writeln!(
                shop,
                "    - {{name: number-{number}, {priority}match: {{httpMatch: {{{}}}}}, action: {action}}}",
                conditions.join(", ")
            )
            .unwrap();
        }
        shop.extend(self.service.1.iter().map(|policy| policy.document("shop")));
        let mut files = vec![
            ("accounts/platform/networks.yaml".to_owned(), networks),
            ("accounts/shop/shop.yaml".to_owned(), shop),
        ];
        if let Some(policy) = &self.role {
            let statements = policy.yaml(4, false);
            files.push((
                "roles.yaml".to_owned(),
                format!(
                    "kind: Workload\nmetadata: {{name: batch}}\nspec: {{vpcIdentifier: platform/blue, namespace: blue-batch}}\n---\nkind: Role\nmetadata: {{name: nightly}}\nspec:\n  account: platform\n  trust: [{{workloads: [batch]}}]\n  policy:\n    Version: '2012-10-17'\n    Statement:\n{statements}"
                ),
            ));
        }
        files
    }
}
