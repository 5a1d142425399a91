//! The faults, and the tests that must notice them.

mod agent;
mod auth;
mod ebpf;
mod engine;
mod hosts;
mod http;
mod ipv6;
mod loader;
mod policy;
mod records;
mod router;

use std::fmt;

/// A small change that makes Brattice wrong.
pub(super) struct Fault {
    /// Short name.
    pub(super) name: &'static str,
    /// What goes wrong.
    pub(super) means: &'static str,
    /// File, from the workspace's root.
    pub(super) file: &'static str,
    /// Must be found exactly once.
    pub(super) search: &'static str,
    /// Takes its place.
    pub(super) replace: &'static str,
    /// At least one must fail; run in this order until one does.
    pub(super) tests: &'static [Test],
}

impl Fault {
    /// Whether the eBPF object has to be built anew for it.
    pub(super) fn in_ebpf(&self) -> bool {
        self.file.starts_with("ebpf/")
    }
}

/// One test.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    /// Where it is.
    pub(super) program: Program,
    /// Its full name there.
    pub(super) name: &'static str,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.program {
            Program::Unit(package) => write!(f, "{package}: {}", self.name),
            Program::Of(package, program) => write!(f, "{package}/{program}: {}", self.name),
        }
    }
}

/// A test program.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    /// The unit tests of a package's library.
    Unit(&'static str),
    /// A package's file or folder in `tests/`.
    Of(&'static str, &'static str),
}

impl Program {
    /// Whether it starts `brattice` itself.
    pub(super) fn needs_binary(&self) -> bool {
        matches!(self, Self::Of("brattice-tests", program) if *program != "packets")
    }
}

/// A unit test.
const fn unit(package: &'static str, name: &'static str) -> Test {
    Test { program: Program::Unit(package), name }
}

/// A test of a package's `tests/`.
const fn test(package: &'static str, program: &'static str, name: &'static str) -> Test {
    Test { program: Program::Of(package, program), name }
}

/// All faults.
pub(super) fn all() -> impl Iterator<Item = &'static Fault> {
    [
        ebpf::FAULTS,
        ipv6::FAULTS,
        hosts::FAULTS,
        http::FAULTS,
        loader::FAULTS,
        agent::FAULTS,
        engine::FAULTS,
        router::FAULTS,
        auth::FAULTS,
        policy::FAULTS,
        records::FAULTS,
    ]
    .into_iter()
    .flatten()
}
