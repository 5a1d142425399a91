//! What a guest gets and runs.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use brattice_machine::{Initramfs, Kernel};

use crate::{artifacts::Artifact, paths, run};

/// A guest that takes longer is ended.
pub(crate) const LIMIT: Duration = Duration::from_secs(900);

/// Kernel modules that the lab and the data path need; what needs what is found out.
const MODULES: &[&str] = &[
    "veth",
    "bridge",
    "sch_ingress",
    "cls_bpf",
    "cls_u32",
    "nf_tables",
    "nft_ct",
    "nft_reject_inet",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
];
/// Programs of this host that tests, lab and agent start.
const PROGRAMS: &[&str] = &[
    "bash", "ip", "tc", "nft", "ss", "ethtool", "curl", "dig", "bpftool", "nsenter", "sysctl", "unshare", "cat",
    "grep", "cut", "sleep",
];

/// End-to-end tests: the service answers by VIP between equal addresses and knows who called; what a workload may not
/// send is dropped; cleanup leaves nothing; what others take away is put back.
const END_TO_END: &[&str] = &[
    "calls::a_target_sees_an_engine_source_and_who_called",
    "exposed::a_workload_cannot_reach_aliases_nor_lend_addresses",
    "cleanup::cleanup_works_after_a_kill_and_without_any_state",
];
/// More of them, for the long form.
const END_TO_END_MORE: &[&str] = &[
    "calls::equal_addresses_and_equal_ports_do_not_cross",
    "cleanup::what_others_remove_of_ours_is_put_back_and_counted",
    "exposed::daemons_of_the_host_are_unreachable_through_any_vip",
    "workloads::an_interface_that_appears_is_attached_by_the_event",
];

/// Loads the object from its file.
const LOADS: &str = "verifier::few_steps_are_needed";
/// Starts a program that was built beside the test.
const STARTS: &str = "exposed::a_workload_cannot_reach_aliases_nor_lend_addresses";

/// What is built for it, as cargo names it.
pub(crate) const TARGETS: &[&str] = &["--bins", "--test", "together", "--test", "packets", "--test", "kernel"];

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Preflight, attaching, end to end.
    Part,
    /// All packet tests and all loader tests as well.
    All,
    /// A test that starts a program beside it, and one that loads the object.
    Place,
    /// The agent must refuse to start.
    Refusal,
}

/// Gathers it.
pub(crate) fn files(kernel: &Kernel, built: &[Artifact], depth: Depth) -> Result<Initramfs> {
    let mut files = Initramfs::new(kernel)?;
    files.modules(MODULES)?;
    for program in PROGRAMS {
        files.program(program)?;
    }
    let stripped = paths::target().join("kernels/stripped");
    std::fs::create_dir_all(&stripped)?;
    let mut add = |path: &Path, inside: &str| -> Result<()> {
        let small = stripped.join(Path::new(inside).file_name().context("a program has a name")?);
        run::run(Command::new("strip").arg("-o").arg(&small).arg(path))?;
        files.program_as(&small, inside)
    };
    let find = |what: &str, wanted: &dyn Fn(&Artifact) -> bool| {
        built.iter().find(|artifact| wanted(artifact)).with_context(|| format!("the build made no {what}"))
    };
    let binary = find("binary brattice", &|a| a.folder == "agent" && !a.test)?;
    add(&binary.executable, "/usr/bin/brattice")?;
    // Where tests look for it: beside themselves.
    let probe = find("program probe", &|a| a.folder == "tests" && a.name == "probe" && !a.test)?;
    add(&probe.executable, "/tests/probe")?;
    for (folder, name) in [("tests", "together"), ("tests", "packets"), ("loader", "kernel")] {
        let test = find(name, &|a| a.folder == folder && a.name == name && a.integration)?;
        add(&test.executable, &format!("/tests/{name}"))?;
    }
    // The packet tests load the object themselves, from the folder they run in. No path of this host is used inside,
    // where /tmp, /run and /dev are other file systems.
    files.file("/target/bpf/brattice.bpf.o", 0o644, std::fs::read(paths::object())?);
    files.script(&script(depth));
    Ok(files)
}

fn script(depth: Depth) -> String {
    let mut text = String::from(
        "export BRATTICE_BIN=/usr/bin/brattice NO_COLOR=1\n\
         cd /tests\n\
         echo \"== preflight\"\n\
         mkdir -p /policies\n\
         brattice preflight --no-probe --policies /policies\n\
         failed=0\n",
    );
    if depth == Depth::Refusal {
        text.push_str(
            "echo \"== refusal\"\n\
             timeout 20 brattice agent --policies /policies --engine-user 61234\n\
             test $? = 1 || failed=1\n",
        );
    }
    let mut stage = |name: &str, line: &str| {
        text.push_str(&format!("echo \"== {name}\"\n{line} || failed=1\n"));
    };
    if depth == Depth::All {
        stage("loader", "/tests/kernel --test-threads=1");
        // Later: one of them needs a clock, which counts from boot, that is past a window of 30 s.
        stage("packets", "/tests/packets --test-threads=1");
    }
    if depth == Depth::Place {
        stage("packets", &format!("/tests/packets --exact {LOADS}"));
        stage("end to end", &format!("/tests/together --exact {STARTS}"));
    }
    if matches!(depth, Depth::Part | Depth::All) {
        let mut names = END_TO_END.to_vec();
        if depth == Depth::All {
            names.extend(END_TO_END_MORE);
        }
        stage("end to end", &format!("/tests/together --test-threads=1 --exact {}", names.join(" ")));
    }
    text.push_str("exit $failed\n");
    text
}

/// How many tests must run at least.
pub(crate) fn tests(depth: Depth) -> usize {
    match depth {
        Depth::Part => END_TO_END.len(),
        Depth::Place => 2,
        // Those of `tests/expected.txt` for packets and loader are compared on this host's own kernel.
        Depth::All => END_TO_END.len() + END_TO_END_MORE.len() + 2,
        Depth::Refusal => 1,
    }
}
