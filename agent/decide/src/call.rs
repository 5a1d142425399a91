//! A call: caller, service, source.

use std::net::IpAddr;

use crate::{identity::Identity, index::ServiceIndex};

/// Who calls which service, from where.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Who calls.
    pub identity: &'a Identity,
    /// Index of the caller's VPC.
    pub vpc: u32,
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
