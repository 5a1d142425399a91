//! The active probe: does a packet get from a workload to a VIP, and from the engine to a workload?
//!
//! Rule sets are not guessed at: a throw-away namespace is attached like a workload, a SYN goes through `brattice0` to a VIP
//! of ours and its answer back, then one from a socket of the engine's user to the probe's alias. What does not arrive is
//! sent again under netfilter's trace, which names the chain or rule that ate it.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use brattice_abi as abi;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use super::addresses::{Addresses, PORT, addresses, addresses6};
use super::dropping_chains;
use super::elsewhere::Elsewhere;
use super::trace::{Culprit, Trace};
use crate::interfaces::PROBE_PREFIX;
use crate::netlink::address::NewAddress;
use crate::netlink::link::{self, VethPair};
use crate::netlink::route::{NewRoute, RouteType, TABLE_MAIN};
use crate::netlink::{Family, Socket};
use crate::own_thread::on_own_thread;
use crate::pins::Pins;
use crate::{Datapath, Error, Hook, Ipv6, Options, Result, adopt, cleanup, device, ipv6, socket_option, sockets};

/// How long a connection may take: one retransmission of a SYN (1 s) is allowed for.
const PATIENCE: Duration = Duration::from_millis(1500);

/// One direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// It works.
    Passed,
    /// It does not; why, as the connecting side saw it.
    Failed(String),
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// From a workload to a VIP and back.
    pub to_vip: Leg,
    /// From the engine to a workload and back.
    pub to_workload: Leg,
    /// As `to_vip`, over IPv6; `None`: the node has none now.
    pub to_vip6: Option<Leg>,
    /// As `to_workload`, likewise.
    pub to_workload6: Option<Leg>,
    /// What dropped the packets, with the commands that fix it.
    pub culprits: Vec<Culprit>,
    /// Where no culprit was caught in the act: what else is known.
    pub hints: Vec<String>,
}

impl Report {
    /// Whether all directions work.
    #[must_use]
    pub fn passed(&self) -> bool {
        let legs = [Some(&self.to_vip), Some(&self.to_workload), self.to_vip6.as_ref(), self.to_workload6.as_ref()];
        legs.into_iter().flatten().all(|leg| *leg == Leg::Passed)
    }
}

/// Probes through a running data path; leaves nothing behind.
///
/// # Errors
/// When the probe cannot be set up. Packets that do not arrive are no error but the report.
pub async fn probe(datapath: &Datapath) -> Result<Report> {
    let datapath = datapath.share();
    on_own_thread("probe", move || run(&datapath)).await
}

/// Refuses a network namespace in which a data path works that is not pinned under `bpffs`, and pins of a data path that works in
/// another namespace; changes nothing.
///
/// # Errors
/// [`Error::OtherInstance`], with its pin directory where that is found; [`Error::OtherNamespace`].
pub async fn no_other_instance(bpffs: &Path) -> Result<()> {
    let pins = Pins::new(bpffs, Hook::of_this_kernel());
    on_own_thread("other", move || adopt::no_other(&pins)).await
}

/// Probes without an agent: through the data path that is pinned, or one that is started for it and cleaned up after.
///
/// # Errors
/// As [`no_other_instance`], [`Datapath::start`] and [`probe`].
pub async fn probe_alone(options: Options) -> Result<Report> {
    let bpffs = options.bpffs.clone();
    // Before the start, which makes folders.
    no_other_instance(&bpffs).await?;
    let was_there = bpffs.exists();
    let datapath = match Datapath::start(options).await {
        Ok(datapath) => datapath,
        // What it made until then; what was there before belongs to an agent.
        Err(error) => {
            if !was_there {
                cleanup::run(&bpffs).await?;
            }
            return Err(error);
        }
    };
    let report = probe(&datapath).await;
    let adopted = datapath.adopted();
    drop(datapath);
    if !adopted {
        cleanup::run(&bpffs).await?;
    }
    report
}

/// What is set up for a probe; taken away when dropped.
struct Setup<'a> {
    datapath: &'a Datapath,
    inside: Elsewhere,
    ifindex: u32,
    addresses: Addresses,
    /// Put into the slot if it was empty; a connection that waits in its queue is answer enough.
    listener: Option<OwnedFd>,
}

