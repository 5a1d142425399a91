//! Since when each workload is attached. Kept in memory only: an agent that was started later says its own start, as it
//! knows of no earlier time.

use std::collections::BTreeMap;

use crate::aliases::Identity;
use crate::attachments::Decision;

/// (identity, VPC) → seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since(BTreeMap<(Identity, String), u64>);

impl Since {
    /// Takes in the workloads that are attached now; others are forgotten.
    pub fn update(&mut self, decisions: &[Decision], now: u64) {
        let before = std::mem::take(&mut self.0);
        let attached = decisions.iter().filter(|decision| decision.attached());
        self.0 = attached
            .filter_map(|decision| {
                let key = (decision.identity?, decision.vpc.clone());
                let since = before.get(&key).copied().unwrap_or(now);
                Some((key, since))
            })
            .collect();
    }

    /// Since when a workload is attached, seconds since 1970.
    pub fn of(&self, decision: &Decision) -> Option<u64> {
        self.0.get(&(decision.identity?, decision.vpc.clone())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(mac: u8, vpc: &str) -> Decision {
        Decision {
            name: "web".into(),
            documented: false,
            vpc: vpc.into(),
            interface: "veth0".into(),
            ifindex: 7,
            namespace: None,
            mac: [0; 6],
            identity: Some(Identity { ifindex: 7, namespace: 1, mac: [mac; 6] }),
            host: None,
            addresses: vec!["10.0.0.10".parse().unwrap()],
            refused: Vec::new(),
            intercept_dns: false,
            mtu: 1500,
        }
    }

    #[test]
    fn it_begins_with_the_identity_and_ends_with_it() {
        let mut since = Since::default();
        let web = decision(1, "blue");
        since.update(std::slice::from_ref(&web), 100);
        since.update(std::slice::from_ref(&web), 200);
        assert_eq!(since.of(&web), Some(100));
        // Another link address, or another VPC, is another workload.
        for other in [decision(2, "blue"), decision(1, "green")] {
            assert_eq!(since.of(&other), None);
            let mut since = since.clone();
            since.update(std::slice::from_ref(&other), 300);
            assert_eq!((since.of(&other), since.of(&web)), (Some(300), None));
        }
        // Refused in between: it starts again.
        since.update(&[Decision { addresses: Vec::new(), ..web.clone() }], 400);
        assert_eq!(since.of(&web), None);
        since.update(std::slice::from_ref(&web), 500);
        assert_eq!(since.of(&web), Some(500));
    }
}
