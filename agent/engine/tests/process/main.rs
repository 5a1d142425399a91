//! The engine as a process of its own, seen from outside. Needs root: the engine gives root up.
//!
//! The test program starts itself again with [`CHILD`] set and then is the engine; a fake agent talks with it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod agent;
mod budget;
mod dns;
mod lifecycle;
mod outputs;
mod relaying;
mod sandbox;

use std::process::ExitCode;

/// What the program is when this variable is set.
const CHILD: &str = "BRATTICE_ENGINE_TEST_CHILD";

/// Name and body of every test.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(CHILD) {
        return sandbox::child(&role);
    }
    let tests: Vec<Test> =
        [sandbox::TESTS, lifecycle::TESTS, relaying::TESTS, outputs::TESTS, dns::TESTS, budget::TESTS].concat();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in &tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    assert!(nix::unistd::geteuid().is_root(), "these tests need root");
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let chosen: Vec<_> =
        tests.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(&**filter))).collect();
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        let good = std::panic::catch_unwind(*test).is_ok();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        failed += usize::from(!good);
    }
    let (word, passed, out) =
        (if failed == 0 { "ok" } else { "FAILED" }, chosen.len() - failed, tests.len() - chosen.len());
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {out} filtered out\n");
    ExitCode::from(u8::from(failed > 0))
}
