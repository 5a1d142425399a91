//! All tests, in stages, each with its budget; a summary of tests run and expected.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    artifacts::{self, Artifact},
    ebpf, elsewhere,
    expected::{self, Counts},
    kernels, run, setup,
};

/// Tests of another kind, with what was built.
type More = fn(&[Artifact]) -> Result<Counts>;

/// A part of the test run.
struct Stage {
    /// As in `tests/expected.txt`.
    name: &'static str,
    /// Time it may take on two cores.
    budget: Duration,
    /// Which test programs; each belongs to the first stage that takes it.
    takes: fn(&Artifact) -> bool,
    /// For the harness.
    harness: &'static [&'static str],
    /// What is run after them, with what was built.
    also: Option<More>,
}

/// Time a build from nothing may take on two cores.
const COLD_BUILD: Duration = Duration::from_secs(600);
/// In the order in which they run.
const STAGES: &[Stage] = &[
    Stage {
        name: "unit and property",
        budget: Duration::from_secs(180),
        takes: |artifact| !artifact.folder.starts_with("tests") && artifact.folder != "loader",
        harness: &[],
        also: None,
    },
    Stage {
        name: "eBPF packets",
        budget: Duration::from_secs(60),
        takes: |artifact| artifact.folder == "tests" && artifact.name == "packets",
        harness: &[],
        also: None,
    },
    Stage {
        name: "loader",
        budget: Duration::from_secs(60),
        takes: |artifact| artifact.folder == "loader",
        harness: &[],
        also: None,
    },
    // Measures time or load: one at a time.
    Stage {
        name: "end to end, alone",
        budget: Duration::from_secs(180),
        takes: |artifact| artifact.integration && artifact.name == "alone",
        harness: &["--test-threads=1"],
        also: None,
    },
    Stage {
        name: "kernels",
        budget: Duration::from_secs(240),
        takes: |artifact| {
            artifact.folder == "tests/machine" || (artifact.folder == "tests" && artifact.name == "guests")
        },
        harness: &[],
        also: Some(kernels::short),
    },
    Stage {
        name: "end to end",
        budget: Duration::from_secs(300),
        takes: |_| true,
        harness: &["--test-threads=4"],
        also: None,
    },
    Stage {
        name: "elsewhere",
        budget: Duration::from_secs(120),
        takes: |_| false,
        harness: &[],
        also: Some(|_| elsewhere::run()),
    },
];

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
    ebpf::build()?;
    let start = Instant::now();
    let built = run::timed("building everything", || artifacts::build(None))?;
    let binary = artifacts::binary(&built)?;
    let mut tests: Vec<Artifact> = built.iter().filter(|artifact| artifact.test).cloned().collect();
    let mut report = vec![line("build", start.elapsed(), COLD_BUILD, "")];
    let mut total = Counts::default();
    let mut trouble = Vec::new();
    for stage in STAGES {
        run::say(&format!("{} (budget {})", stage.name, run::human(stage.budget)));
        let start = Instant::now();
        let mut counts = Counts::default();
        let (mine, rest): (Vec<Artifact>, Vec<Artifact>) = tests.into_iter().partition(stage.takes);
        tests = rest;
        for artifact in mine {
            println!("    {} {}", artifact.folder, artifact.name);
            let mut command = artifact.command(&binary);
            command.args(stage.harness).args(filter);
            let (succeeded, lines) = run::tee(&mut command)?;
            let mut own = Counts::of(&lines);
            // It died, or found something of its own to complain about.
            own.failed += usize::from(!succeeded && own.failed == 0);
            counts.add(own);
        }
        // A filter names tests, which may be none of those inside.
        if let (Some(also), None) = (stage.also, filter) {
            counts.add(also(&built)?);
        }
        let took = start.elapsed();
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
            println!("    note: {} tests are run by other tests, in a process of their own", counts.ignored);
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
