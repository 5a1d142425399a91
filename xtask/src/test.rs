//! All tests, in stages, each with its budget; a summary of tests run and expected.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    compile,
    expected::{self, Counts},
    run, setup,
};

/// A part of the test run.
pub(crate) struct Stage {
    /// As in `tests/expected.txt`.
    pub(crate) name: &'static str,
    /// Time it may take on two cores.
    budget: Duration,
    /// Which tests, for cargo.
    select: &'static [&'static str],
    /// For the harness.
    harness: &'static [&'static str],
}

/// Time a build from nothing may take on two cores.
const COLD_BUILD: Duration = Duration::from_secs(600);

/// In the order in which they run.
pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "unit and property",
        budget: Duration::from_secs(180),
        select: &["--workspace", "--exclude", "brattice-tests", "--exclude", "brattice-loader"],
        harness: &[],
    },
    Stage {
        name: "eBPF packets",
        budget: Duration::from_secs(60),
        select: &["--package", "brattice-tests", "--test", "packets"],
        harness: &[],
    },
    Stage { name: "loader", budget: Duration::from_secs(60), select: &["--package", "brattice-loader"], harness: &[] },
    Stage {
        name: "end to end",
        budget: Duration::from_secs(480),
        select: &["--package", "brattice-tests", "--lib", "--test", "together"],
        harness: &["--test-threads=4"],
    },
    // Measures time or load: one at a time.
    Stage {
        name: "end to end, alone",
        budget: Duration::from_secs(480),
        select: &["--package", "brattice-tests", "--test", "alone"],
        harness: &["--test-threads=1"],
    },
];

impl Stage {
    /// `cargo test` for it.
    pub(crate) fn command(&self) -> Command {
        let mut command = run::cargo();
        command.args(["test", "--profile", compile::TEST_PROFILE, "--no-fail-fast"]).args(self.select);
        command.env("BRATTICE_BIN", compile::binary(compile::TEST_PROFILE));
        command
    }
}

/// Sets up, builds, runs everything.
///
/// # Errors
/// When something is missing, does not build, fails, or fewer tests ran than `tests/expected.txt` says.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    if !run::is_root() {
        bail!("the tests need root: they make network namespaces and load eBPF programs.\nRun this command as root.");
    }
    let expected = expected::read()?;
    setup::setup(setup::For::Tests)?;
    let start = Instant::now();
    compile::build(compile::TEST_PROFILE)?;
    run::timed("building the tests", || {
        run::run(run::cargo().args(["test", "--workspace", "--no-run", "--quiet", "--profile", compile::TEST_PROFILE]))
    })?;
    let mut report = vec![line("build", start.elapsed(), COLD_BUILD, "")];
    let mut total = Counts::default();
    let mut trouble = Vec::new();
    for stage in STAGES {
        run::say(&format!("{} (budget {})", stage.name, run::human(stage.budget)));
        let start = Instant::now();
        let mut command = stage.command();
        command.arg("--").args(stage.harness);
        if let Some(filter) = filter {
            command.arg(filter);
        }
        let (succeeded, lines) = run::tee(&mut command)?;
        let took = start.elapsed();
        let mut counts = Counts::of(&lines);
        if !succeeded && counts.failed == 0 {
            counts.failed = 1;
        }
        let wanted = expected.get(stage.name).copied();
        let comparison = match (filter, wanted) {
            (Some(_), _) => format!("{} run (filtered)", counts.run()),
            (None, Some(wanted)) => {
                if counts.run() < wanted {
                    trouble.push(format!(
                        "{}: {} tests ran, {wanted} are expected (tests/expected.txt)",
                        stage.name,
                        counts.run()
                    ));
                } else if counts.run() > wanted {
                    println!("    note: {} tests ran; raise the {wanted} in tests/expected.txt", counts.run());
                }
                format!("{} run / {wanted} expected", counts.run())
            }
            (None, None) => {
                trouble.push(format!("{}: tests/expected.txt has no line for it", stage.name));
                format!("{} run / not listed", counts.run())
            }
        };
        if counts.ignored > 0 {
            trouble.push(format!("{}: {} tests are ignored; a test is run or removed", stage.name, counts.ignored));
        }
        report.push(line(stage.name, took, stage.budget, &comparison));
        total.passed += counts.passed;
        total.failed += counts.failed;
    }
    println!("\nstage                  took          budget        tests");
    for row in &report {
        println!("{row}");
    }
    for text in &trouble {
        println!("error: {text}");
    }
    let failed = total.failed + trouble.len();
    println!("{} passed, {failed} failed", total.passed);
    if failed > 0 { bail!("the tests did not pass") } else { Ok(()) }
}

fn line(stage: &str, took: Duration, budget: Duration, tests: &str) -> String {
    let over = if took > budget { "  OVER BUDGET" } else { "" };
    format!("{stage:<22} {:<13} {:<13} {tests}{over}", run::human(took), run::human(budget))
}
