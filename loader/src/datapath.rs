//! The data path of a node: started, adopted, kept whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brattice_abi as abi;
use ipnet::IpNet;

use crate::aside::aside;
use crate::events::Events;
use crate::interfaces::PROBE_PREFIX;
use crate::links::Link;
use crate::maps::Maps;
use crate::namespace::{self, Namespace};
use crate::netlink::{Family, Socket, link};
use crate::object::{self, Programs};
use crate::options::Options;
use crate::pins::{self, Lock, Pins};
use crate::sys::{self, Side, Target};
use crate::{Error, Result, adopt, cgroups, device, nft, preflight, routes};

/// A program that is attached, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, as `bpftool prog` shows it.
    pub program: &'static str,
    /// Interface name, `network namespace`, or `cgroup root`.
    pub attached_to: String,
    /// Interface index; 0 where it is attached to none.
    pub ifindex: u32,
    /// Id of the program, as `bpftool prog` shows it.
    pub program_id: u32,
    /// Id of the link, as `bpftool link` shows it.
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
    maps: Maps,
    programs: Programs,
    namespace: Namespace,
    /// See [`abi::Config::netns`].
    cookie: u64,
    adopted: bool,
    state: Mutex<State>,
    events_taken: Arc<AtomicBool>,
    /// Keeps other agents out of the pin directory.
    _lock: Lock,
}

/// What changes while it runs; its lock also orders all changes.
#[derive(Debug, Default)]
struct State {
    listener: Option<Link>,
    egress: Option<Link>,
    workloads: BTreeMap<u32, Link>,
    /// Programs at the root of the cgroups, by name.
    hosts: BTreeMap<&'static str, Link>,
    /// Aliases of processes of the host; `None` until [`Datapath::set_hosts`] says.
    host_aliases: Option<BTreeSet<Ipv4Addr>>,
    mtu: u32,
    /// What [`Datapath::start`] did, in order.
    steps: Vec<&'static str>,
}

