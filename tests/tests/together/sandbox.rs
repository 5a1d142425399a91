//! The engine, seen from outside.

use std::{collections::BTreeMap, fs};

use brattice_tests::lab::{ENGINE_UID, Retail};

#[test]
fn the_engine_holds_nothing() {
    let mut retail = Retail::start();
    let status = |pid: nix::unistd::Pid| -> BTreeMap<String, String> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()
    };
    let engine = retail.lab.engine_pid();
    let agent = retail.lab.agent().pid();
    // The positive control: the agent does hold capabilities, so these fields would show them.
    assert_ne!(status(agent)["CapEff"].trim_start_matches('0'), "");
    let tasks: Vec<_> = fs::read_dir(format!("/proc/{engine}/task"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(tasks.len() > 1);
    for task in tasks {
        let text = fs::read_to_string(format!("/proc/{engine}/task/{task}/status")).unwrap();
        let fields: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect();
        for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
            assert_eq!(fields[set].trim_start_matches('0'), "", "{set} of thread {task}");
        }
        assert_eq!((fields["NoNewPrivs"], fields["Seccomp"]), ("1", "2"), "thread {task}");
        let own = fields["Uid"].split_whitespace().all(|uid| uid == ENGINE_UID.to_string());
        assert!(own, "thread {task}: {}", fields["Uid"]);
    }
    // Only sockets, eventfds, timers, and the one map it writes its heartbeat to.
    for entry in fs::read_dir(format!("/proc/{engine}/fd")).unwrap().flatten() {
        let link = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        let harmless = ["socket:", "anon_inode:[event", "anon_inode:[timerfd]", "pipe:", "/dev/null"]
            .iter()
            .any(|kind| link.starts_with(kind));
        let log = link.ends_with("agent.log");
        let map = link == "anon_inode:bpf-map";
        assert!(harmless || log || map, "the engine holds {link}");
    }
    assert!(retail.lab.status().engine.stats.unwrap().sandbox_missing.is_empty());
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1", "and it works");
}
