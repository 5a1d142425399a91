//! Settings of this host that matter, beside those of [`crate::probe::kernel`].

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use brattice_abi as abi;
use ipnet::Ipv4Net;

use crate::probe::{self, Check};
use crate::{Error, Ipv6, Ipv6Ranges, ipv6, sockets};

/// Below this many waiting connections a burst is answered with SYN cookies.
const SOMAXCONN: u64 = 1024;
/// Below this many packets waiting per CPU, a burst is dropped: redirected packets queue there.
const BACKLOG: u64 = 1000;

/// All checks: the kernel's, then the host's settings; those of IPv6 if it is wanted. Changes nothing.
#[must_use]
pub fn host(bpffs: &Path, vip: Ipv4Net, wanted6: Option<Ipv6Ranges>) -> Vec<Check> {
    let mut checks = probe::kernel(bpffs);
    checks.push(at_least("net.core.somaxconn", SOMAXCONN));
    checks.push(at_least("net.core.netdev_max_backlog", BACKLOG));
    checks.push(at_least("net.ipv4.tcp_max_syn_backlog", 256));
    checks.push(syncookies());
    checks.push(dns_port("DNS port", Ipv4Addr::from(vip.network().to_bits() + abi::DNS_VIP_OFFSET).into()));
    let state = ipv6();
    match wanted6 {
        None => checks.push(Check::new("IPv6", false, true, "not wanted (--vip6-range off)", "")),
        Some(ranges) if state == Ipv6::On => {
            checks.push(Check::new("IPv6", false, true, state.text(), ""));
            checks.push(dns_port("DNS port, IPv6", ranges.at(abi::DNS_VIP_OFFSET).into()));
        }
        // Nothing that IPv4 needs.
        Some(_) => checks.push(Check::new("IPv6", false, false, state.text(), "")),
    }
    let others = probe::other_lookups(&[]);
    let foreign: Vec<_> = others.into_iter().filter(|name| !name.starts_with(abi::VIP_LISTENER)).collect();
    checks.push(Check::new(
        "other sk_lookup programs",
        false,
        foreign.is_empty(),
        if foreign.is_empty() { "none".to_owned() } else { foreign.join(", ") },
        "a foreign sk_lookup program that selects a socket for VIPs takes precedence: see that it leaves the VIP range alone",
    ));
    checks
}

fn sysctl(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(path).ok().map(|value| value.trim().to_owned())
}

fn at_least(name: &'static str, least: u64) -> Check {
    match sysctl(name) {
        // Not every network namespace shows every switch; it is then the host's.
        None => Check::new(name, false, true, "not shown in this network namespace", ""),
        Some(value) => {
            let ok = value.parse::<u64>().is_ok_and(|found| found >= least);
            Check::new(
                name,
                false,
                ok,
                value,
                &format!("sysctl -w {name}={least} (bursts of connections are refused below)"),
            )
        }
    }
}

fn syncookies() -> Check {
    let name = "net.ipv4.tcp_syncookies";
    let value = sysctl(name).unwrap_or_else(|| "not shown in this network namespace".into());
    let ok = value != "0";
    Check::new(
        name,
        false,
        ok,
        value,
        "sysctl -w net.ipv4.tcp_syncookies=1 (a SYN flood by one workload fills the queue of all)",
    )
}

/// A name server of the host on all addresses would keep the DNS VIP from being bound.
fn dns_port(name: &'static str, address: IpAddr) -> Check {
    let place = SocketAddr::new(address, 53);
    let everywhere = if address.is_ipv4() { "0.0.0.0:53" } else { "[::]:53" };
    match sockets::dns_udp(place, 0) {
        Ok(_) => Check::new(name, true, true, format!("{place} is free"), ""),
        // A running engine holds it, or a daemon listens on every address; the socket table shows which.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            if wildcard_dns(address) {
                Check::new(
                    name,
                    true,
                    false,
                    format!("a name server of this host listens on {everywhere}"),
                    "let it listen on its own addresses only (dnsmasq: bind-dynamic; BIND, unbound: list the addresses)",
                )
            } else {
                Check::new(name, true, true, format!("{place} is in use, by Brattice itself"), "")
            }
        }
        Err(error) => Check::new(name, true, false, error.to_string(), ""),
    }
}

/// Whether a UDP socket is bound to port 53 of all addresses, of the family of one.
fn wildcard_dns(family: IpAddr) -> bool {
    let (table, any) = match family {
        IpAddr::V4(_) => ("udp", "00000000:0035"),
        IpAddr::V6(_) => ("udp6", "00000000000000000000000000000000:0035"),
    };
    let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    table.lines().any(|line| line.split_whitespace().nth(1) == Some(any))
}
