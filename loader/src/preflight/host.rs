//! Settings of this host that matter, beside those of [`crate::probe::kernel`].

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use brattice_abi as abi;
use ipnet::Ipv4Net;

use crate::probe::{self, Check};
use crate::{Error, sockets};

/// Below this many waiting connections a burst is answered with SYN cookies.
const SOMAXCONN: u64 = 1024;
/// Below this many packets waiting per CPU, a burst is dropped: redirected packets queue there.
const BACKLOG: u64 = 1000;

/// All checks: the kernel's, then the host's settings. Changes nothing.
#[must_use]
pub fn host(bpffs: &Path, vip: Ipv4Net) -> Vec<Check> {
    let mut checks = probe::kernel(bpffs);
    checks.push(at_least("net.core.somaxconn", SOMAXCONN));
    checks.push(at_least("net.core.netdev_max_backlog", BACKLOG));
    checks.push(at_least("net.ipv4.tcp_max_syn_backlog", 256));
    checks.push(syncookies());
    checks.push(dns_port(vip));
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

/// A name server of the host on 0.0.0.0:53 would keep the DNS VIP from being bound.
fn dns_port(vip: Ipv4Net) -> Check {
    let address = Ipv4Addr::from(vip.network().to_bits() + abi::DNS_VIP_OFFSET);
    match sockets::dns_udp(SocketAddrV4::new(address, 53), 0) {
        Ok(_) => Check::new("DNS port", true, true, format!("{address}:53 is free"), ""),
        // A running engine holds it, or a daemon listens on every address; the socket table tells which.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            if wildcard_dns() {
                Check::new(
                    "DNS port",
                    true,
                    false,
                    "a name server of this host listens on 0.0.0.0:53",
                    "let it listen on its own addresses only (dnsmasq: bind-dynamic; BIND, unbound: list the addresses)",
                )
            } else {
                Check::new("DNS port", true, true, format!("{address}:53 is in use, by Brattice itself"), "")
            }
        }
        Err(error) => Check::new("DNS port", true, false, error.to_string(), ""),
    }
}

/// Whether a UDP socket is bound to port 53 of all addresses.
fn wildcard_dns() -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default();
    table.lines().any(|line| line.split_whitespace().nth(1) == Some("00000000:0035"))
}
