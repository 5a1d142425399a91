//! One agent after the other: started while the old one is being killed or is stopped, and stopped while it takes the
//! engine over.

use std::fs;
use std::time::Duration;

use brattice_tests::lab::{AgentOptions, Retail, output, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn an_agent_that_starts_while_the_old_one_is_killed_takes_over() {
    let mut retail = Retail::start();
    let vip = retail.orders();
    let engine = retail.lab.engine_pid();
    for _ in 0..3 {
        // Not waited for: the kernel closes its descriptors some time after the signal.
        kill(retail.lab.agent().pid(), Signal::SIGKILL).unwrap();
        retail.lab.start_agent();
    }
    assert_eq!(retail.lab.engine_pid(), engine);
    retail.blue.http(vip).unwrap().nonce("after").unwrap();
}

#[test]
fn an_agent_says_whether_the_other_one_answers_or_is_stopped() {
    let mut retail = Retail::start();
    let pid = retail.lab.agent().pid();
    let second = |retail: &Retail| {
        let before = retail.lab.log().len();
        let ended = output(&mut retail.lab.agent_command(&AgentOptions::default()));
        assert!(!ended.ok());
        retail.lab.log()[before..].to_owned()
    };
    let log = second(&retail);
    assert!(log.contains(&format!("another agent answers on it (process {pid})")), "{log}");
    kill(pid, Signal::SIGSTOP).unwrap();
    let log = second(&retail);
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(log.contains(&format!("process {pid} holds it and does not answer")), "{log}");
    assert!(log.contains(&format!("kill -CONT {pid}")), "{log}");
    wait_until("the first one answers on", Duration::from_secs(5), || retail.lab.try_status().is_ok());
}

#[test]
fn an_agent_stopped_while_it_takes_the_engine_over_ends_the_engine() {
    let mut retail = Retail::start();
    let engine = retail.lab.engine_pid();
    // Control: without the flag it serves on.
    retail.lab.agent().kill();
    retail.lab.start_agent();
    assert_eq!(retail.lab.agent().stop(), 0);
    assert!(runs(engine));
    // It is called in vain, for as long as an agent calls.
    kill(engine, Signal::SIGSTOP).unwrap();
    let more = vec!["--stop-engine-on-exit".to_owned()];
    let options = AgentOptions { more, within: Duration::from_millis(1), ..AgentOptions::default() };
    assert!(retail.lab.try_start_agent(&options).is_err(), "it is not ready without the engine");
    wait_until("the agent answers", Duration::from_secs(10), || retail.lab.try_status().is_ok());
    assert_eq!(retail.lab.agent().stop(), 0);
    wait_until("the engine has ended", Duration::from_secs(5), || !runs(engine));
}

fn runs(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}
