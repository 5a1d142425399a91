//! Takes each guard away in turn and shows that tests turn red.

mod fault;
mod guards;
mod loaders;
mod objects;
pub(crate) mod page;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use self::guards::{GUARDS, Guard, Program, Test};
use crate::{
    artifacts::{self, Artifact},
    expected::Counts,
    run, setup,
};

/// Time one test may take; a fault that makes it hang is noticed as well.
const TEST_TIME: Duration = Duration::from_secs(180);

/// Takes away every guard whose name, or the name of the source file that it is in, contains `only`, or all of them, and expects its
/// tests to fail.
///
/// # Errors
/// When a test fails with all guards there, or passes without one.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    if !run::is_root() {
        bail!("the tests need root: they make network namespaces and load eBPF programs.\nRun this command as root.");
    }
    setup::setup(setup::For::Tests)?;
    let places = tree::places()?;
    let is_wanted = |guard: &&Guard| {
        let place = places.get(guard.name).map_or("", String::as_str);
        only.is_none_or(|only| guard.name.contains(only) || place.contains(only))
    };
    let guards: Vec<&Guard> = GUARDS.iter().filter(is_wanted).collect();
    if guards.is_empty() {
        let names: Vec<&str> = GUARDS.iter().map(|guard| guard.name).collect();
        bail!("no guard has such a name; they are: {}", names.join(", "));
    }
    let start = Instant::now();
    let tests: BTreeSet<Test> = guards.iter().flat_map(|guard| guard.tests).copied().collect();
    let tree = tree::copy()?;
    let built = run::timed("building a copy with the faults of programs", || {
        objects::build(&tree)?;
        tree::build(&tree, &targets(&tests))
    })?;
    let objects = run::timed("building an eBPF object for each of its faults", || objects::without(&tree, &guards))?;
    let runner = Runner { binary: artifacts::binary(&built).ok(), built, objects };
    let mut problems = Vec::new();
    run::say("with all guards: every named test must pass");
    let mut green = BTreeSet::new();
    for test in tests {
        if runner.passes(test, None)? {
            green.insert(test);
        } else {
            problems.push(format!("{test} fails with all guards there"));
        }
    }
    let mut rows = Vec::new();
    for guard in guards {
        run::say(&format!("without {} ({})", guard.name, guard.means));
        for test in guard.tests.iter().filter(|test| green.contains(test)) {
            let noticed = !runner.passes(*test, Some(guard))?;
            rows.push(format!("{:<6} {:<30} {test}", if noticed { "red" } else { "GREEN" }, guard.name));
            if !noticed {
                problems.push(format!("{test} passes without {}", guard.name));
            }
        }
    }
    println!("\nguard that was missing → test");
    for row in &rows {
        println!("{row}");
    }
    println!("{} runs, {} problems, {}", rows.len(), problems.len(), run::human(start.elapsed()));
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n       ")) }
}

/// What cargo has to build for some tests.
fn targets(tests: &BTreeSet<Test>) -> Vec<&'static str> {
    let mut targets = BTreeSet::new();
    let mut arguments = Vec::new();
    for test in tests {
        match test.program {
            // Libraries' unit tests are built by `--tests` only; the plain libraries come along.
            Program::Unit(_) => return vec!["--lib", "--bins", "--tests"],
            Program::Of(_, program) => {
                if targets.insert(program) {
                    arguments.extend(["--test", program]);
                }
            }
        }
    }
    // Tests start programs beside themselves.
    arguments.push("--bins");
    arguments
}

/// Runs tests of the copy.
struct Runner {
    built: Vec<Artifact>,
    binary: Option<PathBuf>,
    /// With a fault, by the guard that is missing.
    objects: BTreeMap<&'static str, PathBuf>,
}

impl Runner {
    /// Whether a test passes, with a guard missing if there is one. That it runs at all is checked, too.
    fn passes(&self, test: Test, missing: Option<&Guard>) -> Result<bool> {
        let artifact = self
            .built
            .iter()
            .find(|artifact| {
                artifact.test
                    && artifact.folder == test.program.folder()
                    && match test.program {
                        Program::Unit(_) => !artifact.integration,
                        Program::Of(_, program) => artifact.integration && artifact.name == program,
                    }
            })
            .with_context(|| format!("the build made no program for {test}"))?;
        let own = artifact.command(self.binary.as_ref().unwrap_or(&artifact.executable));
        let mut command = Command::new("timeout");
        command.arg("--kill-after=10").arg(TEST_TIME.as_secs().to_string()).arg(own.get_program());
        for (name, value) in own.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = own.get_current_dir() {
            command.current_dir(folder);
        }
        command.args(["--exact", test.name, "--test-threads=1"]);
        if let Some(guard) = missing {
            match self.objects.get(guard.name) {
                Some(object) => command.env(loaders::OBJECT, object),
                None => command.env(tree::MISSING, guard.name),
            };
        }
        let start = Instant::now();
        let output = command.output().context("cannot start `timeout` (of coreutils)")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if Counts::of(&lines).run() == 0 {
            bail!("no test has this name: {test}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        // Why, in a line, so that what was broken can be told from what broke by the way.
        let message = lines.iter().skip_while(|line| !line.contains("panicked at")).nth(1);
        let message = message.map(|line| format!(": {}", line.chars().take(160).collect::<String>()));
        let verdict = if output.status.success() { "passes" } else { "fails" };
        println!("    {test} {verdict} ({}){}", run::human(start.elapsed()), message.unwrap_or_default());
        Ok(output.status.success())
    }
}
