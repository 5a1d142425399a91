//! The data path of a node: started, adopted, repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::debug_log::DebugLog;
use crate::events::Events;
use crate::hook::Hook;
use crate::ipv6::{Ipv6, ipv6};
use crate::links::Link;
use crate::maps::Maps;
use crate::namespace::{self, Namespace};
use crate::netlink::{Family, Socket, link};
use crate::object::{self, Programs};
use crate::options::{Ipv6Ranges, Options};
use crate::own_thread::on_own_thread;
use crate::pins::{Lock, Pins};
use crate::preflight::forget;
use crate::sys;
use crate::{Error, Result, adopt, cgroups, detours, device, nft, probe, replace, routes, rules};

mod attaching;
mod footprint;

/// A program that is attached, as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, as `bpftool prog` shows it.
    pub program: &'static str,
    /// Interface name, `network namespace`, or `cgroup root`.
    pub attached_to: String,
    /// `TCX`, `clsact`, `sk_lookup` or `cgroup`.
    pub hook: &'static str,
    /// Interface index; 0 where it is attached to none.
    pub ifindex: u32,
    /// Id of the program, as `bpftool prog` shows it.
    pub program_id: u32,
    /// How many instructions the verifier went through when it was loaded, all paths counted.
    pub instructions: u32,
    /// Id of the link, as `bpftool link` shows it; 0 for a filter of `clsact`, which is no link.
    pub link_id: u32,
}

/// The running data path. Dropping it leaves everything in the kernel at work: pins hold it, and the next start adopts it.
#[derive(Debug)]
pub struct Datapath {
    /// The maps.
    pub maps: Maps,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    pins: Pins,
    hook: Hook,
    maps: Maps,
    programs: Programs,
    namespace: Namespace,
    /// See [`abi::Config::netns`].
    cookie: u64,
    adopted: bool,
    state: Mutex<State>,
    events_taken: Arc<AtomicBool>,
}

/// What the data path is looked through for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Start,
    Repair,
    RepairExceptTable,
}

/// What changes while it runs; its lock also orders all changes.
#[derive(Debug, Default)]
struct State {
    listener: Option<Link>,
    egress: Option<Link>,
    workloads: BTreeMap<u32, Link>,
    /// Programs at the root of the cgroups, by name.
    hosts: cgroups::Links,
    mtu: u32,
    /// Aliases of processes of the host; `None` until they are set.
    aliases: Option<BTreeSet<IpAddr>>,
    /// What [`Datapath::start`] did, in order.
    steps: Vec<&'static str>,
    /// What was repaired and not reported yet, because something else could not be.
    repaired: Vec<&'static str>,
    /// Keeps other agents out of the pin directory.
    lock: Option<Lock>,
}

impl Datapath {
    /// Starts the data path in the calling thread's network namespace, or adopts the one that runs: with pins of the same
    /// schema and layout under `bpffs`, the same programs and links stay at work, also if this build's object is another.
    ///
    /// Order: programs and maps, configuration, `vip_listener` (attached), the programs of sockets, `brattice0`, nftables,
    /// `workload_egress` (attached), alias routes, VIP routes; so there is never a route without its guard.
    ///
    /// # Errors
    /// Pins of another schema or layout, ranges other than the running ones, another data path in this namespace, and
    /// whatever the kernel refuses. What was done until then stays and is taken up by the next start or by cleanup.
    pub async fn start(options: Options) -> Result<Self> {
        Self::start_with(options, Hook::of_this_kernel()).await
    }

