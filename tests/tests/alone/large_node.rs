//! What a change costs on a large node: not a test but a measurement, whose figures are in docs/performance.md.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use brattice_tests::lab::{AgentOptions, Lab, Namespace, eventually, sh};

const SERVICES: usize = 10_000;
const SERVICES_PER_ACCOUNT: usize = 500;
const WORKLOADS: usize = 1_000;
/// VIPs for all services; of addresses that no lab uses.
const VIP_RANGE: &str = "172.20.0.0/16";
const PATIENCE: Duration = Duration::from_secs(120);
const ROUNDS: u16 = 5;

fn service(number: usize, port: u16) -> String {
    format!(
        "---\nkind: Service\nmetadata: {{name: service-{number}}}\nspec: {{serviceNetworks: [platform/net], listeners: [{{protocol: HTTP, port: {port}, \
         defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: targets-{number}}}]}}}}}}]}}\n---\nkind: \
         TargetGroup\nmetadata: {{name: targets-{number}}}\nspec: {{config: {{vpcIdentifier: platform/green, port: 8080}}, targets: [{{id: 10.2.1.1}}]}}\n"
    )
}

fn write_documents(lab: &Lab) {
    let mut operator = String::from(
        "kind: Account\nmetadata: {name: platform}\nspec: {id: \"111111111111\"}\n---\nkind: Vpc\nmetadata: {name: green}\nspec: {account: \
         platform, cidrBlocks: [10.2.0.0/16], attachments: [{interface: \"green*\"}], serviceNetworks: [platform/net]}\n",
    );
    let mut accounts = vec!["small".to_owned()];
    accounts.extend((0..SERVICES / SERVICES_PER_ACCOUNT).map(|account| format!("crowd{account}")));
    for (at, account) in accounts.iter().enumerate() {
        let id = 300_000_000_000_usize + at;
        let _ = write!(
            operator,
            "---\nkind: Account\nmetadata: {{name: {account}}}\nspec: {{id: \"{id}\", vpcs: [platform/green]}}\n"
        );
    }
    lab.write("node.yaml", &operator);
    let network =
        format!("kind: ServiceNetwork\nmetadata: {{name: net}}\nspec: {{sharedWith: [{}]}}\n", accounts.join(", "));
    lab.write("accounts/platform/network.yaml", &network);
    lab.write("accounts/small/service.yaml", &service(SERVICES, 80));
    for account in 0..SERVICES / SERVICES_PER_ACCOUNT {
        let first = account * SERVICES_PER_ACCOUNT;
        let text: String = (first..first + SERVICES_PER_ACCOUNT).map(|number| service(number, 80)).collect();
        lab.write(&format!("accounts/crowd{account}/services.yaml"), &text);
    }
}

/// Veths with addresses of their own, all of one namespace.
fn attach_workloads(lab: &Lab) -> Namespace {
    let crowd = Namespace::create(&format!("{}-crowd", lab.id));
    let (mut outside, mut inside) = (String::new(), String::new());
    for number in 0..WORKLOADS {
        let _ = writeln!(outside, "link add green{number} type veth peer name e{number} netns {}", crowd.name);
        let _ = writeln!(outside, "link set green{number} up");
        let _ = writeln!(inside, "addr add 10.2.{}.{}/32 dev e{number}", 1 + number / 250, 1 + number % 250);
        let _ = writeln!(inside, "link set e{number} up");
    }
    for (name, text) in [(&lab.node.name, outside), (&crowd.name, inside)] {
        let file = lab.run_dir().join(format!("{name}.batch"));
        fs::create_dir_all(lab.run_dir()).unwrap();
        fs::write(&file, text).unwrap();
        sh(&format!("ip -n {name} -batch {}", file.display()));
    }
    crowd
}

/// Waits until another revision than `before` is in force.
fn in_force_after(lab: &Lab, before: u64) -> u64 {
    eventually("the change is in force", PATIENCE, || {
        let status = lab.try_status()?;
        let done = status.revision > before && status.engine.revision == status.revision;
        if done { Ok(status.revision) } else { Err(format!("revision {}", status.revision)) }
    })
}

/// What debug lines tell: of each message, its figures in order.
fn told(log: &str) -> BTreeMap<String, Vec<String>> {
    let mut figures: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("DEBUG brattice_control")) {
        // "time DEBUG target: message field=value ..."
        let Some((_, rest)) = line.split_once(": ") else { continue };
        let is_field = |word: &&str| word.contains('=');
        let message: Vec<&str> = rest.split(' ').take_while(|word| !is_field(word)).collect();
        let fields: Vec<&str> =
            rest.split(' ').filter(|word| is_field(word) && !word.starts_with("revision")).collect();
        figures.entry(message.join(" ")).or_default().push(fields.join(" "));
    }
    figures
}

fn show(what: &str, took: &[Duration], log: &str) {
    println!("\n{what}: in force after {took:?}");
    for (message, figures) in told(log) {
        let latest: Vec<&str> = figures.iter().rev().take(6).rev().map(String::as_str).collect();
        println!("  {message} ({} times), latest: {}", figures.len(), latest.join(" | "));
    }
}

#[test]
#[ignore = "a measurement of about two minutes"]
fn what_a_change_costs_with_ten_thousand_services_and_a_thousand_workloads() {
    let mut lab = Lab::new();
    write_documents(&lab);
    let more = vec!["--log".to_owned(), "info,brattice_control=debug".to_owned()];
    let options = AgentOptions { vip_range: VIP_RANGE, more, within: PATIENCE, ..AgentOptions::default() };
    let began = Instant::now();
    lab.start_agent_with(&options);
    let mut revision = in_force_after(&lab, 0);
    show("start with 10,000 services", &[began.elapsed()], &lab.log());

    for workloads in [0, WORKLOADS] {
        let mut crowd = None;
        if workloads > 0 {
            let (before, began) = (lab.log().len(), Instant::now());
            crowd = Some(attach_workloads(&lab));
            eventually("all are attached", PATIENCE, || {
                let attached = lab.workloads().iter().filter(|workload| workload.state == "attached").count();
                if attached == workloads { Ok(()) } else { Err(format!("{attached} are")) }
            });
            revision = in_force_after(&lab, revision);
            show("1,000 workloads come", &[began.elapsed()], &lab.log()[before..]);
        }
        let (before, mut took) = (lab.log().len(), Vec::new());
        for round in 0..ROUNDS {
            let began = Instant::now();
            lab.write(
                "accounts/small/service.yaml",
                &service(SERVICES, 8000 + round + u16::try_from(workloads).unwrap()),
            );
            revision = in_force_after(&lab, revision);
            took.push(began.elapsed());
        }
        show(&format!("the port of one listener changes, {workloads} workloads"), &took, &lab.log()[before..]);
        drop(crowd);
    }
}
