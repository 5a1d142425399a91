//! The only automation of Brattice. `cargo xtask demo` and `cargo xtask test` are all a newcomer needs.

mod artifacts;
mod bench;
mod compile;
mod demo;
mod docs;
mod ebpf;
mod elsewhere;
mod expected;
mod kernels;
mod lint;
mod mutants;
mod package;
mod paths;
mod run;
mod sabotage;
mod setup;
mod test;
mod toolchain;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Sets up, builds, tests and shows Brattice.
#[derive(Parser)]
#[command(name = "cargo xtask", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs what building and testing need; instant when nothing is missing.
    Setup,
    /// Builds the eBPF object (only when its sources or compiler changed) and the `brattice` binary.
    Build {
        /// Optimized for production (target/release) instead of for tests and the demo (target/test-release).
        #[arg(long)]
        release: bool,
    },
    /// Runs all tests: unit and property, eBPF packets, loader, end to end. As root.
    Test {
        /// Only tests whose name contains this; the number of tests is then not compared with the expected one.
        #[arg(long)]
        filter: Option<String>,
        /// Takes each guard of SECURITY.md away in turn, in a copy, and shows that its tests turn red; not part of CI.
        #[arg(long)]
        sabotage: bool,
        /// With --sabotage: only guards whose name, or whose source file, contains this.
        #[arg(long, requires = "sabotage")]
        fault: Option<String>,
    },
    /// Shows Brattice at work on throw-away network namespaces. As root.
    Demo {
        /// Leaves it running and says what to try.
        #[arg(long, conflicts_with = "stop")]
        keep: bool,
        /// Ends a demo that was left running.
        #[arg(long)]
        stop: bool,
    },
    /// Measures Brattice beside its peers, optimized for production. As root, on a machine that does nothing else.
    Bench {
        /// Direct, nginx, bare hyper and Brattice only: at most 5 minutes.
        #[arg(long)]
        quick: bool,
        /// For the benchmark, after `--`: `--help` lists them.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Runs Brattice on other kernels, in guests of qemu: a table of what loads, how it is attached, and what passes. As root.
    Kernels {
        /// Only this series, such as 6.1.
        series: Option<String>,
    },
    /// Makes a Debian package in target/package.
    Package {
        /// Instead, shows a package's whole life (install, start, upgrade, remove, purge) in a Debian with systemd, in
        /// namespaces. As root.
        #[arg(long)]
        check: bool,
        /// From the tests' build: quicker to make, slower to run.
        #[arg(long, conflicts_with = "check")]
        for_tests: bool,
    },
    /// What `cargo xtask test` starts to run some tests from another place.
    #[command(hide = true)]
    Elsewhere {
        /// It is there already: what is to be hidden.
        #[arg(long)]
        hide: Option<PathBuf>,
    },
    /// Format, clippy, licences and advisories, import cycles, lengths of files and functions.
    Lint {
        /// Only checks whose name contains this; installs nothing.
        check: Option<String>,
    },
    /// Writes the pages that are made of the source: docs/packets.md, tests/SABOTAGE.md.
    Docs,
    /// Changes the crates that decide, one thing after the other, and shows that each change turns a test red (takes long).
    Mutants {
        /// Only this crate.
        #[arg(name = "crate")]
        only: Option<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Setup => setup::setup(setup::For::Tests),
        Verb::Build { release } => setup::setup(setup::For::Building)
            .and_then(|()| compile::build(if release { "release" } else { compile::TEST_PROFILE }).map(drop)),
        Verb::Test { sabotage: true, filter: _, fault } => sabotage::run(fault.as_deref()),
        Verb::Test { sabotage: false, filter, .. } => test::run(filter.as_deref()),
        Verb::Demo { stop: true, .. } => demo::stop(),
        Verb::Demo { keep, .. } => demo::run(keep),
        Verb::Bench { quick, arguments } => bench::run(quick, &arguments),
        Verb::Kernels { series } => kernels::run(series.as_deref()),
        Verb::Package { check: true, .. } => package::check(),
        Verb::Package { for_tests, .. } => package::package(for_tests).map(drop),
        Verb::Elsewhere { hide: None } => elsewhere::enter(),
        Verb::Elsewhere { hide: Some(own) } => elsewhere::inside(&own),
        Verb::Lint { check } => lint::run(check.as_deref()),
        Verb::Docs => docs::run(),
        Verb::Mutants { only } => mutants::run(only.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
