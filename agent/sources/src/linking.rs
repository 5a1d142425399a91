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