impl Datapath {
    /// Starts the data path in the calling thread's network namespace, or adopts the one that runs: with pins of the same
    /// schema and layout under `bpffs`, the same programs and links stay at work, also if this build's object is another.
    ///
    /// Order: programs and maps, configuration, `vip_listener` (attached), `brattice0`, nftables, `workload_egress`
    /// (attached), alias route, VIP route; so there is never a route without its guard.
    ///
    /// # Errors
    /// Pins of another schema or layout, ranges other than the running ones, another data path in this namespace, and
    /// whatever the kernel refuses. What was done until then stays and is taken up by the next start or by cleanup.
    pub async fn start(options: Options) -> Result<Self> {
        aside("start", move || Inner::start(options)).await.map(|inner| {
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

    /// Sets the largest packet that is sent to aliases: the smallest MTU of all workloads, 68 to 65535 bytes.
    ///
    /// # Errors
    /// An MTU out of range; whatever the kernel refuses.
    pub async fn set_mtu(&self, mtu: u32) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        aside("set-mtu", move || inner.set_mtu(mtu)).await
    }

    /// Puts back what vanished or was changed: `vip_listener`, `brattice0`, `config`, `nft`, `workload_egress`,
    /// `alias-route`, `vip-route`, `host`, `host-routes`, `pins`; the names of what was mended. `workload_ingress` stands for a link whose
    /// interface is gone or that somebody detached: its pin is removed, and [`Self::attach`] may be called anew.
    ///
    /// # Errors
    /// Whatever the kernel refuses; what was mended until then stays.
    pub async fn repair(&self) -> Result<Vec<&'static str>> {
        let inner = Arc::clone(&self.inner);
        aside("repair", move || inner.establish(&mut inner.state(), true)).await
    }

    /// Says which aliases are of processes of the host: they become local addresses, and `host_egress` is attached while
    /// there is any.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub async fn set_hosts(&self, aliases: BTreeSet<Ipv4Addr>) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        aside("set-hosts", move || inner.set_hosts(aliases)).await
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
    fn start(options: Options) -> Result<Self> {
        options.check()?;
        let pins = Pins::new(&options.bpffs);
        pins.check()?;
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
        let mtu = routes::list(&mut socket)?.iter().find_map(|r| r.mtu).unwrap_or(device::DEFAULT_MTU);
        let inner = Self {
            options,
            pins,
            maps,
            programs,
            namespace,
            cookie,
            adopted,
            state: Mutex::new(State { mtu, ..State::default() }),
            events_taken: Arc::default(),
            _lock: lock,
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
    /// serves already (`serving`), a table that cannot be written does not keep the rest from being mended.
    fn establish(&self, state: &mut State, serving: bool) -> Result<Vec<&'static str>> {
        let mut done = Vec::new();
        let mut socket = routing()?;
        if self.repin(state)? {
            done.push("pins");
        }
        let there = device::find(&mut socket)?;
        let mut configured = self.configure(there.map(|d| (d.ifindex, d.mac)))?;
        if self.ensure_listener(state)? {
            done.push("vip_listener");
        }
        let (device, made) = device::ensure(&mut socket)?;
        if made {
            done.push("brattice0");
        }
        if device.mtu < state.mtu {
            device::raise_mtu(&mut socket, &device, state.mtu)?;
        }
        configured |= self.configure(Some((device.ifindex, device.mac)))?;
        if configured {
            done.push("config");
        }
        let table = nft::ensure(&self.options);
        match &table {
            Ok(true) => done.push("nft"),
            Ok(false) => {}
            Err(_) if serving => {}
            Err(_) => return table.map(|_| done),
        }
        if self.ensure_egress(state, device.ifindex)? {
            done.push("workload_egress");
        }
        if routes::ensure(&mut socket, &routes::alias(self.options.alias, device.ifindex, state.mtu))? {
            done.push("alias-route");
        }
        let loopback = routes::loopback(&mut socket)?;
        if routes::ensure(&mut socket, &routes::vip(self.options.vip, loopback))? {
            done.push("vip-route");
        }
        if self.ensure_hosts(state)? {
            done.push("host");
        }
        if self.ensure_host_routes(&mut socket, state)? {
            done.push("host-routes");
        }
        if self.ensure_workloads(state)? {
            done.push("workload_ingress");
        }
        table.map(|_| done)
    }

    /// Pins again what is held but pinned no longer.
    fn repin(&self, state: &State) -> Result<bool> {
        self.pins.create()?;
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
        let target = Target::Tcx { ifindex, side: Side::Egress };
        if live(state.egress.as_ref(), id, target)? {
            return Ok(false);
        }
        state.egress = None;
        let pin = self.pins.link(pins::EGRESS_LINK);
        if let Some(link) = Link::adopt(&pin, id, target)? {
            state.egress = Some(link);
            return Ok(false);
        }
        state.egress = Some(Link::tcx(&self.programs.egress.fd, ifindex, Side::Egress, pin)?);
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
            let target = Target::Tcx { ifindex, side: Side::Ingress };
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

    /// The programs at the root of the cgroups, where there is one; the one that sees packets only while it has a use.
    fn ensure_hosts(&self, state: &mut State) -> Result<bool> {
        let Some(root) = cgroups::Root::find()? else { return Ok(false) };
        let mut done = false;
        for ((name, loaded), (_, hook)) in self.programs.hosts.iter().zip(cgroups::HOOKS) {
            let (pin, target) = (self.pins.link(name), Target::Cgroup { id: root.id(), hook });
            if *name == abi::HOST_EGRESS {
                match &state.host_aliases {
                    // A new agent: what is attached stays, until it is known what for.
                    None => {
                        if let Some(link) = Link::adopt(&pin, loaded.id, target)? {
                            state.hosts.insert(name, link);
                        }
                        continue;
                    }
                    Some(aliases) if aliases.is_empty() => {
                        if let Some(link) = state.hosts.remove(name) {
                            link.remove()?;
                        }
                        continue;
                    }
                    Some(_) => {}
                }
            }
            if live(state.hosts.get(name), loaded.id, target)? {
                continue;
            }
            state.hosts.remove(name);
            let link = match Link::adopt(&pin, loaded.id, target)? {
                Some(link) => link,
                None => {
                    done = true;
                    Link::cgroup(&loaded.fd, root.directory(), hook, name, pin)?
                }
            };
            state.hosts.insert(name, link);
        }
        Ok(done)
    }

    /// Each alias of a process of the host is a local address.
    fn ensure_host_routes(&self, socket: &mut Socket, state: &State) -> Result<bool> {
        let Some(wanted) = &state.host_aliases else { return Ok(false) };
        let loopback = routes::loopback(socket)?;
        for found in routes::hosts(socket, self.options.alias)? {
            if !wanted.iter().any(|alias| found.destination == IpNet::V4((*alias).into())) {
                routes::remove(socket, &found)?;
            }
        }
        let mut done = false;
        for alias in wanted {
            done |= routes::ensure(socket, &routes::host(*alias, loopback))?;
        }
        Ok(done)
    }

    fn set_hosts(&self, aliases: BTreeSet<Ipv4Addr>) -> Result<()> {
        let mut state = self.state();
        state.host_aliases = Some(aliases);
        self.ensure_hosts(&mut state)?;
        self.ensure_host_routes(&mut routing()?, &state).map(drop)
    }

    fn attach(&self, ifindex: u32) -> Result<()> {
        let mut state = self.state();
        let id = self.programs.ingress.id;
        let target = Target::Tcx { ifindex, side: Side::Ingress };
        if live(state.workloads.get(&ifindex), id, target)? {
            return Ok(());
        }
        state.workloads.remove(&ifindex);
        let pin = self.pins.workload_link(ifindex);
        let link = match Link::adopt(&pin, id, target)? {
            Some(link) => link,
            None => Link::tcx(&self.programs.ingress.fd, ifindex, Side::Ingress, pin)?,
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
            let (attached_to, ifindex) = match info.target {
                Target::Tcx { ifindex: 0, .. } | Target::Netns { inode: 0 } | Target::Other { .. } => continue,
                Target::Netns { .. } => ("network namespace".to_owned(), 0),
                Target::Cgroup { .. } => ("cgroup root".to_owned(), 0),
                Target::Tcx { ifindex, .. } => (names.get(&ifindex).cloned().unwrap_or_default(), ifindex),
            };
            if attached_to.starts_with(PROBE_PREFIX) {
                continue;
            }
            all.push(Attachment { program, attached_to, ifindex, program_id: info.program_id, link_id: info.id });
        }
        Ok(all)
    }

    fn footprint(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match routing().and_then(|mut socket| Ok((device::find(&mut socket)?, routes::list(&mut socket)?))) {
            Ok((device, routes)) => {
                lines.extend(device.map(|d| {
                    let state = if d.up() { "up" } else { "DOWN" };
                    format!("device {} (veth pair with {}), index {}, {state}", device::DEVICE, device::PEER, d.ifindex)
                }));
                lines.extend(routes.iter().map(routes::describe));
            }
            Err(error) => lines.push(format!("devices and routes cannot be asked for: {error}")),
        }
        match nft::present(&self.options) {
            Ok(true) => lines.push(format!("nftables table {}", nft::TABLE)),
            Ok(false) => lines.push(format!("nftables table {} IS MISSING", nft::TABLE)),
            Err(error) => lines.push(format!("nftables cannot be asked: {error}")),
        }
        match cgroups::Root::find() {
            Ok(Some(root)) => lines.push(format!("programs at the cgroup root {}", root.path().display())),
            Ok(None) => lines.push(
                "no cgroup v2 is mounted: host processes cannot be workloads, and the engine's reach is not bounded"
                    .to_owned(),
            ),
            Err(error) => lines.push(format!("cgroups cannot be asked for: {error}")),
        }
        for folder in pins::FOLDERS {
            let path = self.pins.schema().join(folder);
            let count = pins::names(&path).map_or(0, |n| n.len());
            lines.push(format!("pins {} ({count})", path.display()));
        }
        lines
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
        routes::ensure(&mut socket, &routes::alias(self.options.alias, device.ifindex, mtu)).map(drop)
    }
}

/// Whether a link is held and attached where it should be.
fn live(link: Option<&Link>, program_id: u32, target: Target) -> Result<bool> {
    let Some(link) = link else { return Ok(false) };
    let info = link.info()?;
    Ok(info.program_id == program_id && info.target == target)
}
