//! The demo: two VPCs with the same addresses call each other's services through one node. `cargo xtask demo` runs it.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use brattice_tests::{
    client::{Load, Tally},
    lab::{Lab, Namespace, Wiring, Workload, eventually, sh, wait_until},
};
use clap::Parser;

/// Names of everything the demo makes begin with it.
const ID: &str = "brattice-demo";
/// The service's name in DNS.
const NAME: &str = "orders.shop.internal";
/// The file whose weights are moved.
const ORDERS: &str = "accounts/shop/orders.yaml";

/// Shows Brattice at work on throw-away network namespaces.
#[derive(Parser)]
struct Arguments {
    /// Leaves it running.
    #[arg(long, conflicts_with = "stop")]
    keep: bool,
    /// Ends a demo that was left running.
    #[arg(long)]
    stop: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.stop {
        Lab::tear_down(ID);
        println!("The demo is gone: {}", what_is_left());
        return ExitCode::SUCCESS;
    }
    if Path::new("/run/netns").join(format!("{ID}-node")).exists() {
        if owner().is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
            eprintln!("A demo is running or was kept. End it with `cargo xtask demo --stop`.");
            return ExitCode::FAILURE;
        }
        println!("Removing what an earlier demo left behind.");
        Lab::tear_down(ID);
    }
    let lab = show();
    if arguments.keep {
        keep(lab);
        return ExitCode::SUCCESS;
    }
    drop(lab);
    println!("\nEverything is removed again: {}", what_is_left());
    ExitCode::SUCCESS
}

/// File with the process id of the demo's owner: this process, or the agent of a kept one.
fn owner_file() -> PathBuf {
    std::env::temp_dir().join(ID).join("owner")
}

fn owner() -> Option<u32> {
    fs::read_to_string(owner_file()).ok()?.trim().parse().ok()
}

fn title(text: &str) {
    println!("\n── {text}");
}

/// Prints a command as a prompt would.
fn prompt(workload: &str, command: &str) {
    println!("{workload}$ {command}");
}

/// Builds, starts, calls, shifts; the lab at the end.
fn show() -> Lab {
    let mut lab = Lab::named(ID);
    fs::write(owner_file(), std::process::id().to_string()).expect("the lab's folder is writable");
    println!(
        "
   VPC blue  10.0.0.0/16        one node            VPC green 10.0.0.0/16
  ┌────────────────────┐     ┌───────────┐     ┌───────────────────────────┐
  │ 10.0.0.10 (routed) ├────►│  engine   ├────►│ 10.0.0.10 (bridged)  v1   │
  └────────────────────┘     │ as a user │     │ 10.0.0.11 (bridged)  v2   │
  ┌────────────────────┐     │  of its   │     └───────────────────────────┘
  │ 10.0.0.10 (routed) ├─ ✗ ─┤    own    │
  └────────────────────┘     └───────────┘
   VPC red   10.0.0.0/16, in no service network"
    );
    title("building three VPCs with the same addresses out of network namespaces");
    let blue = lab.workload("blue1", "10.0.0.10", Wiring::Routed);
    let green1 = lab.workload("green1", "10.0.0.10", Wiring::Bridged("brgreen"));
    let green2 = lab.workload("green2", "10.0.0.11", Wiring::Bridged("brgreen"));
    let red = lab.workload("red1", "10.0.0.10", Wiring::Routed);
    serve(&green1.namespace, "orders-v1");
    serve(&green2.namespace, "orders-v2");
    for workload in [&blue, &green1, &green2, &red] {
        println!("  {:<8} {}/16", workload.interface, workload.address);
    }

    title("starting `brattice agent` on a copy of policies/");
    copy(&policies(), &lab.policies());
    let start = Instant::now();
    lab.start_agent();
    println!("  ready after {:.1} s", start.elapsed().as_secs_f64());

    title("blue calls green's service by its DNS name");
    let url = format!("http://{NAME}/");
    prompt("blue", &format!("curl {url}"));
    let mut answered = std::collections::BTreeMap::new();
    for _ in 0..20 {
        let (status, body) = blue.fetch(&[&url]);
        assert_eq!(status, 200, "{body}");
        *answered.entry(server_of(&body)).or_insert(0) += 1;
    }
    println!("  20 calls, answered by: {}", list(&answered));

    title("red has the same address, but is in no service network: it gets nothing");
    prompt("red", &format!("curl {url}"));
    let refused = red.curl(&[&url]);
    assert!(!refused.ok(), "red got an answer: {}", refused.text());
    println!("  {}", refused.stderr.trim());

    title("moving the canary from 90/10 to 0/100 by editing the file, under load");
    shift(&lab, &blue);

    title("testers say so in a header, and a rule sends them to the next version");
    let billing = "http://billing.shop.internal/";
    for more in [&[][..], &["-H", "x-tester: true"]] {
        let words: Vec<String> = more.iter().map(|word| word.replace("x-tester: true", "'x-tester: true'")).collect();
        prompt("blue", [&["curl".to_owned()], &words[..], &[billing.to_owned()]].concat().join(" ").as_str());
        let (status, body) = blue.fetch(&[more, &[billing]].concat());
        assert_eq!(status, 200, "{body}");
        println!("  answered by: {}", server_of(&body));
    }

    title("a policy lets blue read, not write; `brattice explain` says why");
    explain(&lab, &blue, billing);

    title("brattice status");
    print!("{}", lab.brattice(&["status"]).stdout);
    lab
}