    /// As [`Self::start`], with programs attached to interfaces this way: also on a kernel that has a better one.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_with(options: Options, hook: Hook) -> Result<Self> {
        on_own_thread("start", move || Inner::start(options, hook)).await.map(|inner| {
            let inner = Arc::new(inner);
            Self { maps: inner.maps.clone(), inner }
        })
    }

    /// Whether a running data path was adopted.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.inner.adopted
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// How programs are attached to interfaces.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.inner.hook
    }

    /// What [`Self::start`] had to do, in the order in which it was done; an adopted whole data path needs nothing.
    #[must_use]
    pub fn steps(&self) -> Vec<&'static str> {
        self.inner.state().steps.clone()
    }

    /// Attaches `workload_ingress` to an interface, before all other programs there. Attached already: nothing is done.
    ///
    /// # Errors
    /// [`Error::NoInterface`]; whatever the kernel refuses.
    pub async fn attach(&self, ifindex: u32) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        on_own_thread("attach", move || inner.attach(ifindex)).await
    }

    /// Detaches it; also if the interface is gone or nothing was attached.
    ///
    /// # Errors
    /// When the pin cannot be removed.
    pub async fn detach(&self, ifindex: u32) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        on_own_thread("detach", move || inner.detach(ifindex)).await
    }

    /// What is attached, asked from the kernel; without links whose interface is gone, and without a probe's, which are
    /// not to be detached by others.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attached(&self) -> Result<Vec<Attachment>> {
        self.inner.attached()
    }

    /// What the data path put on this host, a line each: device, table, routes, pins.
    #[must_use]
    pub fn footprint(&self) -> Vec<String> {
        self.inner.footprint()
    }

    /// Index and MAC of `brattice0`, as configured.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn device(&self) -> Result<(u32, [u8; 6])> {
        let config = self.maps.config().get(&0)?.unwrap_or_default();
        Ok((config.brattice0, config.brattice0_mac))
    }

    /// Sets the largest packet that is sent to aliases: the largest MTU of all workloads, 68 to 65535 bytes. What is too large
    /// for the workload it goes to, `workload_egress` answers.
    ///
    /// # Errors
    /// An MTU out of range; whatever the kernel refuses.
    pub async fn set_mtu(&self, mtu: u32) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        on_own_thread("set-mtu", move || inner.set_mtu(mtu)).await
    }

    /// Makes these, the aliases of processes of the host, addresses of `brattice0`, and no others.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub async fn set_host_aliases(&self, aliases: BTreeSet<IpAddr>) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        on_own_thread("set-host-aliases", move || inner.set_host_aliases(aliases)).await
    }

    /// Aliases that are addresses of `brattice0` now.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn host_aliases(&self) -> Result<BTreeSet<IpAddr>> {
        let mut socket = routing()?;
        device::find(&mut socket)?.map_or_else(|| Ok(BTreeSet::new()), |found| device::addresses(&mut socket, &found))
    }

    /// Puts back what vanished or was changed: `vip_listener`, `brattice0`, `config`, `nft`, `workload_egress`,
    /// `rules`, `alias-route`, `vip-route` (both also with `-ipv6`), `host`, `host-aliases`, `pins`. Returns the names
    /// of what was repaired. `workload_ingress` means a link whose interface is gone or that was detached: its pin is
    /// removed, and [`Self::attach`] may be called anew.
    ///
    /// # Errors
    /// Whatever the kernel refuses. Pins and table that cannot be written do not keep the rest from being repaired; what was
    /// repaired is returned by the next call that succeeds.
    pub async fn repair(&self) -> Result<Vec<&'static str>> {
        let inner = Arc::clone(&self.inner);
        on_own_thread("repair", move || inner.establish(&mut inner.state(), Purpose::Repair)).await
    }

    /// As [`Self::repair`], without a look at the nftables table, which takes a process of its own: for changes of anything else,
    /// as of that table the kernel tells apart ([`crate::interfaces::Change::firewall`]).
    ///
    /// # Errors
    /// As for [`Self::repair`].
    pub async fn repair_except_table(&self) -> Result<Vec<&'static str>> {
        let inner = Arc::clone(&self.inner);
        on_own_thread("repair", move || inner.establish(&mut inner.state(), Purpose::RepairExceptTable)).await
    }

    /// Packets to aliases and VIPs that take another route than Brattice's: the rule or route, and what to do, a line each: the
    /// kernel is asked which way packets would take. None: all is well.
    ///
    /// # Errors
    /// When the kernel refuses to list routes.
    pub fn detours(&self) -> Result<Vec<String>> {
        let brattice0 = self.device()?.0;
        detours::detours(&mut routing()?, &self.inner.options, self.inner.serves_ipv6().is_some(), brattice0)
    }

    /// Whether every program is attached where it should be. The kernel sends no event when a link is detached by
    /// force, so this is polled: two system calls a link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn whole(&self) -> Result<bool> {
        self.inner.whole()
    }

    /// The same data path, for work on another thread.
    pub(crate) fn share(&self) -> Self {
        Self { maps: self.maps.clone(), inner: Arc::clone(&self.inner) }
    }

    /// [`Self::attach`] on the calling thread.
    pub(crate) fn attach_now(&self, ifindex: u32) -> Result<()> {
        self.inner.attach(ifindex)
    }

    /// [`Self::detach`] on the calling thread.
    pub(crate) fn detach_now(&self, ifindex: u32) -> Result<()> {
        self.inner.detach(ifindex)
    }

    /// The sampled drops. One reader at a time.
    ///
    /// # Errors
    /// [`Error::EventsTaken`]; no runtime.
    pub fn events(&self) -> Result<Events> {
        Events::open(self.maps.events_fd()?, &self.inner.events_taken)
    }

    /// The lines that the programs send, where they were loaded with [`crate::EbpfLog::Debug`]. One reader at a time.
    ///
    /// # Errors
    /// When there are none to read; no runtime.
    pub fn debug_log(&self) -> Result<DebugLog> {
        DebugLog::open(self.inner.programs.ingress.id)
    }
}

