//! Arguments of the commands that show the node, and of their output.

use std::path::PathBuf;

use brattice_control::settings::RUN_DIR;
use clap::{Args, ValueEnum};

use crate::labels::Selector;

/// How something is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For people, with every column, and nothing cut
    Wide,
    /// For programs
    Json,
    /// For programs, and for people
    Yaml,
}

/// How a list of things with names is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    #[default]
    Table,
    /// For people, with every column, and nothing cut
    Wide,
    /// For programs
    Json,
    /// For programs, and for people
    Yaml,
    /// Names only, one a line
    Name,
}

impl ListFormat {
    /// As others print; none: names only.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Self::Table => Some(Format::Table),
            Self::Wide => Some(Format::Wide),
            Self::Json => Some(Format::Json),
            Self::Yaml => Some(Format::Yaml),
            Self::Name => None,
        }
    }
}

/// `brattice status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Show it again every second, until interrupted
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// All columns, and nothing cut; the same as -o wide
    #[arg(long)]
    pub(crate) wide: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Directory of the agent's socket
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(crate) run_dir: PathBuf,
}

/// What lists have in common.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only those of this account, which is here what a namespace is in Kubernetes: of its services, of its VPCs
    #[arg(short = 'n', long, value_name = "NAME", visible_alias = "namespace")]
    pub(crate) account: Option<String>,
    /// Those of all accounts, as without -n
    #[arg(short = 'A', long, visible_alias = "all-namespaces", conflicts_with = "account")]
    pub(crate) all_accounts: bool,
    /// Show them again every second, until interrupted
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// All columns, and nothing cut; the same as -o wide
    #[arg(long)]
    pub(crate) wide: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: ListFormat,
    /// Directory of the agent's socket
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(crate) run_dir: PathBuf,
}

/// `brattice services`.
#[derive(Debug, Args)]
pub(crate) struct ServicesArguments {
    /// Only these: name, account/name, id, ARN, DNS name or VIP. With one name, -o json and yaml give one object
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Only those whose documents have these labels: label=value, label!=value, label, !label, with commas between them
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<Selector>,
    #[command(flatten)]
    pub(crate) list: ListArguments,
}

/// `brattice workloads`.
#[derive(Debug, Args)]
pub(crate) struct WorkloadsArguments {
    /// Only these: name, VPC/name, interface, address, VPC/address or alias. With one name, -o json and yaml give one object
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Only those whose documents have these labels: label=value, label!=value, label, !label, with commas between them
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<Selector>,
    #[command(flatten)]
    pub(crate) list: ListArguments,
}

/// `brattice flows`.
#[derive(Debug, Args)]
pub(crate) struct FlowsArguments {
    /// Only these, by their ids. With one, -o json and yaml give one object
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<u64>,
    /// Only those to this service: name or account/name
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only those of this workload: name, VPC/name, address, VPC/address or alias
    #[arg(long, value_name = "NAME", visible_alias = "workload")]
    pub(crate) caller: Option<String>,
    /// Only those from this VPC: name or account/name
    #[arg(long, value_name = "NAME")]
    pub(crate) vpc: Option<String>,
    /// Only those to this target: its workload as for --caller, or address:port
    #[arg(long, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// Only those opened within this time, such as 90s, 15m, 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    #[command(flatten)]
    pub(crate) list: ListArguments,
}

/// `brattice logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Go on with new lines as they come, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only lines of requests that began within this time, such as 90s, 15m, 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// How many of the latest lines that fit are shown, 0 for none [default: 100; 10 with --follow; all there are with --since]
    #[arg(long, value_name = "N", visible_aliases = ["tail", "last"], value_parser = clap::value_parser!(u32).range(..=i64::from(brattice_wire::records::MAX_BACKLOG)))]
    pub(crate) backlog: Option<u32>,
    /// Only those about services of this account, which is here what a namespace is in Kubernetes
    #[arg(short = 'n', long, value_name = "NAME", visible_alias = "namespace")]
    pub(crate) account: Option<String>,
    /// Those about services of all accounts, as without -n
    #[arg(short = 'A', long, visible_alias = "all-namespaces", conflicts_with = "account")]
    pub(crate) all_accounts: bool,
    /// Only those about this service: name, account/name, id or ARN
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only those of this workload: name, VPC/name, interface, address, VPC/address, alias or ARN
    #[arg(long, value_name = "NAME", visible_alias = "workload")]
    pub(crate) caller: Option<String>,
    /// Only what policies denied
    #[arg(long)]
    pub(crate) denied: bool,
    /// Only answers with this status, such as 404 or 5xx
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Directory of the agent's socket
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(crate) run_dir: PathBuf,
}
