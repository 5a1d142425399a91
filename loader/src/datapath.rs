//! The data path of a node: started, adopted, kept whole.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brattice_abi as abi;

use crate::aside::aside;
use crate::events::Events;
use crate::hook::Hook;
use crate::interfaces::PROBE_PREFIX;
use crate::ipv6::{Ipv6, ipv6};
use crate::links::Link;
use crate::maps::Maps;
use crate::namespace::{self, Namespace};
use crate::netlink::{Family, Socket, link};
use crate::object::{self, Programs};
use crate::options::{Ipv6Ranges, Options};
use crate::pins::{self, Lock, Pins};
use crate::sys::{self, Side, Target};
use crate::{Error, Result, adopt, cgroups, device, nft, preflight, probe, routes};

mod footprint;

/// A program that is attached, as the kernel tells it.
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

/// What changes while it runs; its lock also orders all changes.
#[derive(Debug, Default)]
struct State {
    listener: Option<Link>,
    egress: Option<Link>,
    workloads: BTreeMap<u32, Link>,
    /// Programs at the root of the cgroups, by name.
    hosts: cgroups::Links,
    mtu: u32,
    /// What [`Datapath::start`] did, in order.
    steps: Vec<&'static str>,
    /// What was mended and not told yet, because something else could not be.
    mended: Vec<&'static str>,
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
        aside("start", move || Inner::start(options, hook)).await.map(|inner| {
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
        aside("attach", move || inner.attach(ifindex)).await
    }

    /// Detaches it; also if the interface is gone or nothing was attached.
    ///
    /// # Errors
    /// When the pin cannot be removed.
    pub async fn detach(&self, ifindex: u32) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        aside("detach", move || inner.detach(ifindex)).await
    }