fn routing() -> Result<Socket> {
    Socket::open(Family::Route).map_err(Error::netlink("opening a routing socket"))
}

impl Inner {
    fn start(options: Options, hook: Hook) -> Result<Self> {
        options.check()?;
        let hook = Pins::new(&options.bpffs, hook).hook()?;
        let pins = Pins::new(&options.bpffs, hook);
        pins.check()?;
        probe::refuse_old_kernels()?;
        let namespace = namespace::own()?;
        // Refused before anything is made.
        let mut socket = routing()?;
        device::find(&mut socket)?;
        routes::loopback(&mut socket)?;
        pins.create()?;
        let lock = pins.lock()?.ok_or_else(|| Error::Io {
            what: format!("{} vanished while it was being made", pins.root().display()),
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        })?;
        let running = adopt::running(&pins, &namespace)?;
        let adopted = running.is_some();
        let mut steps = Vec::new();
        let programs = match running {
            Some(programs) if programs.ebpf_log() != options.ebpf_log => {
                steps.push("programs");
                replace::programs(&pins, &programs, options.ebpf_log)?
            }
            Some(programs) => programs,
            None => {
                adopt::alone(&pins, &namespace, &mut socket, None)?;
                pins.clear()?;
                let programs = object::load(&pins, options.ebpf_log)?;
                steps.extend(["maps", "programs"]);
                programs
            }
        };
        adopt::alone(&pins, &namespace, &mut socket, Some(&programs))?;
        let maps = Maps::open(&pins)?;
        adopt::same_ranges(&maps, &options)?;
        if adopted {
            forget(&maps, &options)?;
        }
        let cookie = cgroups::namespace_cookie()?;
        // Until they are set: those of the previous agent.
        let aliases = match device::find(&mut socket)? {
            Some(device) => Some(device::addresses(&mut socket, &device)?),
            None => None,
        };
        let mtu = routes::list(&mut socket)?
            .iter()
            .filter(|r| r.destination.addr().is_ipv4())
            .find_map(|r| r.mtu)
            .unwrap_or(device::DEFAULT_MTU);
        let inner = Self {
            options,
            pins,
            hook,
            maps,
            programs,
            namespace,
            cookie,
            adopted,
            state: Mutex::new(State { mtu, aliases, lock: Some(lock), ..State::default() }),
            events_taken: Arc::default(),
        };
        let mut state = inner.state();
        steps.extend(inner.establish(&mut state, Purpose::Start)?);
        state.steps = steps;
        drop(state);
        Ok(inner)
    }

