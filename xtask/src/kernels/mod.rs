//! Brattice on other kernels: the built tests, in guests, side by side; the results as a table.

mod inside;
mod report;

use std::{path::Path, time::Instant};

use anyhow::{Result, bail};
use brattice_machine::{Guest, Kernel, Options};

use crate::{
    artifacts::{self, Artifact},
    ebpf,
    expected::Counts,
    paths, run, setup,
};

pub(crate) use inside::Depth;
use report::Row;
use report::table;

/// The kernels, oldest first: the oldest that Brattice runs on, which has no TCX, and one with it. The host's own is what
/// all other tests run on.
const SERIES: [&str; 2] = ["6.1", "6.12"];
/// One that is too old, and must be refused as such.
const TOO_OLD: &str = "5.10";

/// Builds and runs all kernels, the too old one, too, with all that is tested inside.
///
/// # Errors
/// When something is missing, does not build, or fails on one of the kernels.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    setup::setup(setup::For::Tests)?;
    ebpf::build()?;
    let built = run::timed("building", || artifacts::build(Some(inside::TARGETS)))?;
    let series: Vec<&str> =
        std::iter::once(TOO_OLD).chain(SERIES).filter(|series| only.is_none_or(|only| only == *series)).collect();
    if series.is_empty() {
        bail!("no kernel {}: there are {TOO_OLD}, {}", only.unwrap_or_default(), SERIES.join(", "));
    }
    let rows = all(&series, &built, Depth::All)?;
    println!("\n{}", table(&rows));
    if rows.iter().all(Row::passed) { Ok(()) } else { bail!("not every kernel passed") }
}

/// What `cargo xtask test` runs: each kernel with a part of what [`run`] runs.
///
/// # Errors
/// When a guest cannot be had.
pub(crate) fn short(built: &[Artifact]) -> Result<Counts> {
    let series: Vec<&str> = std::iter::once(TOO_OLD).chain(SERIES).collect();
    shown(&all(&series, built, Depth::Part)?)
}

/// One guest with what depends on where the clone lies.
///
/// # Errors
/// When a guest cannot be had.
pub(crate) fn elsewhere(built: &[Artifact]) -> Result<Counts> {
    shown(&[one(SERIES[1], built, Depth::Place)?])
}

fn shown(rows: &[Row]) -> Result<Counts> {
    println!("\n{}", table(rows));
    let mut counts = Counts::default();
    rows.iter().for_each(|row| counts.add(row.counts()));
    Ok(counts)
}

/// One after the other: a guest has as many processors as this machine.
fn all(series: &[&str], built: &[Artifact], depth: Depth) -> Result<Vec<Row>> {
    series.iter().map(|series| one(series, built, depth)).collect()
}

fn one(series: &str, built: &[Artifact], depth: Depth) -> Result<Row> {
    run::say(&format!("kernel {series}, in a guest"));
    let folder: &Path = &paths::target().join("kernels");
    let kernel = Kernel::of(series, folder)?;
    let start = Instant::now();
    let depth = if series == TOO_OLD { Depth::Refusal } else { depth };
    let files = inside::files(&kernel, built, depth)?;
    let options = Options { memory: 2048, within: inside::LIMIT, ..Options::default() };
    let guest = Guest::start(&kernel, &files, &options)?;
    let outcome = guest.wait(|line| println!("    [{series}] {line}"));
    let mut row = match outcome {
        Ok(outcome) => Row::of(&kernel.release, depth, &outcome.lines, outcome.code),
        Err(error) => Row::broken(&kernel.release, depth, &format!("{error:#}")),
    };
    row.took = start.elapsed();
    println!("    [{series}] took {}", run::human(row.took));
    Ok(row)
}
