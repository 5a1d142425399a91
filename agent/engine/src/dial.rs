//! Sockets towards workloads: their source is an engine source address, so that a target sees a link-local peer and
//! `workload_egress` lets them pass.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// The source addresses of one worker. Workers take turns through the list, so that no two of up to 16 race for a port
/// of the same (source, target).
#[derive(Clone, Debug)]
pub struct Sources {
    own: Vec<Ipv4Addr>,
    next: usize,
}

impl Sources {
    /// Those of worker `index` of `workers`.
    pub fn of(all: &[Ipv4Addr], index: u32, workers: u32) -> Self {
        let workers = workers.max(1) as usize;
        let mut own: Vec<_> = all.iter().skip(index as usize % workers).step_by(workers).copied().collect();
        if own.is_empty() {
            own.extend(all.get(index as usize % all.len().max(1)));
        }
        Self { own, next: 0 }
    }

    /// The one whose turn it is.
    pub fn turn(&mut self) -> Option<Ipv4Addr> {
        let source = self.own.get(self.next % self.own.len().max(1)).copied();
        self.next = self.next.wrapping_add(1);
        source
    }
}

/// Connects to a workload from an engine source, in at most `timeout`.
///
/// # Errors
/// What connect(2) says, or `TimedOut`.
pub async fn workload(source: Option<Ipv4Addr>, target: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let (Some(source), true) = (source, target.is_ipv4()) {
        // The port is chosen at connect, per target; choosing it at bind would use up one port per source.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind((source, 0).into())?;
    }
    let stream = within(timeout, socket.connect(target)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects to a resolver outside, from whatever address the host's routes say.
///
/// # Errors
/// As [`workload`].
pub async fn outside(target: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    within(timeout, TcpStream::connect(target)).await
}

/// A connected UDP socket with a port of the kernel's random choice. Connected, so that only the target's answers come
/// in, and so that they find the socket before `vip_listener` is asked.
///
/// # Errors
/// When there is no route, or no port.
pub fn datagrams(source: Option<Ipv4Addr>, target: SocketAddr) -> io::Result<UdpSocket> {
    let domain = if target.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if let (Some(source), IpAddr::V4(_)) = (source, target.ip()) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect(&target.into())?;
    UdpSocket::from_std(socket.into())
}

async fn within<T>(timeout: Duration, attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_no_source() {
        let all: Vec<Ipv4Addr> = (1..=16).map(|last| Ipv4Addr::new(169, 254, 64, last)).collect();
        let mut seen = std::collections::HashSet::new();
        for index in 0..3 {
            let mut sources = Sources::of(&all, index, 3);
            let count = sources.own.len();
            for _ in 0..count {
                assert!(seen.insert(sources.turn().unwrap()));
            }
        }
        assert_eq!(seen.len(), 16);
        assert!(Sources::of(&all, 40, 64).turn().is_some(), "more workers than sources share them");
        assert!(Sources::of(&[], 0, 1).turn().is_none());
    }
}
