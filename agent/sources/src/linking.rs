//! Calls the model's linker with the node's settings.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use brattice_model::{Documents, Ipv6Pools, Linked, Owner, VipState, link};
use ipnet::Ipv4Net;

/// Region in ARNs: a node is not in a cloud's region.
pub const REGION: &str = "local";

/// What linking needs besides documents.
#[derive(Clone, Copy, Debug)]
pub struct Linking<'a> {
    /// The VIPs as they were.
    pub vips: &'a VipState,
    /// Suffix of generated names.
    pub dns_suffix: &'a str,
    /// VIP range.
    pub vip: Ipv4Net,
    /// Alias range.
    pub alias: Ipv4Net,
    /// The ranges of IPv6, and whether the host does it now.
    pub ipv6: Option<Ipv6Pools>,
}

impl Linking<'_> {
    /// Makes the model of all owners' documents.
    pub fn link<D: Borrow<Documents>>(&self, documents: &BTreeMap<Owner, D>) -> Linked {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let settings = brattice_model::Settings {
            dns_suffix: self.dns_suffix,
            region: REGION,
            vip: self.vip,
            alias: self.alias,
            ipv6: self.ipv6,
            vips: self.vips,
            now,
        };
        link(documents, &settings)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use brattice_model::{Source, parse};

    use super::*;

    const OWNERS: usize = 10;
    const SERVICES: usize = 400;

    fn service(n: usize) -> String {
        let rule = |r: usize| {
            let priority = r + 1;
            format!(
                "    - name: rule{r}\n      priority: {priority}\n      match: {{httpMatch: {{method: GET, pathMatch: {{match: {{prefix: /orders/{n}/{r}}}}}}}}}\n      action: {{forward: {{targetGroups: [{{targetGroupIdentifier: web, weight: 100}}]}}}}\n"
            )
        };
        let rules: String = (0..10).map(rule).collect();
        format!(
            "kind: Service\nmetadata: {{name: service{n}}}\nspec:\n  serviceNetworks: [net]\n  listeners:\n  - name: http\n    protocol: HTTP\n    port: 80\n    defaultAction: {{fixedResponse: {{statusCode: 404}}}}\n    rules:\n{rules}---\n"
        )
    }

    /// What parsing and linking cost; docs/decisions has the numbers.
    #[test]
    #[ignore = "measures"]
    fn what_linking_ten_owners_of_nearly_a_megabyte_costs() {
        let mut texts = BTreeMap::new();
        let account = |n: usize| {
            format!(
                "kind: Account\nmetadata: {{name: a{n}}}\nspec: {{id: \"{:012}\", vpcs: [a0/blue]}}\n---\n",
                100_000_000_000 + n
            )
        };
        let vpc = "kind: Vpc\nmetadata: {name: blue}\nspec: {account: a0, cidrBlocks: [10.0.0.0/8]}\n";
        texts.insert(Owner::Operator, (0..OWNERS).map(account).collect::<String>() + vpc);
        let own = "kind: ServiceNetwork\nmetadata: {name: net}\n---\nkind: TargetGroup\nmetadata: {name: web}\nspec: {config: {vpcIdentifier: a0/blue, port: 80}, targets: []}\n---\n";
        for n in 0..OWNERS {
            let services: String = (0..SERVICES).map(service).collect();
            texts.insert(Owner::Account(format!("a{n}")), own.to_owned() + &services);
        }
        let mut documents = BTreeMap::new();
        for (owner, text) in texts {
            let (size, begun) = (text.len(), Instant::now());
            let path = if owner == Owner::Operator { "node.yaml".into() } else { format!("accounts/{owner}/x.yaml") };
            let parsed = parse(&owner, &[Source { path, text }]).unwrap_or_else(|errors| panic!("{:?}", errors[0]));
            println!("{owner}: {size} bytes parsed in {:?}", begun.elapsed());
            documents.insert(owner, parsed);
        }
        let mut vips = VipState::default();
        for _ in 0..3 {
            let linking = Linking {
                vips: &vips,
                dns_suffix: "svc.test",
                vip: "169.254.64.0/20".parse().unwrap(),
                alias: "100.127.0.0/16".parse().unwrap(),
                ipv6: None,
            };
            let begun = Instant::now();
            let linked = linking.link(&documents);
            println!("{} services linked in {:?}", linked.model.services.len(), begun.elapsed());
            assert!(linked.errors.is_empty(), "{:?}", linked.errors.values().next().map(|found| found[0].to_string()));
            vips = linked.vips;
        }
    }
}
