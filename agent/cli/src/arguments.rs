//! The command line's arguments.

use std::path::PathBuf;

use brattice_control::engine::outputs::{LogDestination, MetricsAddress};
use brattice_control::ranges::Origins;
use brattice_control::settings::{
    ALIAS6_RANGE, BPFFS, DNS_SUFFIX, POLICIES, RUN_DIR, STATE_DIR, VIP6_RANGE, Vip6Range,
};
use brattice_loader::EbpfLog;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::{log_filter, ranges, users};

mod views;

pub(crate) use views::{
    FlowsArguments, Format, ListArguments, ListFormat, LogsArguments, ServicesArguments, StatusArguments,
    WorkloadsArguments,
};

/// A service network for Linux hosts without sidecars.
#[derive(Debug, Parser)]
#[command(name = "brattice", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the node's agent in the foreground
    Agent(Box<AgentArguments>),
    /// Replace the engine
    #[command(subcommand)]
    Engine(EngineVerb),
    /// Write a commented policies directory to begin with
    Init(InitArguments),
    /// Show what a field of a document means: type, default, range, description, VPC Lattice's name
    ExplainField(ExplainFieldArguments),
    /// Check a policies directory; exit code 1 where it has errors, with --strict also where it has warnings
    Validate(ValidateArguments),
    /// Show what a policies directory would change
    Diff(DiffArguments),
    /// Try policies out
    #[command(subcommand, visible_alias = "policies")]
    Policy(PolicyVerb),
    /// Show how the node is; exit code 0 well, 1 needs attention, 2 not serving
    Status(StatusArguments),
    /// List services, or show some of them
    #[command(visible_aliases = ["service", "svc"])]
    Services(ServicesArguments),
    /// List workloads, or show some of them
    #[command(visible_alias = "workload")]
    Workloads(WorkloadsArguments),
    /// List live connections, or show some of them
    #[command(visible_alias = "flow")]
    Flows(FlowsArguments),
    /// Show lines of the access log, the latest or as they come
    #[command(visible_alias = "log")]
    Logs(LogsArguments),
    /// Show which rule a request meets, and why not those before it; exit code 0 served, 1 not served, 2 cannot tell
    #[command(visible_alias = "routes")]
    Route(RouteArguments),
    /// Show what happens to a request and why; exit code 0 allowed, 1 denied or unreachable, 2 cannot tell
    Explain(Box<ExplainArguments>),
    /// Relay new connections without rules, as plain TCP
    Bypass(SwitchArguments),
    /// Take a workload, a service or everything out of Brattice
    Detach(SwitchArguments),
    /// Accept a change that was held back because it removes most of an owner's services
    Accept(AcceptArguments),
    /// Check the host before (or while) the agent runs, with real packets
    Preflight(PreflightArguments),
    /// Remove everything Brattice added to this host
    Cleanup(CleanupArguments),
    /// Show the version
    Version,
    /// Collect what support needs into one file, without secrets; works without an agent, too
    SupportBundle(SupportBundleArguments),
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory, which must be there; they go into man1 and man5 below it
        directory: PathBuf,
    },
    /// Print completions for a shell
    #[command(visible_alias = "completion")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// `brattice agent`. What is not given comes from the configuration file, then from the defaults.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AgentArguments {
    /// Configuration file with these settings (default: /etc/brattice/agent.yaml, if it is there)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Policies directory
    #[arg(long, value_name = "DIR", help = format!("Policies directory [default: {POLICIES}]"))]
    pub(crate) policies: Option<PathBuf>,
    /// Directory of the sockets
    #[arg(long, value_name = "DIR", help = format!("Directory of the sockets [default: {RUN_DIR}]"))]
    pub(crate) run_dir: Option<PathBuf>,
    /// Directory of what must survive
    #[arg(long, value_name = "DIR", help = format!("Directory of what must survive [default: {STATE_DIR}]"))]
    pub(crate) state_dir: Option<PathBuf>,
    /// Directory of the pins
    #[arg(long, value_name = "DIR", help = format!("Directory of the pins, on a bpffs [default: {BPFFS}]"))]
    pub(crate) bpffs: Option<PathBuf>,
    /// The engine's user, a name or number that nothing else uses [default: brattice-engine]
    #[arg(long, value_name = "USER", value_parser = users::not_root)]
    pub(crate) engine_user: Option<String>,
    /// Group that may ask read-only questions [default: brattice, if it exists, else the engine's]
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Engine workers, 1 to 64 [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(brattice_abi::MAX_WORKERS)))]
    pub(crate) workers: Option<u32>,
    /// VIP range [default: a free one, then kept]
    #[arg(long, value_name = "CIDR", value_parser = ranges::vip)]
    pub(crate) vip_range: Option<Ipv4Net>,
    /// Alias range [default: a free one, then kept]
    #[arg(long, value_name = "CIDR", value_parser = ranges::alias)]
    pub(crate) alias_range: Option<Ipv4Net>,
    /// IPv6 VIP range
    #[arg(long, value_name = "CIDR|off", value_parser = ranges::vip6, help = format!("IPv6 VIP range, a unique local /64, the same on all nodes; off: no IPv6 [default: {VIP6_RANGE}]"))]
    pub(crate) vip6_range: Option<Vip6Range>,
    /// IPv6 alias range
    #[arg(long, value_name = "CIDR", value_parser = ranges::alias6, help = format!("IPv6 alias range, a unique local /48 [default: {ALIAS6_RANGE}]"))]
    pub(crate) alias6_range: Option<Ipv6Net>,
    /// Suffix of generated names
    #[arg(long, value_name = "NAME", value_parser = brattice_model::domain, help = format!("Suffix of generated names [default: {DNS_SUFFIX}]"))]
    pub(crate) dns_suffix: Option<String>,
    /// Half-open connections a workload may have, at most 1024 [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) half_open_limit: Option<u32>,
    /// Access log, a line of JSON per request: stdout, a file (opened again at SIGHUP), or none [default: none]
    #[arg(long, value_name = "stdout|FILE|none")]
    pub(crate) access_log: Option<LogDestination>,
    /// Log one in N of the requests that were served; denied and failed ones are always logged [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) access_log_sample: Option<u32>,
    /// Serve Prometheus metrics on a loopback address, on a Unix socket, or not at all [default: none]
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH|none")]
    pub(crate) metrics: Option<MetricsAddress>,
    /// What is logged, such as info or brattice_control=debug [default: info]
    #[arg(long, value_name = "FILTER", value_parser = log_filter::parse)]
    pub(crate) log: Option<String>,
    /// Log each packet that an eBPF program drops, with its reason, to trace single packets; the programs of a running
    /// data path are replaced [default: off]
    #[arg(long, value_name = "off|debug", value_parser = ebpf_log())]
    pub(crate) ebpf_log: Option<EbpfLog>,
    /// Stop the engine when the agent ends (without it, the engine serves on)
    #[arg(long)]
    pub(crate) stop_engine_on_exit: bool,
    /// Where the ranges come from.
    #[arg(skip)]
    pub(crate) range_origins: Origins,
}