#[expect(
    clippy::zombie_processes,
    reason = "it must be able to outlive this process (--keep); the lab ends it by its namespace"
)]
fn serve(namespace: &Namespace, name: &str) {
    let mut program = std::env::current_exe().expect("a program has a path");
    program.set_file_name("test-server");
    namespace
        .command(&program.to_string_lossy())
        .args([name, "8080"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("the test server is built beside the demo");
    wait_until("the server listens", Duration::from_secs(5), || {
        namespace.sh("ss -Hltn sport = :8080").contains(":8080")
    });
}

fn server_of(body: &str) -> String {
    serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|json| Some(json.get("server")?.as_str()?.to_owned()))
        .unwrap_or_default()
}

fn list(counts: &std::collections::BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}×")).collect::<Vec<_>>().join(", ")
}

/// A request that a policy denies, and its explanation by its id.
fn explain(lab: &Lab, blue: &Workload, url: &str) {
    prompt("blue", &format!("curl --request POST {url}"));
    let (status, text) = blue.fetch(&["--include", "--request", "POST", url]);
    assert_eq!(status, 403, "{text}");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    println!("  {status} {}", body.trim());
    let id = head.lines().find_map(|line| line.strip_prefix("x-amzn-requestid: ")).expect("each answer has one").trim();
    prompt("node", &format!("brattice explain {id}"));
    let output = eventually("the request is remembered", Duration::from_secs(5), || {
        let output = lab.brattice(&["explain", id]);
        if output.code == 1 { Ok(output.stdout) } else { Err(output.text()) }
    });
    print!("{output}");
}

fn shift(lab: &Lab, blue: &Workload) {
    let vip = lab.vip("shop/orders", 80);
    let loads: Vec<Load> =
        [true, true, false, false].into_iter().map(|kept| Load::start(blue, vip, kept, u64::MAX)).collect();
    let done = || loads.iter().map(Load::done).sum::<u64>();
    wait_until("requests flow", Duration::from_secs(20), || done() >= 2_000);
    let before = sum(&loads.iter().map(Load::tally).collect::<Vec<_>>());
    let file = lab.policies().join(ORDERS);
    let text = fs::read_to_string(&file).expect("the copy of policies/");
    let edited = text
        .replace("weight: 90", "weight: 0")
        .replace("weight: 10\n", "weight: 100\n")
        .replace("weight: 10}", "weight: 100}");
    assert_ne!(text, edited, "the weights are found");
    let start = Instant::now();
    lab.apply(ORDERS, &edited);
    let took = start.elapsed();
    let at_change = sum(&loads.iter().map(Load::tally).collect::<Vec<_>>());
    let so_far = done();
    wait_until("requests flow", Duration::from_secs(20), || done() >= so_far + 2_000);
    let end = sum(&loads.into_iter().map(Load::finish).collect::<Vec<_>>());
    println!("  before:  {}", list(&before.by_server));
    println!("  the edit was in force on every worker after {} ms", took.as_millis());
    let mut after = end.by_server.clone();
    for (name, count) in &at_change.by_server {
        if let Some(total) = after.get_mut(name) {
            *total -= count;
        }
    }
    println!("  after:   {}", list(&after));
    println!("  in all:  {} requests on kept and fresh connections, {} failed", end.sent, end.failed);
    assert_eq!(end.failed, 0, "{:?}", end.errors);
}

fn sum(tallies: &[Tally]) -> Tally {
    let mut all = Tally::default();
    for tally in tallies {
        all.sent += tally.sent;
        all.good += tally.good;
        all.failed += tally.failed;
        all.errors.extend(tally.errors.iter().cloned());
        for (name, count) in &tally.by_server {
            *all.by_server.entry(name.clone()).or_default() += count;
        }
    }
    all
}

/// `cargo xtask demo` starts us in the workspace's root.
fn policies() -> PathBuf {
    PathBuf::from("policies")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the lab's folder is writable");
    for entry in fs::read_dir(from).expect("policies/ is part of the sources").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else if target.extension().is_some_and(|extension| extension == "yaml") {
            println!("  {}", entry.path().strip_prefix(policies()).unwrap_or(&entry.path()).display());
            fs::copy(entry.path(), target).expect("a file of policies/");
        }
    }
}

fn keep(mut lab: Lab) {
    let agent = lab.agent().pid();
    fs::write(owner_file(), agent.to_string()).expect("the lab's folder is writable");
    let run = lab.run_dir();
    let policies = lab.policies();
    let binary = std::env::var("BRATTICE_BIN").unwrap_or_else(|_| "brattice".to_owned());
    lab.keep();
    title("it goes on running; try");
    println!("  ip netns exec {ID}-blue1 curl http://{NAME}/");
    println!("  ip netns exec {ID}-red1 curl http://{NAME}/");
    println!("  {binary} explain --from blue1 --to billing --method POST --run-dir {}", run.display());
    println!("  ip netns exec {ID}-blue1 dig @169.254.64.17 {NAME}");
    println!("  {binary} status --run-dir {}", run.display());
    println!("  {binary} bypass --all --for 1m --run-dir {}", run.display());
    println!("  $EDITOR {}", policies.join(ORDERS).display());
    println!("  cargo xtask demo --stop");
}

/// What of the demo is still on this machine.
fn what_is_left() -> String {
    let namespaces = sh("ip netns list");
    let mut left: Vec<String> = namespaces.lines().filter(|line| line.starts_with(ID)).map(str::to_owned).collect();
    for folder in ["/sys/fs/bpf", "/tmp", "/etc/netns"] {
        let names = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        left.extend(names.filter(|name| name.starts_with(ID)).map(|name| format!("{folder}/{name}")));
    }
    if left.is_empty() { "no namespace, process, file or pin is left.".to_owned() } else { left.join(", ") }
}
