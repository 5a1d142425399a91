//! The start of a node, from settings to serving: adopts what runs, or starts it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use brattice_abi as abi;
use brattice_loader::announce::Announcer;
use brattice_loader::first_packets::FirstPackets;
use brattice_loader::interfaces::{PlaceWatch, Watch as NetworkWatch, inventory};
use brattice_loader::sockets::ipv6_supported;
use brattice_loader::{Datapath, Ipv6, Ipv6Ranges, Options, PinWatch, ipv6};
use brattice_model::Owner;
use brattice_sources::directory::{Directory, read};
use brattice_sources::owners::Owners;
use brattice_sources::worker::{self, LinkSettings, Update};
use brattice_wire::engine;
use ipnet::{IpNet, Ipv4Net};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::inputs::Seen;
use super::{Node, Wakes};
use crate::actuator::{self, Keeper, KernelState, Parts};
use crate::aliases::Aliases;
use crate::api::calls::Calls;
use crate::api::server::{self, Access, Call};
use crate::api::socket;
use crate::api::thread::Thread;
use crate::drops::{self, Drops};
use crate::engine::process::{EngineOfOtherNamespace, Record};
use crate::engine::{Handle, Supervision, outputs, supervisor};
use crate::host_changes::{self, HostChanges};
use crate::kernel::KernelSlots;
use crate::node_metrics;
use crate::noticed::{self, Noticed};
use crate::planner::Planner;
use crate::ranges::{ALIAS_CANDIDATES, Known, RangeError, Ranges, VIP_CANDIDATES};
use crate::settings::{Settings, pools};
use crate::state::{State, StateDirectory, StateError, boot_id};

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] brattice_loader::Error),
    /// The directory of the sockets.
    #[error(transparent)]
    OtherNamespace(#[from] EngineOfOtherNamespace),
    /// A socket or its directory.
    #[error("{path} cannot be made: {source}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// The kernel's word.
        source: std::io::Error,
    },
    /// Ranges that cannot be.
    #[error(transparent)]
    Ranges(#[from] RangeError),
    /// The data path that runs has another range.
    #[error("{source}. What was asked for is {origin}")]
    RangeChanged {
        /// Which one.
        source: brattice_loader::Error,
        /// Where what was asked for comes from.
        origin: String,
    },
    /// No candidate range is free.
    #[error("none of the usual {which} ranges ({candidates}) is free on this host; name one with --{which}-range")]
    NoRange {
        /// `vip` or `alias`.
        which: &'static str,
        /// Those tried.
        candidates: String,
    },
    /// The access log.
    #[error("the access log cannot be opened: {0}; name another file with --access-log, or none")]
    AccessLog(std::io::Error),
    /// Reading the documents ended in a panic.
    #[error(
        "reading the documents failed; the log says why. `brattice validate` reads them, too: please report what it says"
    )]
    Reading,
    /// No thread for the documents.
    #[error("documents cannot be read: {0}; how many threads may the agent have (TasksMax= of the unit)?")]
    Documents(std::io::Error),
    /// No thread for plans.
    #[error("plans cannot be carried out: {0}; how many threads may the agent have (TasksMax= of the unit)?")]
    Actuator(std::io::Error),
    /// Something that runs as long as the agent has ended.
    #[error("{0} any more; the log says why. The agent ends with an error, so that it is started anew")]
    Ended(&'static str),
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signal(std::io::Error),
}

