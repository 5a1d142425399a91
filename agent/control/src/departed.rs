//! Workloads that were attached and are not on the node any more: what became of each one's interface. In memory only.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use brattice_loader::interfaces::Interface;

use crate::attachments::Decision;

/// Most workloads that are remembered; the oldest is forgotten first.
const MAX_REMEMBERED: usize = 256;

/// What became of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has another name now, by which nothing selects it.
    Renamed(String),
    /// It is there, and no document selects it any more.
    Unselected,
    /// It is not on this node any more.
    Gone,
}

/// A workload that is not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departed {
    pub(crate) workload: String,
    pub(crate) vpc: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// The interface's name while it was attached, and its index.
    pub(crate) interface: String,
    ifindex: u32,
    pub(crate) fate: Fate,
    pub(crate) since: Instant,
}

impl Departed {
    fn of(decision: &Decision, interfaces: &[Interface], since: Instant) -> Self {
        let mut departed = Self {
            workload: decision.name.clone(),
            vpc: decision.vpc.clone(),
            addresses: decision.addresses.clone(),
            interface: decision.interface.clone(),
            ifindex: decision.ifindex,
            fate: Fate::Unselected,
            since,
        };
        departed.look(interfaces);
        departed
    }

    /// Looks what its interface is called now. One that is gone does not come back: the kernel may give its index to another.
    fn look(&mut self, interfaces: &[Interface]) {
        if self.fate == Fate::Gone {
            return;
        }
        let present = interfaces.iter().find(|interface| interface.ifindex == self.ifindex);
        self.fate = match present {
            None => Fate::Gone,
            Some(present) if present.name == self.interface => Fate::Unselected,
            Some(present) => Fate::Renamed(present.name.clone()),
        };
    }

    /// What happened, in a sentence.
    pub(crate) fn text(&self) -> String {
        let Self { workload, vpc, interface, .. } = self;
        match &self.fate {
            Fate::Renamed(to) => format!(
                "workload {workload} of {vpc} is gone: its interface {interface} was renamed to {to}, which nothing selects"
            ),
            Fate::Unselected => {
                format!("workload {workload} of {vpc} is gone: no document selects its interface {interface} any more")
            }
            Fate::Gone => {
                format!("workload {workload} of {vpc} is gone: its interface {interface} is not on this node any more")
            }
        }
    }

    /// What to do.
    pub(crate) fn remedy(&self) -> String {
        let from = &self.interface;
        match &self.fate {
            Fate::Renamed(to) => format!(
                "rename it back (`ip link set {to} name {from}`), or select it in the Vpc's attachments or a Workload document"
            ),
            Fate::Unselected => format!("select {from} in the Vpc's attachments or a Workload document"),
            Fate::Gone => "start the workload; `brattice workloads` lists those attached".to_owned(),
        }
    }
}

/// The latest of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Departures(VecDeque<Departed>);

impl Departures {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Departed> {
        self.0.iter()
    }

    /// Those whose interface was renamed away, with the name that it has now. Nobody meant that, unlike the others.
    pub(crate) fn renamed(&self) -> impl Iterator<Item = &Departed> {
        self.iter().filter(|departed| matches!(departed.fate, Fate::Renamed(_)))
    }

