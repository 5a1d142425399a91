//! `brattice agent`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use brattice_control::engine::outputs::{LogDestination, MetricsAddress};
use brattice_control::node;
use brattice_control::settings::{self, Settings};
use brattice_wire::engine::Limits;

use crate::arguments::AgentArguments;
use crate::{Failure, Outcome, configuration, users};

pub(crate) fn run(flags: &AgentArguments) -> Outcome {
    let settings = settings(configuration::complete(flags.clone())?)?;
    super::log(settings.log.as_deref())?;
    super::need_root("agent")?;
    super::runtime()?.block_on(async {
        node::run(settings, || crate::output::print("ready\n")).await.map_err(Failure::new)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn settings(arguments: AgentArguments) -> Result<Settings, Failure> {
    let or = |given: Option<PathBuf>, default: &str| absolute(given.as_deref().unwrap_or(Path::new(default)));
    let (engine_uid, engine_gid) =
        users::engine_user(arguments.engine_user.as_deref().unwrap_or(settings::ENGINE_USER))?;
    let group = match &arguments.group {
        Some(name) => users::group(name)?,
        None => users::default_group(settings::GROUP).or(engine_gid).unwrap_or(engine_uid),
    };
    if group == 0 {
        return Err(Failure::new(
            "the group may not be root's: its members may ask the agent, and the engine runs in it; name another with --group",
        ));
    }
    let cores = std::thread::available_parallelism()
        .map_or(1, |cores| u32::try_from(cores.get()).expect("the kernel has fewer than 2^32"));
    let workers = arguments.workers.unwrap_or_else(|| cores.min(brattice_abi::MAX_WORKERS));
    Ok(Settings {
        policies: or(arguments.policies, settings::POLICIES)?,
        run_dir: or(arguments.run_dir, settings::RUN_DIR)?,
        state_dir: or(arguments.state_dir, settings::STATE_DIR)?,
        bpffs: or(arguments.bpffs, settings::BPFFS)?,
        engine_uid,
        group,
        workers,
        vip_range: arguments.vip_range.map(|range| range.trunc()),
        alias_range: arguments.alias_range.map(|range| range.trunc()),
        ipv6: settings::ipv6_ranges(arguments.vip6_range, arguments.alias6_range),
        range_origins: arguments.range_origins,
        dns_suffix: arguments.dns_suffix.unwrap_or_else(|| settings::DNS_SUFFIX.to_owned()),
        half_open_limit: arguments.half_open_limit.unwrap_or(settings::HALF_OPEN_LIMIT),
        limits: Limits::default(),
        access_log: match arguments.access_log.unwrap_or_default() {
            LogDestination::File(path) => LogDestination::File(absolute(&path)?),
            other => other,
        },
        access_log_sample: arguments.access_log_sample.unwrap_or(1),
        metrics: match arguments.metrics.unwrap_or_default() {
            MetricsAddress::Unix(path) => MetricsAddress::Unix(absolute(&path)?),
            other => other,
        },
        stop_engine_on_exit: arguments.stop_engine_on_exit,
        engine_program: "/proc/self/exe".into(),
        log: arguments.log,
        ebpf_log: arguments.ebpf_log.unwrap_or_default(),
    })
}

/// The engine connects from another working directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}