/// Runs the agent until SIGTERM or SIGINT; SIGHUP opens the access log again. `ready` is called once, when everything is attached and the engine serves.
/// Engine and kernel serve on afterwards, unless the settings say otherwise.
///
/// # Errors
/// When it cannot start, or not go on. What was done until then is taken up by the next start, or removed by `brattice cleanup`.
pub async fn run(settings: Settings, ready: impl FnOnce()) -> Result<(), AgentError> {
    let directory = StateDirectory::open(&settings.state_dir)?;
    let saved = directory.load()?;
    let mut state = saved.clone();
    Record::refuse_other_namespace(&settings.engine_record())?;
    let (socket, calls) = open_socket(&settings)?;

    // Listening before looking: no change in between is lost.
    let network = NetworkWatch::open()?;
    let interfaces = inventory().await?;
    let kernel = prepare_kernel(&settings, &mut state).await?;
    let pins = PinWatch::open(&settings.bpffs)?;

    let same_boot = state.boot_id == boot_id();
    state.boot_id = boot_id();
    let alias6 = kernel.ranges6.map(|ranges| ranges.alias);
    let (mut aliases, mut closing) = Aliases::restore(kernel.alias(), alias6, &state.aliases, same_boot);
    let kernel_state = KernelState::read(kernel.datapath.clone())?;
    // Aliases that only the kernel knows (the state was lost): in use, by unknown workloads, until they are closed.
    for known in kernel_state.aliases() {
        closing.extend(aliases.reserve(known));
    }
    // Before an engine is started or taken over: with --stop-engine-on-exit none may be left when the agent is stopped.
    let stop = Box::pin(stop_signal()?);
    let engine = start_engine(&settings, &kernel)?;
    if !closing.is_empty() {
        engine.close(closing).await;
    }
    let drops = Drops::default();
    tokio::spawn(drops::read(kernel.datapath.clone(), drops.clone()));
    tokio::spawn(drops::log(kernel.datapath.clone(), settings.ebpf_log));

    let (documents, mut updates) = follow_documents(&settings, &directory, &kernel, &state)?;
    let update = updates.recv().await.ok_or(AgentError::Reading)?;
    state.vips = update.linked.vips.clone();
    let ipv6 = (kernel.ipv6, kernel.ranges6.is_some());
    let seen = Seen::new(update, interfaces, documents.clone(), PlaceWatch::open()?, ipv6);
    let Handle { client: engine, events } = engine;
    let (host_changes, noticed) = (Arc::new(HostChanges::default()), Noticed::default());
    tokio::spawn(noticed::ask_engine(engine.asker(), noticed.stats_cell()));
    // Without it, a new workload's stack sends again what came too early.
    let first_packets = FirstPackets::keep(kernel.datapath.options())
        .inspect_err(|e| warn!(error = %e, "what new workloads send before they are attached is not kept"))
        .ok();
    let parts = Parts {
        settings: Arc::new(settings),
        started: Instant::now(),
        datapath: kernel.datapath,
        engine,
        drops,
        announcer: Announcer::open()?,
        first_packets,
        planner: Planner::new(state, aliases),
        kernel: kernel_state,
        keeper: Keeper::new(directory, saved),
        noticed,
        host_changes: host_changes.clone(),
    };
    let actuator = actuator::start(parts, events, seen.observed().clone()).await.map_err(AgentError::Actuator)?;
    socket.spawn(Calls::new(actuator.picture.clone(), documents).serve(calls));
    tokio::spawn(node_metrics::report(actuator.picture.clone()));
    host_changes::listen(host_changes.clone(), network, pins);
    let hangups = signal(SignalKind::hangup()).map_err(AgentError::Signal)?;
    let wakes = Wakes { documents: updates, host_changes, hangups, stop };
    Node { seen, actuator }.serve(wakes, ready).await
}

/// Opens the control socket, and begins to take calls. Before anything is changed: another agent may have it.
fn open_socket(settings: &Settings) -> Result<(Thread, mpsc::Receiver<Call>), AgentError> {
    // Supervision opens it for itself.
    outputs::open_log(&settings.access_log, settings.access_log_sample).map_err(AgentError::AccessLog)?;
    let failed = |path: PathBuf| move |source| AgentError::Socket { path, source };
    socket::prepare_directory(&settings.run_dir, settings.group).map_err(failed(settings.run_dir.clone()))?;
    let listener = socket::bind(&settings.agent_socket(), settings.group).map_err(failed(settings.agent_socket()))?;
    let (calls_in, calls) = mpsc::channel(server::MAX_CONNECTIONS * 2);
    let thread = Thread::start().map_err(failed(settings.agent_socket()))?;
    let access = Access { engine_uid: settings.engine_uid, group: settings.group };
    thread.spawn(server::serve(listener, access, calls_in));
    Ok((thread, calls))
}