impl<'a> Setup<'a> {
    fn new(datapath: &'a Datapath, addresses: Addresses) -> Result<Self> {
        let inside = Elsewhere::new()?;
        let mut socket = Socket::open(Family::Route).map_err(Error::netlink("opening a routing socket"))?;
        // At most 15 bytes, and unlike those of a probe that runs elsewhere at the same time.
        let name = format!("{PROBE_PREFIX}{:05}", std::process::id() % 100_000);
        let pair = VethPair {
            name: &name,
            peer: "eth0",
            group: device::GROUP,
            mtu: device::DEFAULT_MTU,
            noarp: false,
            peer_namespace: Some(inside.namespace.as_fd()),
        };
        link::add_veth(&mut socket, &pair).map_err(Error::netlink(format!("making {name}")))?;
        let found = link::by_name(&mut socket, &name).map_err(Error::netlink(format!("looking for {name}")))?;
        let ifindex = found.map(|l| l.ifindex).ok_or(Error::NoInterface { ifindex: 0 })?;
        let mut setup = Self { datapath, inside, ifindex, addresses, listener: None };
        link::set_up(&mut socket, ifindex, true).map_err(Error::netlink(format!("setting {name} up")))?;
        let mac = setup
            .inside
            .run(move || furnish(addresses.workload))?
            .map_err(Error::netlink("setting up the probe's namespace"))?;
        setup.write_maps(mac)?;
        datapath.attach_now(ifindex)?;
        Ok(setup)
    }

    fn keys(&self) -> (abi::WorkloadKey, abi::Address, abi::ListenerKey, abi::TargetKey) {
        let own = &self.addresses;
        let workload = abi::WorkloadKey { ifindex: self.ifindex, address: own.workload.into() };
        (workload, own.alias.into(), own.listener(), own.target())
    }

    fn write_maps(&mut self, mac: [u8; 6]) -> Result<()> {
        let maps = &self.datapath.maps;
        let (workload, alias, listener, target) = self.keys();
        let workload_id = abi::PROBE_WORKLOAD_ID;
        let delivery = abi::Alias { address: workload.address, ifindex: self.ifindex, workload_id, mac, mtu: 0 };
        // First: it shows the next start that there is something to remove, if this process is killed.
        maps.aliases().insert(&alias, &delivery)?;
        maps.workloads().insert(&workload, &abi::Workload { alias, workload_id, flags: 0 })?;
        maps.targets().insert(&target, &1)?;
        if maps.socket_cookie(abi::SLOT_DNS_TCP)?.is_none() {
            let socket = sockets::listener(SocketAddr::new(self.addresses.source, 0), 16)?;
            maps.set_socket(abi::SLOT_DNS_TCP, socket.as_fd())?;
            self.listener = Some(socket);
        }
        maps.listeners().insert(&listener, &abi::Listener { kind: abi::LISTENER_DNS, service_id: 0 })
    }

    fn to_vip(&self) -> Result<Leg> {
        let Addresses { workload, vip, .. } = self.addresses;
        let address = SocketAddr::from((vip, PORT));
        let result = self.inside.run(move || TcpStream::connect_timeout(&address, PATIENCE).map(drop))?;
        Ok(match result {
            Ok(()) => Leg::Passed,
            // The engine knows no such workload and resets what it has accepted; a SYN that is turned away shows as
            // refused.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Leg::Passed,
            Err(error) => Leg::Failed(format!("{address} from {workload}: {error}")),
        })
    }

    fn to_workload(&self) -> Result<Leg> {
        let Addresses { workload, alias, source, .. } = self.addresses;
        let listener = self
            .inside
            .run(move || TcpListener::bind((workload, PORT)))?
            .map_err(Error::io("listening in the probe's namespace"))?;
        let target = SocketAddr::new(alias, PORT);
        let leg = match as_engine(self.datapath.options().engine_uid, source, target) {
            Ok(()) => Leg::Passed,
            Err(error) => Leg::Failed(format!("{target} from {source}: {error}")),
        };
        drop(listener);
        Ok(leg)
    }
}

impl Drop for Setup<'_> {
    fn drop(&mut self) {
        let maps = &self.datapath.maps;
        let (workload, alias, listener, target) = self.keys();
        let mut socket = Socket::open(Family::Route);
        let steps = [
            self.datapath.detach_now(self.ifindex),
            maps.listeners().remove(&listener),
            self.listener.take().map_or(Ok(()), |_| maps.clear_socket(abi::SLOT_DNS_TCP)),
            maps.targets().remove(&target),
            sockets::destroy(self.addresses.alias).map(drop),
            maps.workloads().remove(&workload),
            maps.aliases().remove(&alias),
            match &mut socket {
                Ok(socket) => {
                    link::delete(socket, self.ifindex).map_err(Error::netlink("removing the probe's interface"))
                }
                Err(_) => Ok(()),
            },
        ];
        for error in steps.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "cannot remove what the probe set up");
        }
    }
}

