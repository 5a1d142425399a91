//! Sockets towards workloads: their source is an engine source address, so that a target sees a link-local peer and
//! `workload_egress` lets them pass.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use brattice_wire::engine::Settings;
use rustix::net::sockopt::set_ip_freebind;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, UdpSocket};

use crate::{memory, transport::Stream};

/// The source addresses of one worker. Workers take turns through the list, so that no two of up to 16 race for a port
/// of the same (source, target).
#[derive(Clone, Debug)]
pub struct Sources {
    ipv4: Turns<Ipv4Addr>,
    ipv6: Turns<Ipv6Addr>,
}

#[derive(Clone, Debug)]
struct Turns<A> {
    own: Vec<A>,
    next: usize,
}

impl<A: Copy> Turns<A> {
    fn of(all: &[A], index: u32, workers: u32) -> Self {
        let workers = workers.max(1) as usize;
        let mut own: Vec<_> = all.iter().skip(index as usize % workers).step_by(workers).copied().collect();
        if own.is_empty() {
            own.extend(all.get(index as usize % all.len().max(1)));
        }
        Self { own, next: 0 }
    }

    fn turn(&mut self) -> Option<A> {
        let source = self.own.get(self.next % self.own.len().max(1)).copied();
        self.next = self.next.wrapping_add(1);
        source
    }
}

impl Sources {
    /// Those of worker `index`.
    pub fn of(settings: &Settings, index: u32) -> Self {
        Self::among(settings, index, settings.workers)
    }

    /// All of them.
    pub fn all(settings: &Settings) -> Self {
        Self::among(settings, 0, 1)
    }

    fn among(settings: &Settings, index: u32, workers: u32) -> Self {
        Self { ipv4: Turns::of(&settings.sources, index, workers), ipv6: Turns::of(&settings.sources6, index, workers) }
    }

    /// The one whose turn it is, of the target's family.
    pub fn turn(&mut self, target: IpAddr) -> Option<IpAddr> {
        match target {
            IpAddr::V4(_) => self.ipv4.turn().map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.turn().map(IpAddr::V6),
        }
    }
}

/// Lets a socket be bound to an engine source: a local route makes a range of IPv4 local, but not one of IPv6.
fn free(socket: &impl AsFd, source: IpAddr) -> io::Result<()> {
    if source.is_ipv6() {
        set_ip_freebind(socket, true)?;
    }
    Ok(())
}

/// Has connect(2) choose the port instead of bind(2), so that each target has all of the ports.
#[allow(unsafe_code, reason = "no crate has this option")]
fn choose_port_late(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).expect("it is 4");
    let (level, name) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    // SAFETY: the value lives through the call, is only read, and its size is given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(&on).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Connects to a workload from an engine source of its family, in at most `timeout`.
///
/// # Errors
/// The error of connect(2), or `TimedOut`.
pub async fn workload(source: Option<IpAddr>, target: SocketAddr, timeout: Duration) -> io::Result<Stream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    memory::bound_target(&socket);
    if let Some(source) = source {
        // The port is chosen at connect, per target; choosing it at bind would use up one port per source.
        choose_port_late(&socket)?;
        free(&socket, source)?;
        socket.bind((source, 0).into())?;
    }
    within(timeout, Stream::connect(socket, target)).await
}

/// Connects to a resolver outside, from whatever address the host's routes say.
///
/// # Errors
/// As [`workload`].
pub async fn outside(target: SocketAddr, timeout: Duration) -> io::Result<Stream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    within(timeout, Stream::connect(socket, target)).await
}

/// A connected UDP socket with a port of the kernel's random choice. Connected, so that only the target's answers come
/// in, and so that they find the socket before `vip_listener` is asked.
///
/// # Errors
/// When there is no route, or no port.
pub fn datagrams(source: Option<IpAddr>, target: SocketAddr) -> io::Result<UdpSocket> {
    let domain = if target.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if let Some(source) = source {
        free(&socket, source)?;
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

    fn settings(ipv4: Vec<Ipv4Addr>, ipv6: Vec<Ipv6Addr>, workers: u32) -> Settings {
        Settings { workers, sources: ipv4, sources6: ipv6, limits: Default::default(), halvings: 0 }
    }

    #[test]
    fn workers_share_no_source() {
        let ipv4: Vec<Ipv4Addr> = (1..=16).map(|last| Ipv4Addr::new(169, 254, 64, last)).collect();
        let ipv6: Vec<Ipv6Addr> = (1..=16).map(|last| Ipv6Addr::new(0xfd00, 0xa9fe, 0, 0, 0, 0, 0, last)).collect();
        let of = |index, workers| Sources::of(&settings(ipv4.clone(), ipv6.clone(), workers), index);
        let targets: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for target in targets {
            let mut seen = std::collections::HashSet::new();
            for index in 0..3 {
                let mut sources = of(index, 3);
                for _ in 0..sources.ipv4.own.len() {
                    let source = sources.turn(target).unwrap();
                    assert_eq!(source.is_ipv4(), target.is_ipv4());
                    assert!(seen.insert(source));
                }
            }
            assert_eq!(seen.len(), 16);
            assert!(of(40, 64).turn(target).is_some(), "more workers than sources share them");
            assert!(Sources::of(&settings(Vec::new(), Vec::new(), 1), 0).turn(target).is_none());
        }
    }

    /// As towards an alias, whose source no interface has.
    #[tokio::test]
    async fn a_source_of_ipv6_needs_no_interface() {
        let listener = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(1).unwrap();
        let target = listener.local_addr().unwrap().as_socket().unwrap();
        let nobodys: IpAddr = "fd00:a9fe::1".parse().unwrap();
        // Bound, but there is no route: not the fault of the address.
        let error = workload(Some(nobodys), target, Duration::from_millis(50)).await.unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::AddrNotAvailable, "{error}");
        assert_ne!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
}