/// The data path, and the address ranges that it has.
struct Kernel {
    datapath: Arc<Datapath>,
    /// Whether the host does IPv6 now.
    ipv6: Ipv6,
    /// The ranges of IPv6; none: the node has no IPv6.
    ranges6: Option<Ipv6Ranges>,
}

impl Kernel {
    fn vip(&self) -> Ipv4Net {
        self.datapath.options().vip
    }

    fn alias(&self) -> Ipv4Net {
        self.datapath.options().alias
    }
}

/// Adopts the data path that runs, or starts one.
async fn prepare_kernel(settings: &Settings, state: &mut State) -> Result<Kernel, AgentError> {
    let documented = documented_cidrs(&settings.policies);
    let mut origins = settings.range_origins.clone();
    let kept = Known { vip: state.vip_range, alias: state.alias_range };
    let file = StateDirectory::existing(&settings.state_dir).state_file();
    let known = Known { vip: settings.vip_range, alias: settings.alias_range }.or_kept(kept, &file, &mut origins);
    let (vip, alias) = free(known, &documented).await?;
    // Turned off, it may come back; absent, it will not before the next boot.
    let ipv6 = ipv6();
    let ranges6 = settings.ipv6.filter(|_| ipv6 != Ipv6::Absent && ipv6_supported());
    Ranges { vip, alias, ipv6: ranges6 }.check(&origins)?;
    let datapath = start_datapath(settings, vip, alias, ranges6).await.map_err(|error| match error {
        brattice_loader::Error::RangeChanged { which, .. } => {
            AgentError::RangeChanged { origin: origins.by_name(which).to_string(), source: error }
        }
        other => other.into(),
    });
    let datapath = Arc::new(datapath?);
    let kernel = Kernel { datapath, ipv6, ranges6 };
    let (vip, alias) = (kernel.vip(), kernel.alias());
    (state.vip_range, state.alias_range) = (Some(vip), Some(alias));
    if ranges6.is_some() || settings.ipv6.is_some() {
        info!("IPv6 is {}", ipv6.text());
    }
    let steps = kernel.datapath.steps().join(", ");
    info!(adopted = kernel.datapath.adopted(), %vip, %alias, steps, "data path");
    Ok(kernel)
}

/// Starts supervision of the engine.
fn start_engine(settings: &Settings, kernel: &Kernel) -> Result<Handle, AgentError> {
    let sources = engine_sources(kernel.vip());
    let sources6 = kernel.ranges6.map(engine_sources6).unwrap_or_default();
    let slots = KernelSlots {
        datapath: kernel.datapath.clone(),
        sources: sources.clone(),
        dns: dns_vip(kernel.vip()),
        dns6: kernel.ranges6.map(|ranges| ranges.at(abi::DNS_VIP_OFFSET)),
        workers: settings.workers,
        engine_uid: settings.engine_uid,
    };
    supervisor::start(supervision(settings, sources, sources6), Arc::new(slots))
        .map_err(|source| AgentError::Socket { path: settings.engine_socket(), source })
}

/// Begins to follow the policies directory, from the documents that were in force last.
fn follow_documents(
    settings: &Settings,
    directory: &StateDirectory,
    kernel: &Kernel,
    state: &State,
) -> Result<(worker::Handle, mpsc::Receiver<Update>), AgentError> {
    let linking = LinkSettings {
        dns_suffix: settings.dns_suffix.clone(),
        vip: kernel.vip(),
        alias: kernel.alias(),
        ipv6: pools(kernel.ranges6, kernel.ipv6 == Ipv6::On),
        vips: state.vips.clone(),
    };
    let owners = Owners::restore(directory.load_owners());
    worker::start(Directory(settings.policies.clone()), directory.clone(), owners, linking)
        .map_err(AgentError::Documents)
}

fn stop_signal() -> Result<impl Future<Output = ()>, AgentError> {
    let mut term = signal(SignalKind::terminate()).map_err(AgentError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signal)?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
        }
    })
}

/// The engine's source addresses.
pub(crate) fn engine_sources(vip: Ipv4Net) -> Vec<Ipv4Addr> {
    let base = u32::from(vip.network()) + abi::FIRST_ENGINE_SOURCE;
    (0..abi::ENGINE_SOURCES).map(|n| Ipv4Addr::from(base + n)).collect()
}