    /// What is attached, asked from the kernel; without links whose interface is gone, and without a probe's, which are
    /// nobody else's to detach.
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
        aside("set-mtu", move || inner.set_mtu(mtu)).await
    }

    /// Puts back what vanished or was changed: `vip_listener`, `brattice0`, `config`, `nft`, `workload_egress`,
    /// `alias-route`, `vip-route` (both also with `-ipv6`), `host`, `pins`; the names of what was mended. `workload_ingress` stands for a link whose
    /// interface is gone or that somebody detached: its pin is removed, and [`Self::attach`] may be called anew.
    ///
    /// # Errors
    /// Whatever the kernel refuses. Pins and table that cannot be written do not keep the rest from being mended; what was
    /// mended is told by the next call that succeeds.
    pub async fn repair(&self) -> Result<Vec<&'static str>> {
        let inner = Arc::clone(&self.inner);
        aside("repair", move || inner.establish(&mut inner.state(), true)).await
    }

    /// Whether every program is attached where it should be. No event tells when somebody detaches a link by force, so this
    /// is asked now and then: two system calls a link.
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
            Some(programs) => programs,
            None => {
                adopt::alone(&pins, &namespace, &mut socket, None)?;
                pins.clear()?;
                let programs = object::load(&pins)?;
                steps.extend(["maps", "programs"]);
                programs
            }
        };
        adopt::alone(&pins, &namespace, &mut socket, Some(&programs))?;
        let maps = Maps::open(&pins)?;
        adopt::same_ranges(&maps, &options)?;
        if adopted {
            preflight::forget(&maps, &options)?;
        }
        let cookie = cgroups::namespace_cookie()?;
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
            state: Mutex::new(State { mtu, lock: Some(lock), ..State::default() }),
            events_taken: Arc::default(),
        };
        let mut state = inner.state();
        steps.extend(inner.establish(&mut state, false)?);
        state.steps = steps;
        drop(state);
        Ok(inner)
    }

    /// A poisoned lock only means that an earlier change panicked half-way; the next one looks at the kernel anew.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings everything to where it should be, in the order of start; names of what had to be done. On a node that
    /// serves already (`serving`), pins or a table that cannot be written do not keep the rest from being mended.
    fn establish(&self, state: &mut State, serving: bool) -> Result<Vec<&'static str>> {
        let mut socket = routing()?;
        let pins = self.repin(state);
        match &pins {
            Ok(true) => state.mended.push("pins"),
            Ok(false) => {}
            Err(_) if serving => {}
            Err(_) => return pins.map(|_| Vec::new()),
        }
        let there = device::find(&mut socket)?;
        let mut configured = self.configure(there.map(|d| (d.ifindex, d.mac)))?;
        if self.ensure_listener(state)? {
            state.mended.push("vip_listener");
        }
        let hosts = cgroups::ensure(&self.programs.hosts, &mut state.hosts, &self.pins);
        match &hosts {
            Ok(true) => state.mended.push("host"),
            Ok(false) => {}
            Err(_) if serving => {}
            Err(_) => return hosts.map(|_| Vec::new()),
        }
        let (device, made) = device::ensure(&mut socket)?;
        if made {
            state.mended.push("brattice0");
        }
        if device.mtu < state.mtu {
            device::raise_mtu(&mut socket, &device, state.mtu)?;
        }
        configured |= self.configure(Some((device.ifindex, device.mac)))?;
        if configured {
            state.mended.push("config");
        }
        let table = nft::ensure(&self.options);
        match &table {
            Ok(true) => state.mended.push("nft"),
            Ok(false) => {}
            Err(_) if serving => {}
            Err(_) => return table.map(|_| Vec::new()),
        }
        if self.ensure_egress(state, device.ifindex)? {
            state.mended.push("workload_egress");
        }
        if routes::ensure(&mut socket, &routes::alias(self.options.alias.into(), device.ifindex, state.mtu))? {
            state.mended.push("alias-route");
        }
        let loopback = routes::loopback(&mut socket)?;
        if routes::ensure(&mut socket, &routes::vip(self.options.vip.into(), loopback))? {
            state.mended.push("vip-route");
        }
        if let Some(ipv6) = self.serves_ipv6() {
            if routes::ensure(&mut socket, &routes::alias(ipv6.alias.into(), device.ifindex, state.mtu))? {
                state.mended.push("alias-route-ipv6");
            }
            if routes::ensure(&mut socket, &routes::vip(ipv6.vip.into(), loopback))? {
                state.mended.push("vip-route-ipv6");
            }
        }
        if self.ensure_workloads(state)? {
            state.mended.push("workload_ingress");
        }
        pins.and(table).and(hosts).map(|_| std::mem::take(&mut state.mended))
    }

    /// The ranges of IPv6, while the host does it: it takes no such routes meanwhile.
    fn serves_ipv6(&self) -> Option<Ipv6Ranges> {
        self.options.ipv6.filter(|_| ipv6() == Ipv6::On)
    }

    /// Pins again what is held but pinned no longer.
    fn repin(&self, state: &mut State) -> Result<bool> {
        // Somebody may have mounted another file system there, or none.
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

    fn ensure_listener(&self, state: &mut State) -> Result<bool> {
        let id = self.programs.listener.id;
        let inode = u32::try_from(self.namespace.inode).unwrap_or(0);
        let target = Target::Netns { inode };
        if live(state.listener.as_ref(), id, target)? {
            return Ok(false);
        }
        // A dead one would detach nothing when it is dropped.
        state.listener = None;
        let pin = self.pins.link(pins::LISTENER_LINK);
        if let Some(link) = Link::adopt(&pin, id, target)? {
            state.listener = Some(link);
            return Ok(false);
        }
        state.listener = Some(Link::sk_lookup(&self.programs.listener.fd, &self.namespace, pin)?);
        Ok(true)
    }

    fn ensure_egress(&self, state: &mut State, ifindex: u32) -> Result<bool> {
        let id = self.programs.egress.id;
        let target = Target::Interface { ifindex, side: Side::Egress };
        if live(state.egress.as_ref(), id, target)? {
            return Ok(false);
        }
        if let Some(dead) = state.egress.take() {
            dead.remove()?;
        }
        let pin = self.pins.egress_link(ifindex);
        for other in self.pins.other_egress_links(&pin)? {
            if let Some(dead) = Link::open(&other)? {
                dead.remove()?;
            }
        }
        if let Some(link) = Link::adopt(&pin, id, target)? {
            state.egress = Some(link);
            return Ok(false);
        }
        state.egress = Some(Link::interface(self.hook, &self.programs.egress.fd, ifindex, Side::Egress, pin)?);
        Ok(true)
    }

    /// Takes up pinned links of interfaces, and lets go of those that are attached nowhere.
    fn ensure_workloads(&self, state: &mut State) -> Result<bool> {
        let id = self.programs.ingress.id;
        let mut gone = false;
        let mut indices = self.pins.workload_links()?;
        indices.extend(state.workloads.keys());
        indices.sort_unstable();
        indices.dedup();
        for ifindex in indices {
            let target = Target::Interface { ifindex, side: Side::Ingress };
            if live(state.workloads.get(&ifindex), id, target)? {
                continue;
            }
            let pin = self.pins.workload_link(ifindex);
            state.workloads.remove(&ifindex);
            match Link::adopt(&pin, id, target)? {
                Some(link) => drop(state.workloads.insert(ifindex, link)),
                None => gone = true,
            }
        }
        Ok(gone)
    }

    fn attach(&self, ifindex: u32) -> Result<()> {
        let mut state = self.state();
        let id = self.programs.ingress.id;
        let target = Target::Interface { ifindex, side: Side::Ingress };
        if live(state.workloads.get(&ifindex), id, target)? {
            return Ok(());
        }
        state.workloads.remove(&ifindex);
        let pin = self.pins.workload_link(ifindex);
        let link = match Link::adopt(&pin, id, target)? {
            Some(link) => link,
            None => Link::interface(self.hook, &self.programs.ingress.fd, ifindex, Side::Ingress, pin)?,
        };
        state.workloads.insert(ifindex, link);
        Ok(())
    }

    fn detach(&self, ifindex: u32) -> Result<()> {
        let mut state = self.state();
        let held = state.workloads.remove(&ifindex);
        match held {
            Some(link) => link.remove(),
            None => match Link::open(&self.pins.workload_link(ifindex))? {
                Some(link) => link.remove(),
                None => Ok(()),
            },
        }
    }

    fn attached(&self) -> Result<Vec<Attachment>> {
        let state = self.state();
        let names: BTreeMap<u32, String> = link::list(&mut routing()?, None)
            .map_err(Error::netlink("listing interfaces"))?
            .into_iter()
            .map(|l| (l.ifindex, l.name))
            .collect();
        let mut all = Vec::new();
        let programs = std::iter::empty()
            .chain(state.listener.iter().map(|l| (abi::VIP_LISTENER, l)))
            .chain(state.egress.iter().map(|l| (abi::WORKLOAD_EGRESS, l)))
            .chain(state.workloads.values().map(|l| (abi::WORKLOAD_INGRESS, l)))
            .chain(state.hosts.iter().map(|(name, l)| (*name, l)));
        for (program, link) in programs {
            let info = link.info()?;
            let (attached_to, ifindex, hook) = match info.target {
                Target::Interface { ifindex: 0, .. }
                | Target::Netns { inode: 0 }
                | Target::Cgroup { id: 0, .. }
                | Target::Other { .. } => continue,
                Target::Netns { .. } => ("network namespace".to_owned(), 0, "sk_lookup"),
                Target::Cgroup { .. } => ("cgroup root".to_owned(), 0, "cgroup"),
                Target::Interface { ifindex, .. } => {
                    (names.get(&ifindex).cloned().unwrap_or_default(), ifindex, self.hook.name())
                }
            };
            if attached_to.starts_with(PROBE_PREFIX) {
                continue;
            }
            let instructions = self.programs.instructions(program);
            let (program_id, link_id) = (info.program_id, info.id);
            all.push(Attachment { program, attached_to, hook, ifindex, program_id, instructions, link_id });
        }
        Ok(all)
    }

    fn whole(&self) -> Result<bool> {
        let state = self.state();
        let device = self.maps.config().get(&0)?.unwrap_or_default().brattice0;
        let inode = u32::try_from(self.namespace.inode).unwrap_or(0);
        let egress = Target::Interface { ifindex: device, side: Side::Egress };
        if !live(state.listener.as_ref(), self.programs.listener.id, Target::Netns { inode })?
            || !live(state.egress.as_ref(), self.programs.egress.id, egress)?
        {
            return Ok(false);
        }
        for (ifindex, link) in &state.workloads {
            let target = Target::Interface { ifindex: *ifindex, side: Side::Ingress };
            if !link.works(self.programs.ingress.id, target)? {
                return Ok(false);
            }
        }
        cgroups::whole(&self.programs.hosts, &state.hosts)
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

/// Whether a link is held and attached where it should be.
fn live(link: Option<&Link>, program_id: u32, target: Target) -> Result<bool> {
    link.map_or(Ok(false), |link| link.works(program_id, target))
}