/// Inside: loopback and the veth up, an address, everything reachable directly. The veth's MAC.
fn furnish(address: IpAddr) -> std::io::Result<[u8; 6]> {
    let mut socket = Socket::open(Family::Route)?;
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let lo = link::by_name(&mut socket, "lo")?.ok_or_else(missing)?;
    let eth0 = link::by_name(&mut socket, "eth0")?.ok_or_else(missing)?;
    link::set_up(&mut socket, lo.ifindex, true)?;
    link::set_up(&mut socket, eth0.ifindex, true)?;
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    NewAddress { ifindex: eth0.ifindex, address, prefix, explicit_only: false }.add(&mut socket)?;
    let default = NewRoute {
        destination: if address.is_ipv4() { IpNet::V4(Ipv4Net::default()) } else { IpNet::V6(Ipv6Net::default()) },
        table: TABLE_MAIN,
        kind: RouteType::Unicast,
        protocol: crate::routes::PROTOCOL,
        interface: eth0.ifindex,
        gateway: None,
        source: None,
        mtu: None,
    };
    default.add(&mut socket, false)?;
    Ok(eth0.mac)
}

/// Connects as the engine does: a socket of its user, from one of its source addresses.
fn as_engine(uid: u32, source: IpAddr, target: SocketAddr) -> Result<()> {
    let failed = |error: Errno| Error::Io { what: "connecting as the engine".into(), source: error.into() };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
    sockets::own(&socket, uid)?;
    socket_option::set(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
        .map_err(Error::io("connecting as the engine"))?;
    // Of IPv6, a local route alone makes no address one's own.
    sockopt::set_ip_freebind(&socket, true).map_err(failed)?;
    bind(&socket, &SocketAddr::new(source, 0)).map_err(failed)?;
    match connect(&socket, &target) {
        Ok(()) => return Ok(()),
        Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(failed(error)),
    }
    let timeout = Timespec::try_from(PATIENCE).expect("some seconds");
    let mut waiting = [PollFd::new(&socket, PollFlags::OUT)];
    if poll(&mut waiting, Some(&timeout)).map_err(failed)? == 0 {
        return Err(failed(Errno::TIMEDOUT));
    }
    sockopt::socket_error(&socket).map_err(failed)?.map_err(failed)
}

/// What the programs dropped between two readings.
fn dropped(before: &[(u32, u64)], after: &[(u32, u64)]) -> Vec<String> {
    before
        .iter()
        .zip(after)
        .filter(|((_, a), (_, b))| b > a)
        .filter_map(|((index, a), (_, b))| {
            let reason = abi::DropReason::from_u32(*index)?;
            Some(format!("{} packets dropped meanwhile ({}): {}", b - a, reason.name(), reason.text()))
        })
        .collect()
}

/// Both directions of a family; what dropped the packets goes into the report.
fn family(datapath: &Datapath, addresses: Addresses, report: &mut Report) -> Result<(Leg, Leg)> {
    let setup = Setup::new(datapath, addresses)?;
    let legs = (setup.to_vip()?, setup.to_workload()?);
    if legs == (Leg::Passed, Leg::Passed) {
        return Ok(legs);
    }
    let before = datapath.maps.counters()?;
    match Trace::start(addresses.alias) {
        Ok(trace) => {
            // Both: what one direction shows may be hidden in the other.
            setup.to_vip()?;
            setup.to_workload()?;
            for culprit in trace.culprits()? {
                if !report.culprits.contains(&culprit) {
                    report.culprits.push(culprit);
                }
            }
        }
        Err(error) => report.hints.push(format!("no trace of the packets could be had: {error}")),
    }
    report.hints.extend(dropped(&before, &datapath.maps.counters()?));
    Ok(legs)
}

fn run(datapath: &Datapath) -> Result<Report> {
    let everything = abi::SwitchKey { scope: abi::SWITCH_ALL, id: 0 };
    if datapath.maps.switches().get(&everything)?.is_some_and(|s| s.mode == abi::MODE_DETACH) {
        return Err(Error::Detached);
    }
    let options = datapath.options();
    let mut report = Report {
        to_vip: Leg::Passed,
        to_workload: Leg::Passed,
        to_vip6: None,
        to_workload6: None,
        culprits: Vec::new(),
        hints: Vec::new(),
    };
    (report.to_vip, report.to_workload) = family(datapath, addresses(options), &mut report)?;
    if let Some(addresses) = addresses6(options).filter(|_| ipv6() == Ipv6::On) {
        let (to_vip, to_workload) = family(datapath, addresses, &mut report)?;
        (report.to_vip6, report.to_workload6) = (Some(to_vip), Some(to_workload));
    }
    if report.passed() {
        return Ok(report);
    }
    report.hints.extend(datapath.detours()?);
    if report.culprits.is_empty() {
        for chain in dropping_chains()? {
            report.hints.push(format!(
                "chain {} {} {} (hook {}) drops by policy; if it is the cause: {}",
                chain.family,
                chain.table,
                chain.chain,
                chain.hook,
                chain.fix()
            ));
        }
        report.hints.push(
            "no nftables rule was caught: look at rules of iptables-legacy (iptables-legacy -S), at rp_filter with \
             fib rules, and at other vendors' eBPF programs (bpftool net)"
                .into(),
        );
    }
    Ok(report)
}
