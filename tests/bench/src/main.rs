//! Brattice measured beside its peers, in throw-away network namespaces. `cargo xtask bench` builds and runs it.

mod cases;
mod cpu;
mod daemon;
mod load;
mod machine;
mod peers;
mod sample;
mod site;
mod table;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::{
    cases::{Case, Plan},
    peers::{Kind, Peers},
    sample::Care,
};

/// Measures Brattice beside its peers.
#[derive(Parser)]
struct Arguments {
    /// Direct, nginx, bare hyper and Brattice only, and shorter: at most 5 minutes.
    #[arg(long)]
    quick: bool,
    /// Only these cases.
    #[arg(long, value_enum, value_delimiter = ',')]
    case: Vec<Case>,
    /// Only these peers.
    #[arg(long, value_enum, value_delimiter = ',')]
    peer: Vec<Kind>,
    /// Rounds; a sample of each peer in each.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of a sample.
    #[arg(long)]
    seconds: Option<u64>,
    /// The core for everything that is measured.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Keeps samples during which other programs ran: for trying the bench out, not for figures.
    #[arg(long)]
    allow_noise: bool,
    /// Where all samples are written, as JSON; the last one counts.
    #[arg(long, overrides_with = "out")]
    out: Option<PathBuf>,
}

/// Open files of the bench and of what it starts.
const FILES: u64 = 65_536;
/// What is compared in a quick run.
const QUICK: [Kind; 4] = [Kind::Direct, Kind::Nginx, Kind::Hyper, Kind::Brattice];
/// What is asked in a quick run.
const QUICK_CASES: [Case; 4] = [Case::Http1, Case::Connections, Case::Memory, Case::Foreign];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "this needs root: it makes network namespaces and loads eBPF programs");
    // For 10,000 kept connections, on both sides of a peer.
    if setrlimit(Resource::RLIMIT_NOFILE, FILES, FILES).is_err() {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    }
    let all = |empty: bool| empty && !arguments.quick;
    let kinds = match &arguments.peer[..] {
        [] if all(true) => Kind::value_variants().to_vec(),
        [] => QUICK.to_vec(),
        some => some.to_vec(),
    };
    let cases = match &arguments.case[..] {
        [] if all(true) => Case::value_variants().to_vec(),
        [] => QUICK_CASES.to_vec(),
        some => some.to_vec(),
    };
    let plan = Plan {
        kinds,
        rounds: arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 5 }).max(1),
        length: Duration::from_secs(arguments.seconds.unwrap_or(2).max(1)),
        quick: arguments.quick,
        care: Care { allow_noise: arguments.allow_noise, beside: None },
    };
    let machine = machine::facts();
    println!("{}", serde_json::to_string_pretty(&machine)?);
    // The bench itself stays off the measured core, where there is another.
    let cores = cpu::online();
    if cores > 1 {
        cpu::pin(&[std::process::id().cast_signed()].into(), (arguments.core + 1) % cores);
    }
    let mut tables = Vec::new();
    let mut failed = Vec::new();
    for case in cases {
        let name = case.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        // Each case has fresh peers; what one leaves behind must not be the next one's.
        match case.run(&mut Peers::new(arguments.core), &plan).with_context(|| format!("case {name}")) {
            Ok(measured) => {
                for table in measured {
                    print!("{}", table.text());
                    tables.push(table.json());
                }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                failed.push(name);
            }
        }
        if let Some(out) = &arguments.out {
            let text = serde_json::to_string_pretty(&json!({"machine": machine, "tables": tables, "failed": failed}))?;
            fs::write(out, text).with_context(|| out.display().to_string())?;
        }
    }
    if let Some(out) = &arguments.out {
        println!("all samples: {}", out.display());
    }
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}