fn ebpf_log() -> impl TypedValueParser<Value = EbpfLog> {
    PossibleValuesParser::new(EbpfLog::ALL.map(|(name, _)| name)).map(|named| {
        EbpfLog::ALL.into_iter().find(|(name, _)| *name == named).expect("the parser takes these names only").1
    })
}

/// `brattice engine`.
#[derive(Debug, Subcommand)]
pub(crate) enum EngineVerb {
    /// Replace the engine by a new one, also one that stays down after it failed too often; what is in flight has 2 s
    Restart {
        /// Directory of the agent's socket
        #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
        run_dir: PathBuf,
    },
    /// Run the engine (started by the agent)
    #[command(hide = true)]
    Run(EngineArguments),
}

/// `brattice engine run`.
#[derive(Debug, Args)]
pub(crate) struct EngineArguments {
    /// The engine's user
    #[arg(long)]
    pub(crate) uid: u32,
    /// The engine's group
    #[arg(long)]
    pub(crate) gid: u32,
    /// What is logged
    #[arg(long)]
    pub(crate) log: Option<String>,
}

/// Settings that change what documents mean.
#[derive(Debug, Args)]
pub(crate) struct NodeArguments {
    /// VIP range
    #[arg(long, value_name = "CIDR", value_parser = ranges::vip)]
    pub(crate) vip_range: Option<Ipv4Net>,
    /// Alias range
    #[arg(long, value_name = "CIDR", value_parser = ranges::alias)]
    pub(crate) alias_range: Option<Ipv4Net>,
    /// IPv6 VIP range
    #[arg(long, value_name = "CIDR|off", value_parser = ranges::vip6, help = format!("IPv6 VIP range, a unique local /64, the same on all nodes; off: no IPv6 [default: {VIP6_RANGE}]"))]
    pub(crate) vip6_range: Option<Vip6Range>,
    /// IPv6 alias range
    #[arg(long, value_name = "CIDR", value_parser = ranges::alias6, help = format!("IPv6 alias range, a unique local /48 [default: {ALIAS6_RANGE}]"))]
    pub(crate) alias6_range: Option<Ipv6Net>,
    /// Suffix of generated names
    #[arg(long, value_name = "NAME", value_parser = brattice_model::domain, default_value = DNS_SUFFIX)]
    pub(crate) dns_suffix: String,
    /// Directory of what must survive
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub(crate) state_dir: PathBuf,
    /// Where the ranges come from.
    #[arg(skip)]
    pub(crate) range_origins: Origins,
}

