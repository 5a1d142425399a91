//! The checks that read the source: import cycles, long functions, sockets.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, bail};

use super::{
    cycles::{self, Cycle},
    exceptions::{self, Judged},
    modules::Modules,
};
use crate::{paths, run};

/// Longest function, lines: a step of its own has a name of its own.
const LONGEST_FUNCTION: usize = 80;
/// Crates in which functions are measured.
const MEASURED: [&str; 2] = ["agent/control/src", "agent/engine/src"];
/// What connections are to the engine is said in one place: where TLS and tunnels will be.
const TRANSPORT: &str = "agent/engine/src/transport";
/// Names of sockets that no other file of the engine has.
const SOCKETS: [&str; 2] = ["TcpListener", "TcpStream"];
/// The list of known exceptions.
const EXCEPTIONS: &str = "xtask/exceptions.txt";

/// No file imports one that imports it.
///
/// # Errors
/// When there are cycles that are no known exceptions; each is printed.
pub(super) fn cycles() -> Result<()> {
    let mut found = BTreeSet::new();
    let mut all = Vec::new();
    for src in crates()? {
        for cycle in cycles::find(&Modules::read(&paths::root().join(&src))?) {
            found.extend(cycle.files.iter().map(|file| format!("{src}/{file}")));
            all.push((src.clone(), cycle));
        }
    }
    let judged = exceptions::judge(&list()?, "cycle", &found);
    for (src, cycle) in &all {
        let known = !cycle.files.iter().any(|file| judged.new.contains(&format!("{src}/{file}")));
        print!("{}", described(src, cycle, known));
    }
    end(&judged, "in a cycle of imports")
}

/// A cycle for people.
fn described(src: &str, cycle: &Cycle, known: bool) -> String {
    use std::fmt::Write as _;

    let mut text =
        format!("    cycle of {} files in {src}{}\n", cycle.files.len(), if known { " (known)" } else { "" });
    for import in &cycle.imports {
        let more = if import.places > 1 { format!(" and {} more", import.places - 1) } else { String::new() };
        let (from, to, line, what) = (&import.from, &import.to, import.first.line, import.first.text());
        let _ = writeln!(text, "        {from}:{line} imports {to}: {what}{more}");
    }
    text
}

/// Functions can be read without scrolling.
///
/// # Errors
/// When one is longer and no known exception.
pub(super) fn functions() -> Result<()> {
    let mut found = BTreeSet::new();
    for src in MEASURED {
        for file in Modules::read(&paths::root().join(src))?.files.values() {
            for function in file.functions.iter().filter(|function| function.lines > LONGEST_FUNCTION) {
                println!("    {src}/{}:{}: {} has {} lines", file.name, function.line, function.name, function.lines);
                found.insert(format!("{src}/{} {}", file.name, function.name));
            }
        }
    }
    end(&exceptions::judge(&list()?, "long", &found), &format!("longer than {LONGEST_FUNCTION} lines"))
}

/// The engine knows streams, and no sockets.
///
/// # Errors
/// When a file of the engine, other than those of its transport and of tests, names a TCP socket.
pub(super) fn sockets() -> Result<()> {
    let listed = run::capture(run::git().args(["ls-files", "--", "agent/engine/src/*.rs"]))?;
    let mut found = Vec::new();
    for name in listed.lines().filter(|name| !name.starts_with(TRANSPORT) && !name.ends_with("/tests.rs")) {
        // A file that was removed is listed until that is committed.
        let Ok(text) = fs::read_to_string(paths::root().join(name)) else { continue };
        found.extend(SOCKETS.iter().filter(|socket| text.contains(**socket)).map(|socket| format!("{name}: {socket}")));
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!("use the streams and listeners of {TRANSPORT}.rs instead: {}", found.join(", "))
}

pub(super) fn list() -> Result<String> {
    fs::read_to_string(paths::root().join(EXCEPTIONS)).with_context(|| format!("cannot read {EXCEPTIONS}"))
}

pub(super) fn end(judged: &Judged, what: &str) -> Result<()> {
    let mut problems = Vec::new();
    if !judged.new.is_empty() {
        problems.push(format!("{what}: {}", judged.new.join(", ")));
    }
    if !judged.unneeded.is_empty() {
        let gone = judged.unneeded.join(", ");
        problems.push(format!("not {what} any more, remove the line of {EXCEPTIONS}: {gone}"));
    }
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("; ")) }
}

/// The `src` of every crate of the tree.
fn crates() -> Result<Vec<String>> {
    let listed = run::capture(run::git().args(["ls-files", "--", "*Cargo.toml"]))?;
    let all = listed.lines().map(|name| name.replace("Cargo.toml", "src"));
    Ok(all.filter(|src| paths::root().join(src).is_dir()).collect())
}
