//! The addresses that a probe uses, and what it leaves in the maps when it is killed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use brattice_abi as abi;

use crate::{Maps, Options, Result};

/// Address of the probe's workload (TEST-NET-1, RFC 5737).
const WORKLOAD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Likewise of IPv6 (RFC 3849).
const WORKLOAD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// Port of the probe's listeners, on the VIP and in the namespace.
pub(super) const PORT: u16 = 9;

/// The addresses of a probe in one family: those of the node are kept free for probes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) workload: IpAddr,
    pub(super) alias: IpAddr,
    pub(super) vip: IpAddr,
    /// One of the engine's.
    pub(super) source: IpAddr,
}

pub(super) fn addresses(options: &Options) -> Addresses {
    let at = |offset: u32| Ipv4Addr::from(options.vip.network().to_bits() + offset).into();
    Addresses {
        workload: WORKLOAD.into(),
        alias: options.alias.broadcast().into(),
        vip: at(abi::PROBE_VIP_OFFSET),
        source: at(abi::FIRST_ENGINE_SOURCE),
    }
}

pub(super) fn addresses6(options: &Options) -> Option<Addresses> {
    let ranges = options.ipv6?;
    Some(Addresses {
        workload: WORKLOAD6.into(),
        alias: ranges.alias.broadcast().into(),
        vip: ranges.at(abi::PROBE_VIP_OFFSET).into(),
        source: ranges.at(abi::FIRST_ENGINE_SOURCE).into(),
    })
}

impl Addresses {
    pub(super) fn listener(&self) -> abi::ListenerKey {
        abi::ListenerKey { vip: self.vip.into(), port: PORT, protocol: abi::IPPROTO_TCP, pad: 0 }
    }

    pub(super) fn target(&self) -> abi::TargetKey {
        abi::TargetKey { alias: self.alias.into(), port: PORT, protocol: abi::IPPROTO_TCP, pad: 0 }
    }
}

/// Removes from the maps what a probe left that was killed; its interface and namespace ended with it.
pub(crate) fn forget(maps: &Maps, options: &Options) -> Result<()> {
    for addresses in std::iter::once(addresses(options)).chain(addresses6(options)) {
        maps.listeners().remove(&addresses.listener())?;
        maps.targets().remove(&addresses.target())?;
        if maps.aliases().get(&addresses.alias.into())?.is_none() {
            continue;
        }
        let workloads = maps.workloads();
        for (key, workload) in workloads.entries()? {
            if workload.workload_id == abi::PROBE_WORKLOAD_ID {
                workloads.remove(&key)?;
            }
        }
        // Last: it shows that there is something to remove.
        maps.aliases().remove(&addresses.alias.into())?;
    }
    Ok(())
}
