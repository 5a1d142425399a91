//! The node's ranges and devices, as the agent wrote them.

use brattice_abi::{Config, DNS_VIP_OFFSET, ENGINE_SOURCES, FIRST_ENGINE_SOURCE};

use crate::maps::CONFIG;

/// The configuration; `None` until the agent has written it.
#[inline(always)]
pub(crate) fn get() -> Option<&'static Config> {
    CONFIG.get(0).filter(|c| c.ready != 0)
}

/// Addresses are numbers in host order throughout.
pub(crate) trait Ranges {
    /// In the VIP range: services, the DNS VIP, engine sources and the host's source.
    fn is_vip(&self, address: u32) -> bool;
    /// In the alias range.
    fn is_alias(&self, address: u32) -> bool;
    /// One of the addresses the engine connects from.
    fn is_engine_source(&self, address: u32) -> bool;
    /// Where DNS is answered.
    fn dns_vip(&self) -> u32;
}

impl Ranges for Config {
    #[inline(always)]
    fn is_vip(&self, address: u32) -> bool {
        address & self.vip_mask == self.vip_net
    }

    #[inline(always)]
    fn is_alias(&self, address: u32) -> bool {
        address & self.alias_mask == self.alias_net
    }

    #[inline(always)]
    fn is_engine_source(&self, address: u32) -> bool {
        address.wrapping_sub(self.vip_net.wrapping_add(FIRST_ENGINE_SOURCE)) < ENGINE_SOURCES
    }

    #[inline(always)]
    fn dns_vip(&self) -> u32 {
        self.vip_net.wrapping_add(DNS_VIP_OFFSET)
    }
}
