//! The links of programs: made, adopted, repaired.

use std::collections::BTreeMap;

use brattice_abi as abi;

use super::{Attachment, Inner, State, routing};
use crate::interfaces::PROBE_PREFIX;
use crate::links::Link;
use crate::netlink::link;
use crate::sys::{Side, Target};
use crate::{Error, Result, cgroups, pins};

impl Inner {
    pub(super) fn ensure_listener(&self, state: &mut State) -> Result<bool> {
        let id = self.programs.listener.id;
        let inode = self.namespace.link_inode();
        let target = Target::Netns { inode };
        if live(state.listener.as_ref(), id, target)? {
            return Ok(false);
        }
        // A dead one would detach nothing when it is dropped.
        state.listener = None;
        let pin = self.pins.link(pins::LISTENER_LINK);
        if let Some(link) = Link::adopt(&pin, id, target)? {
            state.listener = Some(link);
            return Ok(false);
        }
        state.listener = Some(Link::sk_lookup(&self.programs.listener.fd, &self.namespace, pin)?);
        Ok(true)
    }

    pub(super) fn ensure_egress(&self, state: &mut State, ifindex: u32) -> Result<bool> {
        let id = self.programs.egress.id;
        let target = Target::Interface { ifindex, side: Side::Egress };
        if live(state.egress.as_ref(), id, target)? {
            return Ok(false);
        }
        if let Some(dead) = state.egress.take() {
            dead.remove()?;
        }
        let pin = self.pins.egress_link(ifindex);
        for other in self.pins.other_egress_links(&pin)? {
            if let Some(dead) = Link::open(&other)? {
                dead.remove()?;
            }
        }
        if let Some(link) = Link::adopt(&pin, id, target)? {
            state.egress = Some(link);
            return Ok(false);
        }
        state.egress = Some(Link::interface(self.hook, &self.programs.egress.fd, ifindex, Side::Egress, pin)?);
        Ok(true)
    }

    /// Takes up pinned links of interfaces, and lets go of those that are attached nowhere.
    pub(super) fn ensure_workloads(&self, state: &mut State) -> Result<bool> {
        let id = self.programs.ingress.id;
        let mut gone = false;
        let mut indices = self.pins.workload_links()?;
        indices.extend(state.workloads.keys());
        indices.sort_unstable();
        indices.dedup();
        for ifindex in indices {
            let target = Target::Interface { ifindex, side: Side::Ingress };
            if live(state.workloads.get(&ifindex), id, target)? {
                continue;
            }
            let pin = self.pins.workload_link(ifindex);
            state.workloads.remove(&ifindex);
            match Link::adopt(&pin, id, target)? {
                Some(link) => drop(state.workloads.insert(ifindex, link)),
                None => gone = true,
            }
        }
        Ok(gone)
    }

    pub(super) fn attach(&self, ifindex: u32) -> Result<()> {
        let mut state = self.state();
        let id = self.programs.ingress.id;
        let target = Target::Interface { ifindex, side: Side::Ingress };
        if live(state.workloads.get(&ifindex), id, target)? {
            return Ok(());
        }
        state.workloads.remove(&ifindex);
        let pin = self.pins.workload_link(ifindex);
        let link = match Link::adopt(&pin, id, target)? {
            Some(link) => link,
            None => Link::interface(self.hook, &self.programs.ingress.fd, ifindex, Side::Ingress, pin)?,
        };
        state.workloads.insert(ifindex, link);
        Ok(())
    }

    pub(super) fn detach(&self, ifindex: u32) -> Result<()> {
        let mut state = self.state();
        let held = state.workloads.remove(&ifindex);
        match held {
            Some(link) => link.remove(),
            None => match Link::open(&self.pins.workload_link(ifindex))? {
                Some(link) => link.remove(),
                None => Ok(()),
            },
        }
    }

    pub(super) fn attached(&self) -> Result<Vec<Attachment>> {
        let state = self.state();
        let names: BTreeMap<u32, String> = link::list(&mut routing()?, None)
            .map_err(Error::netlink("listing interfaces"))?
            .into_iter()
            .map(|l| (l.ifindex, l.name))
            .collect();
        let mut all = Vec::new();
        let programs = std::iter::empty()
            .chain(state.listener.iter().map(|l| (abi::VIP_LISTENER, l)))
            .chain(state.egress.iter().map(|l| (abi::WORKLOAD_EGRESS, l)))
            .chain(state.workloads.values().map(|l| (abi::WORKLOAD_INGRESS, l)))
            .chain(state.hosts.iter().map(|(name, l)| (*name, l)));
        for (program, link) in programs {
            let info = link.info()?;
            let (attached_to, ifindex, hook) = match info.target {
                Target::Interface { ifindex: 0, .. }
                | Target::Netns { inode: 0 }
                | Target::Cgroup { id: 0, .. }
                | Target::Other { .. } => continue,
                Target::Netns { .. } => ("network namespace".to_owned(), 0, "sk_lookup"),
                Target::Cgroup { .. } => ("cgroup root".to_owned(), 0, "cgroup"),
                Target::Interface { ifindex, .. } => {
                    (names.get(&ifindex).cloned().unwrap_or_default(), ifindex, self.hook.name())
                }
            };
            if attached_to.starts_with(PROBE_PREFIX) {
                continue;
            }
            let instructions = self.programs.instructions(program);
            let (program_id, link_id) = (info.program_id, info.id);
            all.push(Attachment { program, attached_to, hook, ifindex, program_id, instructions, link_id });
        }
        Ok(all)
    }

    pub(super) fn whole(&self) -> Result<bool> {
        let state = self.state();
        let device = self.maps.config().get(&0)?.unwrap_or_default().brattice0;
        let inode = self.namespace.link_inode();
        let egress = Target::Interface { ifindex: device, side: Side::Egress };
        if !live(state.listener.as_ref(), self.programs.listener.id, Target::Netns { inode })?
            || !live(state.egress.as_ref(), self.programs.egress.id, egress)?
        {
            return Ok(false);
        }
        for (ifindex, link) in &state.workloads {
            let target = Target::Interface { ifindex: *ifindex, side: Side::Ingress };
            if !link.works(self.programs.ingress.id, target)? {
                return Ok(false);
            }
        }
        cgroups::whole(&self.programs.hosts, &state.hosts)
    }
}

/// Whether a link is held and attached where it should be.
fn live(link: Option<&Link>, program_id: u32, target: Target) -> Result<bool> {
    link.map_or(Ok(false), |link| link.works(program_id, target))
}