    /// Takes in what was decided before and now, and which interfaces there are. Returns those that were just renamed away.
    pub(crate) fn decided(
        &mut self,
        before: &[Decision],
        now: &[Decision],
        interfaces: &[Interface],
        since: Instant,
    ) -> Vec<Departed> {
        // A document that means no interface has a decision, too.
        let present = || now.iter().filter(|own| own.ifindex != 0);
        let indices: HashSet<u32> = present().map(|own| own.ifindex).collect();
        let names: HashSet<(&str, &str)> = present().map(|own| (own.vpc.as_str(), own.name.as_str())).collect();
        let is_there =
            |vpc: &str, workload: &str, ifindex: u32| indices.contains(&ifindex) || names.contains(&(vpc, workload));
        let known = self.0.len();
        for old in before.iter().filter(|old| old.ifindex != 0 && old.attached()) {
            if !is_there(&old.vpc, &old.name, old.ifindex) {
                self.0.push_back(Departed::of(old, interfaces, since));
            }
        }
        let just_renamed =
            self.0.iter().skip(known).filter(|own| matches!(own.fate, Fate::Renamed(_))).cloned().collect();
        for departed in &mut self.0 {
            departed.look(interfaces);
        }
        self.0.retain(|own| {
            // The index of one that is gone may be another interface's.
            let ifindex = if own.fate == Fate::Gone { 0 } else { own.ifindex };
            !is_there(&own.vpc, &own.workload, ifindex)
        });
        while self.0.len() > MAX_REMEMBERED {
            self.0.pop_front();
        }
        just_renamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aliases::Identity;

    fn decision(ifindex: u32, interface: &str) -> Decision {
        Decision {
            name: interface.into(),
            documented: false,
            vpc: "blue".into(),
            interface: interface.into(),
            ifindex,
            namespace: None,
            identity: Some(Identity { ifindex, namespace: 1, mac: [2; 6] }),
            host: None,
            addresses: vec![[10, 0, 0, 10].into()],
            refused: Vec::new(),
            intercept_dns: false,
            mtu: 1500,
            mac: [2; 6],
        }
    }

    fn interface(ifindex: u32, name: &str) -> Interface {
        crate::fixtures::veth(ifindex, name, &[])
    }

    fn told(departures: &Departures) -> Vec<(&str, Fate)> {
        departures.iter().map(|own| (own.workload.as_str(), own.fate.clone())).collect()
    }

    #[test]
    fn a_workload_that_is_gone_is_told_with_what_became_of_its_interface() {
        let since = Instant::now();
        let before = [decision(5, "b1"), decision(6, "b2"), decision(7, "b3"), decision(8, "b4"), decision(9, "b5")];
        let mut departures = Departures::default();
        // One is renamed, one gone, one selected by nothing, one as it was, one remade with another index.
        let now = [before[3].clone(), decision(10, "b5")];
        let interfaces = [interface(5, "x1"), interface(7, "b3"), interface(8, "b4"), interface(10, "b5")];
        let renamed = departures.decided(&before, &now, &interfaces, since);
        let wanted = [("b1", Fate::Renamed("x1".into())), ("b2", Fate::Gone), ("b3", Fate::Unselected)];
        assert_eq!(told(&departures), wanted);
        assert_eq!(renamed.len(), 1);
        let text = format!("{}; {}", renamed[0].text(), renamed[0].remedy());
        assert!(text.contains("b1 was renamed to x1") && text.contains("ip link set x1 name b1"), "{text}");
        assert_eq!(departures.renamed().count(), 1);

        // Told once, and followed: another name; gone; the index of one that is gone is another interface's.
        let interfaces = [interface(5, "x2"), interface(6, "other"), interface(8, "b4")];
        let again = departures.decided(&now, &[now[0].clone(), decision(6, "other")], &interfaces, since);
        assert!(again.is_empty(), "{again:?}");
        let wanted = [("b1", Fate::Renamed("x2".into())), ("b2", Fate::Gone), ("b3", Fate::Gone), ("b5", Fate::Gone)];
        assert_eq!(told(&departures), wanted);
    }

    #[test]
    fn one_that_is_back_is_gone_no_more() {
        let since = Instant::now();
        let before = [decision(5, "b1")];
        for (now, interfaces, count) in [
            (vec![], vec![interface(5, "x2")], 1),
            // Under the new name, by its old interface; under its old name, by another one.
            (vec![decision(5, "x2")], vec![interface(5, "x2")], 0),
            (vec![decision(6, "b1")], vec![interface(6, "b1")], 0),
            (vec![decision(5, "b1")], vec![interface(5, "b1")], 0),
        ] {
            let mut departures = Departures::default();
            departures.decided(&before, &[], &[interface(5, "x1")], since);
            assert_eq!(departures.renamed().count(), 1);
            departures.decided(&[], &now, &interfaces, since);
            assert_eq!(departures.iter().count(), count, "{now:?}");
        }
        // Renamed back, and selected by nothing since: no fault of a name.
        let mut departures = Departures::default();
        departures.decided(&before, &[], &[interface(5, "x1")], since);
        departures.decided(&[], &[], &[interface(5, "b1")], since);
        assert_eq!((departures.renamed().count(), told(&departures)), (0, vec![("b1", Fate::Unselected)]));
    }

    #[test]
    fn a_document_that_means_no_interface_any_more_does_not_hide_the_other_name() {
        let before = [Decision { documented: true, name: "web".into(), ..decision(5, "b1") }];
        let now = [Decision { ifindex: 0, identity: None, addresses: Vec::new(), ..before[0].clone() }];
        let mut departures = Departures::default();
        let renamed = departures.decided(&before, &now, &[interface(5, "x1")], Instant::now());
        assert_eq!(renamed.len(), 1);
        assert_eq!(departures.renamed().count(), 1);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let before: Vec<Decision> = (1..=300).map(|number| decision(number, &format!("b{number}"))).collect();
        let mut departures = Departures::default();
        departures.decided(&before, &[], &[], Instant::now());
        assert_eq!(departures.iter().count(), MAX_REMEMBERED);
        assert_eq!(departures.iter().last().unwrap().workload, "b300");
    }
}