    /// A poisoned lock only means that an earlier change panicked half-way; the next one looks at the kernel anew.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings everything to where it should be, in the order of start; names of what had to be done. On a node that
    /// serves already, pins or a table that cannot be written do not keep the rest from being put back.
    fn establish(&self, state: &mut State, purpose: Purpose) -> Result<Vec<&'static str>> {
        let serving = purpose != Purpose::Start;
        let mut socket = routing()?;
        let pins = self.repin(state);
        match &pins {
            Ok(true) => state.repaired.push("pins"),
            Ok(false) => {}
            Err(_) if serving => {}
            Err(_) => return pins.map(|_| Vec::new()),
        }
        let there = device::find(&mut socket)?;
        let mut configured = self.configure(there.map(|d| (d.ifindex, d.mac)))?;
        if self.ensure_listener(state)? {
            state.repaired.push("vip_listener");
        }
        let hosts = cgroups::ensure(&self.programs.hosts, &mut state.hosts, &self.pins);
        match &hosts {
            Ok(true) => state.repaired.push("host"),
            Ok(false) => {}
            Err(_) if serving => {}
            Err(_) => return hosts.map(|_| Vec::new()),
        }
        let (device, made) = device::ensure(&mut socket)?;
        if made {
            state.repaired.push("brattice0");
        }
        if device.mtu < state.mtu {
            device::raise_mtu(&mut socket, &device, state.mtu)?;
        }
        if self.give_aliases(state, &mut socket, &device)? {
            state.repaired.push("host-aliases");
        }
        configured |= self.configure(Some((device.ifindex, device.mac)))?;
        if configured {
            state.repaired.push("config");
        }
        let table = if purpose == Purpose::RepairExceptTable { Ok(false) } else { nft::ensure(&self.options) };
        match &table {
            Ok(true) => state.repaired.push("nft"),
            Ok(false) => {}
            Err(_) if serving => {}
            Err(_) => return table.map(|_| Vec::new()),
        }
        if self.ensure_egress(state, device.ifindex)? {
            state.repaired.push("workload_egress");
        }
        // The rules first: they change nothing where there is no route yet.
        if rules::ensure(&mut socket, &self.ranges())? {
            state.repaired.push("rules");
        }
        if routes::ensure(&mut socket, &routes::alias(self.options.alias.into(), device.ifindex, state.mtu))? {
            state.repaired.push("alias-route");
        }
        let loopback = routes::loopback(&mut socket)?;
        if routes::ensure(&mut socket, &routes::vip(self.options.vip.into(), loopback))? {
            state.repaired.push("vip-route");
        }
        if let Some(ipv6) = self.serves_ipv6() {
            if routes::ensure(&mut socket, &routes::alias(ipv6.alias.into(), device.ifindex, state.mtu))? {
                state.repaired.push("alias-route-ipv6");
            }
            if routes::ensure(&mut socket, &routes::vip(ipv6.vip.into(), loopback))? {
                state.repaired.push("vip-route-ipv6");
            }
        }
        if self.ensure_workloads(state)? {
            state.repaired.push("workload_ingress");
        }
        pins.and(table).and(hosts).map(|_| std::mem::take(&mut state.repaired))
    }

    /// All ranges that have routes now.
    fn ranges(&self) -> Vec<IpNet> {
        let mut all = vec![self.options.alias.into(), self.options.vip.into()];
        all.extend(self.serves_ipv6().into_iter().flat_map(|ipv6| [IpNet::from(ipv6.alias), IpNet::from(ipv6.vip)]));
        all
    }

    /// The ranges of IPv6, while the host does it: it takes no such routes meanwhile.
    fn serves_ipv6(&self) -> Option<Ipv6Ranges> {
        self.options.ipv6.filter(|_| ipv6() == Ipv6::On)
    }

    /// Pins again what is held but pinned no longer.
    fn repin(&self, state: &mut State) -> Result<bool> {
        // Another file system may be mounted there now, or none.
        self.pins.check()?;
        self.pins.create()?;
        if let Some(lock) = &state.lock
            && !self.pins.is_locked_by(lock)?
        {
            state.lock = self.pins.lock()?;
        }
        let mut any = self.maps.repin(&self.pins)?;
        for (name, loaded) in self.programs.all() {
            let path = self.pins.program(name);
            if !path.exists() {
                use std::os::fd::AsFd;
                sys::obj_pin(loaded.fd.as_fd(), &path).map_err(Error::bpf(format!("pinning program {name}")))?;
                any = true;
            }
        }
        for link in
            state.listener.iter().chain(&state.egress).chain(state.workloads.values()).chain(state.hosts.values())
        {
            any |= link.repin()?;
        }
        Ok(any)
    }

    fn configure(&self, device: Option<(u32, [u8; 6])>) -> Result<bool> {
        let table = self.maps.config();
        let wanted = self.options.config(device, self.cookie);
        if table.get(&0)? == Some(wanted) {
            return Ok(false);
        }
        table.insert(&0, &wanted)?;
        Ok(true)
    }

    fn set_host_aliases(&self, aliases: BTreeSet<IpAddr>) -> Result<()> {
        let mut state = self.state();
        let mut socket = routing()?;
        let (device, _) = device::ensure(&mut socket)?;
        state.aliases = Some(aliases);
        self.give_aliases(&state, &mut socket, &device).map(drop)
    }

    fn give_aliases(&self, state: &State, socket: &mut Socket, device: &link::Link) -> Result<bool> {
        let Some(aliases) = &state.aliases else { return Ok(false) };
        let ipv6 = self.serves_ipv6().is_some();
        let possible = aliases.iter().copied().filter(|alias| alias.is_ipv4() || ipv6).collect();
        device::set_addresses(socket, device, &possible)
    }

    fn set_mtu(&self, mtu: u32) -> Result<()> {
        if !(68..=65_535).contains(&mtu) {
            return Err(Error::Option {
                option: "MTU",
                value: mtu.to_string(),
                reason: "it must be 68 to 65535".into(),
            });
        }
        let mut state = self.state();
        state.mtu = mtu;
        let mut socket = routing()?;
        let (device, _) = device::ensure(&mut socket)?;
        device::raise_mtu(&mut socket, &device, mtu)?;
        routes::ensure(&mut socket, &routes::alias(self.options.alias.into(), device.ifindex, mtu))?;
        if let Some(ipv6) = self.serves_ipv6() {
            routes::ensure(&mut socket, &routes::alias(ipv6.alias.into(), device.ifindex, mtu))?;
        }
        Ok(())
    }
}
