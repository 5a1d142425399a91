//! The node's ranges and devices, as the agent wrote them.

use brattice_abi::{Address, Config, DNS_VIP_OFFSET, ENGINE_SOURCES, FIRST_ENGINE_SOURCE};

use crate::{address::Ip, maps::CONFIG};

/// The configuration; `None` until the agent has written it.
#[inline(always)]
pub(crate) fn get() -> Option<&'static Config> {
    CONFIG.get(0).filter(|c| c.ready != 0)
}

/// Has the node IPv6? Without, no IPv6 packet is ours.
#[inline(always)]
pub(crate) fn has_ipv6(config: &Config) -> bool {
    config.vip_net6.words()[0] != 0
}

/// The ranges of one family.
pub(crate) trait Ranges<A: Ip> {
    /// In the VIP range: services, the DNS VIP, engine sources and the host's source.
    fn is_vip(&self, address: A) -> bool;
    /// In the alias range.
    fn is_alias(&self, address: A) -> bool;
    /// One of the addresses the engine connects from.
    fn is_engine_source(&self, address: A) -> bool;
    /// Where DNS is answered.
    fn dns_vip(&self) -> A;
}

impl Ranges<u32> for Config {
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

/// The second word of an address in a /48: its first two bytes.
const SECOND_WORD_OF_48: u32 = u32::from_ne_bytes([0xff, 0xff, 0, 0]);

impl Ranges<Address> for Config {
    #[inline(always)]
    fn is_vip(&self, address: Address) -> bool {
        let (a, net) = (address.words(), self.vip_net6.words());
        (a[0] ^ net[0]) | (a[1] ^ net[1]) == 0
    }

    #[inline(always)]
    fn is_alias(&self, address: Address) -> bool {
        let (a, net) = (address.words(), self.alias_net6.words());
        (a[0] ^ net[0]) | (a[1] ^ net[1]) & SECOND_WORD_OF_48 == 0
    }

    #[inline(always)]
    fn is_engine_source(&self, address: Address) -> bool {
        let a = address.words();
        self.is_vip(address) && a[2] == 0 && u32::from_be(a[3]).wrapping_sub(FIRST_ENGINE_SOURCE) < ENGINE_SOURCES
    }

    #[inline(always)]
    fn dns_vip(&self) -> Address {
        let net = self.vip_net6.words();
        Address::from_words([net[0], net[1], 0, DNS_VIP_OFFSET.to_be()])
    }
}

const _: () = assert!(brattice_abi::VIP6_PREFIX == 64 && brattice_abi::ALIAS6_PREFIX == 48);
