//! A call: caller, service, source.

use std::net::IpAddr;

use brattice_wire::index::{ServiceIndex, VpcIndex};

use crate::identity::Identity;

/// Who calls which service, from where.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Who calls.
    pub identity: &'a Identity,
    /// The caller's VPC.
    pub vpc: VpcIndex,
    /// The caller's real address in its VPC, where it is known.
    pub address: Option<IpAddr>,
    /// The service.
    pub service: ServiceIndex,
    /// The port that was called.
    pub port: u16,
    /// Whether the call came over TLS.
    pub tls: bool,
    /// Seconds since 1970.
    pub now: i64,
}