/// As [`engine_sources`], of IPv6.
fn engine_sources6(ranges: Ipv6Ranges) -> Vec<Ipv6Addr> {
    (0..abi::ENGINE_SOURCES).map(|n| ranges.at(abi::FIRST_ENGINE_SOURCE + n)).collect()
}

/// The DNS VIP.
pub(crate) fn dns_vip(vip: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(vip.network()) + abi::DNS_VIP_OFFSET)
}

fn supervision(settings: &Settings, sources: Vec<Ipv4Addr>, sources6: Vec<Ipv6Addr>) -> Supervision {
    let mut arguments: Vec<OsString> = vec!["engine".into(), "run".into()];
    arguments.extend(["--uid".into(), settings.engine_uid.to_string().into()]);
    arguments.extend(["--gid".into(), settings.group.to_string().into()]);
    if let Some(log) = &settings.log {
        arguments.extend(["--log".into(), log.into()]);
    }
    Supervision {
        program: settings.engine_program.clone(),
        arguments,
        socket: settings.engine_socket(),
        record: settings.engine_record(),
        uid: settings.engine_uid,
        gid: settings.group,
        stuck: supervisor::STUCK,
        silent: supervisor::UNANSWERED,
        settings: engine::Settings {
            workers: settings.workers,
            sources,
            sources6,
            limits: settings.limits,
            halvings: 0,
        },
        oom_events: None,
        access_log: settings.access_log.clone(),
        access_log_sample: settings.access_log_sample,
        metrics: settings.metrics.clone(),
    }
}

/// What is known of the ranges, else the first that collides with nothing.
async fn free(known: Known, cidrs: &[(String, IpNet)]) -> Result<(Ipv4Net, Ipv4Net), AgentError> {
    let found = known.or_free(cidrs).await?;
    let none = |which, candidates: &[&str]| AgentError::NoRange { which, candidates: candidates.join(", ") };
    let vip = found.vip.ok_or_else(|| none("vip", &VIP_CANDIDATES))?;
    Ok((vip, found.alias.ok_or_else(|| none("alias", &ALIAS_CANDIDATES))?))
}

/// CIDRs of the VPCs in the documents, as far as they can be read now: a range is chosen once, so it should fit them.
pub(super) fn documented_cidrs(policies: &Path) -> Vec<(String, IpNet)> {
    let Ok(mut tree) = read(policies) else { return Vec::new() };
    let Some(Ok(sources)) = tree.owners.remove(&Owner::Operator).map(|found| found.sources) else { return Vec::new() };
    let Ok(documents) = brattice_model::parse(&Owner::Operator, &sources) else { return Vec::new() };
    let of = |vpc: &brattice_model::VpcDocument| -> Vec<(String, IpNet)> {
        vpc.cidrs.iter().map(|cidr| (format!("VPC {}", vpc.qualified()), cidr.value)).collect()
    };
    documents.vpcs.iter().flat_map(of).collect()
}

async fn start_datapath(
    settings: &Settings,
    vip: Ipv4Net,
    alias: Ipv4Net,
    ipv6: Option<Ipv6Ranges>,
) -> Result<Datapath, brattice_loader::Error> {
    let mut options = Options {
        bpffs: settings.bpffs.clone(),
        vip,
        alias,
        ipv6,
        engine_uid: settings.engine_uid,
        workers: settings.workers,
        half_open_limit: settings.half_open_limit,
        ebpf_log: settings.ebpf_log,
    };
    // Twice: either range may be another one.
    for _ in 0..2 {
        match Datapath::start(options.clone()).await {
            // The state was lost, and the running data path has another range than the one chosen now.
            Err(brattice_loader::Error::RangeChanged { which, running, asked }) => {
                let Ok(range) = running.parse() else {
                    return Err(brattice_loader::Error::RangeChanged { which, running, asked });
                };
                match which {
                    "VIP" if settings.vip_range.is_none() => options.vip = range,
                    "alias" if settings.alias_range.is_none() => options.alias = range,
                    _ => return Err(brattice_loader::Error::RangeChanged { which, running, asked }),
                }
            }
            other => return other,
        }
    }
    Datapath::start(options).await
}
