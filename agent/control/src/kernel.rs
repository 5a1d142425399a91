//! The kernel's side of engine supervision, on a real data path.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use brattice_abi::WorkerState;
use brattice_loader::Datapath;
use brattice_loader::sockets::{dns_udp, listener as listener_at};
use tracing::warn;

use crate::engine::sockets::{BACKLOG, DNS_PORT, Slots, Sockets, addresses};

/// The slots of a data path.
pub struct KernelSlots {
    /// The data path.
    pub datapath: Arc<Datapath>,
    /// Engine source addresses.
    pub sources: Vec<Ipv4Addr>,
    /// The DNS VIP.
    pub dns: Ipv4Addr,
    /// As `dns`; none: the node has no IPv6.
    pub dns6: Option<Ipv6Addr>,
    /// Engine workers.
    pub workers: u32,
    /// The engine's user.
    pub engine_uid: u32,
}

impl Slots for KernelSlots {
    fn set(&self, slot: u32, socket: BorrowedFd<'_>) -> Result<(), String> {
        self.datapath.maps.set_socket(slot, socket).map_err(|e| e.to_string())
    }

    fn clear(&self, slot: u32) -> Result<(), String> {
        self.datapath.maps.clear_socket(slot).map_err(|e| e.to_string())
    }

    fn cookie(&self, slot: u32) -> Option<u64> {
        self.datapath.maps.socket_cookie(slot).ok().flatten()
    }

    fn worker_states(&self, workers: u32) -> Vec<WorkerState> {
        self.datapath.maps.worker_states(workers).unwrap_or_default()
    }

    fn sockets(&self) -> Result<Sockets, String> {
        // The addresses of an engine that was just killed are free only when its last thread is gone.
        let mut tries = 40;
        loop {
            match self.make(tries == 0) {
                Err(e) if tries > 0 && e.contains("in use") => {
                    tries -= 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(descriptors) => {
                    return Sockets::new(self.workers, self.dns6.is_some(), descriptors)
                        .ok_or_else(|| "wrong number".to_owned());
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl KernelSlots {
    /// `anywhere`: a TCP listener whose port another process of the host has (on 0.0.0.0, or on the source address
    /// itself: any process may bind these ports) gets another port. Only `vip_listener` leads to it, whatever its port.
    fn make(&self, anywhere: bool) -> Result<Vec<OwnedFd>, String> {
        let listener = |mut address: SocketAddr| {
            let mut result = listener_at(address, BACKLOG).map_err(|e| e.to_string());
            if anywhere && result.as_ref().is_err_and(|e| e.contains("in use")) {
                warn!(%address, "the port is in use by another process; Brattice takes another port, which makes no difference");
                address.set_port(0);
                result = listener_at(address, BACKLOG).map_err(|e| e.to_string());
            }
            result
        };
        // Of both families, where there are two.
        let written = |source: &Ipv4Addr| match self.dns6 {
            Some(_) => IpAddr::V6(source.to_ipv6_mapped()),
            None => IpAddr::V4(*source),
        };
        let sources: Vec<IpAddr> = self.sources.iter().map(written).collect();
        let (workers, tcp) = addresses(&sources, self.workers);
        let udp = |vip: IpAddr| dns_udp(SocketAddr::new(vip, DNS_PORT), self.engine_uid).map_err(|e| e.to_string());
        let mut descriptors = Vec::new();
        for kind in 0..2 {
            for pair in &workers {
                descriptors.push(listener(pair[kind])?);
            }
        }
        descriptors.push(udp(self.dns.into())?);
        descriptors.push(listener(tcp)?);
        if let Some(vip) = self.dns6 {
            descriptors.push(udp(vip.into())?);
        }
        descriptors.push(self.datapath.maps.workers_fd().map_err(|e| e.to_string())?);
        Ok(descriptors)
    }
}