#[cfg(test)]
impl NodeArguments {
    /// Default ranges, and names below `svc.test`.
    pub(crate) fn for_tests(state_dir: PathBuf) -> Self {
        Self {
            vip_range: None,
            alias_range: None,
            vip6_range: None,
            alias6_range: None,
            dns_suffix: "svc.test".into(),
            state_dir,
            range_origins: Origins::default(),
        }
    }
}

/// `brattice init`.
#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// The directory; it is made where it is not there, and nothing in it is overwritten
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// `brattice explain-field`.
#[derive(Debug, Args)]
pub(crate) struct ExplainFieldArguments {
    /// A kind and fields in it, such as Service.spec.listeners [default: all kinds]
    #[arg(value_name = "KIND.FIELD")]
    pub(crate) path: Option<String>,
    /// All fields below it
    #[arg(long)]
    pub(crate) recursive: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// `brattice validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArguments {
    /// The policies directory
    #[arg(value_name = "DIR", default_value = POLICIES)]
    pub(crate) directory: PathBuf,
    /// Take warnings for errors
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) node: NodeArguments,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// `brattice policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Decide written cases, or recorded access logs, by the policies of a directory; exit code 1 where something differs,
    /// or nothing could be decided
    Test(PolicyTestArguments),
}

/// `brattice policy test`.
#[derive(Debug, Args)]
pub(crate) struct PolicyTestArguments {
    /// The policies directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Files of cases (.yaml), or of access log lines (JSON)
    #[arg(value_name = "CASES", required = true)]
    pub(crate) cases: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeArguments,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// `brattice diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// The policies directory
    #[arg(value_name = "DIR", default_value = POLICIES)]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) node: NodeArguments,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// What a made-up request says.
#[derive(Clone, Debug, Args)]
pub(crate) struct RequestArguments {
    /// Method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub(crate) method: String,
    /// Path, with or without a query
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub(crate) path: String,
    /// Header field, such as x-team:red; may be repeated
    #[arg(long = "header", value_name = "NAME:VALUE")]
    pub(crate) headers: Vec<String>,
    /// Host [default: the first name of the service]
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Port [default: that of the service's only listener, else 80]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
}

/// Who answers: the agent, or documents alone.
#[derive(Clone, Debug, Args)]
pub(crate) struct BasisArguments {
    /// Without an agent: by the documents of this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    /// With --policies: suffix of generated names
    #[arg(long, value_name = "NAME", value_parser = brattice_model::domain, default_value = DNS_SUFFIX)]
    pub(crate) dns_suffix: String,
    /// With --policies: VIP range
    #[arg(long, value_name = "CIDR", value_parser = ranges::vip, requires = "policies")]
    pub(crate) vip_range: Option<Ipv4Net>,
    /// With --policies: alias range
    #[arg(long, value_name = "CIDR", value_parser = ranges::alias, requires = "policies")]
    pub(crate) alias_range: Option<Ipv4Net>,
    /// IPv6 VIP range
    #[arg(long, value_name = "CIDR|off", value_parser = ranges::vip6, requires = "policies", help = format!("With --policies: IPv6 VIP range; off: no IPv6 [default: {VIP6_RANGE}]"))]
    pub(crate) vip6_range: Option<Vip6Range>,
    /// With --policies: IPv6 alias range
    #[arg(long, value_name = "CIDR", value_parser = ranges::alias6, requires = "policies", help = format!("With --policies: IPv6 alias range [default: {ALIAS6_RANGE}]"))]
    pub(crate) alias6_range: Option<Ipv6Net>,
    /// With --policies: directory of what must survive, for VIPs, and ranges that are not given
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub(crate) state_dir: PathBuf,
    /// Directory of the agent's socket
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(crate) run_dir: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// `brattice route`.
#[derive(Debug, Args)]
pub(crate) struct RouteArguments {
    /// Who calls: a VPC, or a workload by name, VPC/name, interface, address, VPC/address, alias or ARN
    #[arg(long, value_name = "CALLER")]
    pub(crate) from: String,
    /// The service: name, account/name, id, ARN or DNS name
    #[arg(long, value_name = "NAME", visible_alias = "to")]
    pub(crate) service: String,
    #[command(flatten)]
    pub(crate) request: RequestArguments,
    #[command(flatten)]
    pub(crate) basis: BasisArguments,
}

/// `brattice explain`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["request_id", "flow", "from"]))]
pub(crate) struct ExplainArguments {
    /// Id of a request that was sent, as in x-amzn-requestid and the access log
    #[arg(value_name = "REQUEST-ID", conflicts_with_all = ["method", "path", "headers", "host", "port"])]
    pub(crate) request_id: Option<String>,
    /// A live connection, by its id in brattice flows: its latest request
    #[arg(long, value_name = "ID", conflicts_with_all = ["method", "path", "headers", "host", "port"])]
    pub(crate) flow: Option<String>,
    /// A made-up request: who calls; a VPC, or a workload by name, VPC/name, interface, address, VPC/address, alias or ARN
    #[arg(long, value_name = "CALLER", requires = "service")]
    pub(crate) from: Option<String>,
    /// The service that is called: name, account/name, id, ARN or DNS name of a service
    #[arg(long = "to", value_name = "SERVICE", visible_alias = "service", requires = "from")]
    pub(crate) service: Option<String>,
    #[command(flatten)]
    pub(crate) request: RequestArguments,
    #[command(flatten)]
    pub(crate) basis: BasisArguments,
}

/// `brattice bypass`, `detach`.
#[derive(Debug, Args)]
pub(crate) struct SwitchArguments {
    #[command(flatten)]
    pub(crate) scope: ScopeArguments,
    /// Ends by itself after this time, such as 90s, 15m, 2h
    #[arg(long = "for", value_name = "TIME", conflicts_with = "off")]
    pub(crate) lasts: Option<String>,
    /// End it
    #[arg(long)]
    pub(crate) off: bool,
    /// Without the agent: write the kernel's map directly
    #[arg(long)]
    pub(crate) offline: bool,
    /// Directory of the agent's socket
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(crate) run_dir: PathBuf,
    /// Directory of the pins, for --offline
    #[arg(long, value_name = "DIR", default_value = BPFFS)]
    pub(crate) bpffs: PathBuf,
    /// Directory of what must survive, for the names with --offline
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub(crate) state_dir: PathBuf,
}

/// What a switch is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ScopeArguments {
    /// One service or workload, whichever has this name
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// One workload: name, VPC/name, interface, address, VPC/address or alias; with --offline: name or VPC/name
    #[arg(long, value_name = "NAME")]
    pub(crate) workload: Option<String>,
    /// One service: name, account/name, id, ARN, DNS name or VIP; with --offline: name or account/name
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Everything on this node
    #[arg(long)]
    pub(crate) all: bool,
}

/// `brattice accept`.
#[derive(Debug, Args)]
pub(crate) struct AcceptArguments {
    /// Account name, or operator
    pub(crate) owner: String,
    /// Directory of the agent's socket
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(crate) run_dir: PathBuf,
}

/// `brattice preflight`.
#[derive(Debug, Args)]
pub(crate) struct PreflightArguments {
    /// Policies directory: whether it can be read and has errors, and which interfaces it selects
    #[arg(long, value_name = "DIR", default_value = POLICIES)]
    pub(crate) policies: PathBuf,
    /// Directory of the agent's socket
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(crate) run_dir: PathBuf,
    /// Directory of the pins
    #[arg(long, value_name = "DIR", default_value = BPFFS)]
    pub(crate) bpffs: PathBuf,
    /// The engine's user [default: brattice-engine]
    #[arg(long, value_name = "USER")]
    pub(crate) engine_user: Option<String>,
    #[command(flatten)]
    pub(crate) node: NodeArguments,
    /// Leave out the probe with real packets
    #[arg(long)]
    pub(crate) no_probe: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// `brattice support-bundle`.
#[derive(Debug, Args)]
pub(crate) struct SupportBundleArguments {
    /// The file to write (.tar.gz); it must not be there [default: brattice-support-SECONDS.tar.gz in this directory]
    #[arg(short = 'f', long = "out", value_name = "FILE", visible_alias = "file")]
    pub(crate) out: Option<PathBuf>,
    /// With the documents' text, redacted, not only their hashes
    #[arg(long)]
    pub(crate) with_documents: bool,
    /// Policies directory
    #[arg(long, value_name = "DIR", default_value = POLICIES)]
    pub(crate) policies: PathBuf,
    /// Configuration file of the agent
    #[arg(long, value_name = "FILE", default_value = crate::configuration::DEFAULT)]
    pub(crate) config: PathBuf,
    /// Directory of the agent's socket
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(crate) run_dir: PathBuf,
    /// Directory of what must survive
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub(crate) state_dir: PathBuf,
    /// Directory of the pins
    #[arg(long, value_name = "DIR", default_value = BPFFS)]
    pub(crate) bpffs: PathBuf,
    /// A file with the agent's log, where it is not in the journal
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

/// `brattice cleanup`.
#[derive(Debug, Args)]
pub(crate) struct CleanupArguments {
    /// Configuration file of the agent, for the directories that are not given here (default: /etc/brattice/agent.yaml, if
    /// it is there)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the pins
    #[arg(long, value_name = "DIR", help = format!("Directory of the pins [default: {BPFFS}]"))]
    pub(crate) bpffs: Option<PathBuf>,
    /// Directory of the sockets
    #[arg(long, value_name = "DIR", help = format!("Directory of the sockets [default: {RUN_DIR}]"))]
    pub(crate) run_dir: Option<PathBuf>,
    /// Directory of what survives the agent; it is removed, too
    #[arg(long, value_name = "DIR", help = format!("Directory of what survives the agent; it is removed, too [default: {STATE_DIR}]"))]
    pub(crate) state_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn explanations_are_of_one_request() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["brattice", "explain"], words].concat());
        assert!(parse(&["r-1"]).is_ok());
        assert!(parse(&["--flow", "7"]).is_ok());
        assert!(parse(&["--from", "web", "--to", "orders", "--header", "a:b", "--header", "c:d"]).is_ok());
        assert!(parse(&["--from", "web", "--to", "orders", "--policies", "/tmp"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--from", "web"]).is_err());
        assert!(parse(&["--to", "orders"]).is_err());
        assert!(parse(&["r-1", "--flow", "7"]).is_err());
        assert!(parse(&["r-1", "--from", "web", "--to", "orders"]).is_err());
        assert!(parse(&["r-1", "--path", "/x"]).is_err());
        // The command refuses these, and says what to do.
        assert!(parse(&["--flow", "7", "--policies", "/tmp"]).is_ok());
        assert!(parse(&["r-1", "--policies", "/tmp"]).is_ok());
        assert!(parse(&["--from", "web", "--to", "orders", "--vip-range", "169.254.64.0/20"]).is_err());
    }

    #[test]
    fn switches_need_exactly_one_scope() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["brattice"], words].concat());
        assert!(parse(&["bypass", "--all", "--for", "15m"]).is_ok());
        assert!(parse(&["detach", "--service", "shop/orders", "--off"]).is_ok());
        assert!(parse(&["bypass"]).is_err());
        assert!(parse(&["bypass", "--all", "--workload", "x"]).is_err());
        assert!(parse(&["bypass", "--all", "--for", "15m", "--off"]).is_err());
    }
}
