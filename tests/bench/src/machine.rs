//! What the figures were measured on.

use std::{fs, path::Path, process::Command};

use brattice_tests::lab::output;
use serde_json::{Value, json};

use crate::cpu;

/// Kernel, processor, versions, load.
pub(crate) fn facts() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("", |(_, name)| name.trim());
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processor": model,
        "cores": cpu::online(),
        "load": read("/proc/loadavg"),
        "versions": {
            "brattice": version(&std::env::var("BRATTICE_BIN").unwrap_or_default(), "version"),
            "nginx": version("nginx", "-v"),
            "haproxy": version("haproxy", "-v"),
            "envoy": version(&std::env::var("ENVOY_BIN").unwrap_or_default(), "--version"),
            "wrk": version("wrk", "-v"),
            "h2load": version("h2load", "--version"),
        },
    })
}

/// The first line that says something.
fn version(program: &str, argument: &str) -> String {
    let found = Path::new(program).is_file() || output(Command::new("which").arg(program)).ok();
    if program.is_empty() || !found {
        return "not here".to_owned();
    }
    let text = output(Command::new(program).arg(argument)).text();
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned()
}
