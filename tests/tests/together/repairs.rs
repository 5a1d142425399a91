//! Parts of ours that other processes remove or detach, under load: how soon they are repaired, that traffic goes on,
//! and that nothing goes astray meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use brattice_tests::{
    client::Connection,
    lab::{ALIAS_RANGE, Lab, Namespace, Retail, SETTLE, VIP_RANGE, Workload, forward, service, wait_until},
    server::WildcardServices,
};

/// For repairs that follow an event.
const BY_EVENT: Duration = Duration::from_secs(2);
/// Changes without an event are polled for each second.
const BY_LOOKING: Duration = Duration::from_secs(4);
/// How long a caller waits for a connection while something is missing.
const PATIENCE: Duration = Duration::from_millis(250);

/// Calls without pause while `act` goes on; answers got.
fn while_calling<T>(from: &Workload, vip: SocketAddr, act: impl FnOnce(&AtomicU64) -> T) -> T {
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            from.namespace.enter_this_thread();
            while !stop.load(Ordering::SeqCst) {
                let answered = std::net::TcpStream::connect_timeout(&vip, PATIENCE)
                    .and_then(|stream| {
                        stream.set_read_timeout(Some(PATIENCE))?;
                        Connection::new(stream).nonce("n")
                    })
                    .is_ok_and(|answer| answer.server() == "v1");
                if answered {
                    answers.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        // Also when it fails, or the scope would wait forever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&answers)));
        stop.store(true, Ordering::SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A second host behind the node's default route, which counts what it gets of VIPs and aliases.
fn outside(lab: &Lab) -> Namespace {
    let neighbour = lab.neighbour();
    lab.node.ip("route add default via 192.168.77.2");
    lab.node.sh("sysctl -qw net.ipv4.ip_forward=1");
    neighbour.sh("nft add table ip strays");
    neighbour.sh("nft add chain ip strays seen { type filter hook prerouting priority -500 ; }");
    for range in [VIP_RANGE, ALIAS_RANGE] {
        neighbour.sh(&format!("nft add rule ip strays seen ip saddr {range} counter"));
        neighbour.sh(&format!("nft add rule ip strays seen ip daddr {range} counter"));
    }
    neighbour
}

fn strays(neighbour: &Namespace) -> u64 {
    let table = neighbour.sh("nft list table ip strays");
    table.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
}

fn repairs(lab: &Lab) -> BTreeMap<String, u64> {
    lab.status().repairs
}

#[track_caller]
fn shell(node: &Namespace, script: &str) {
    let done = node.run(&["sh", "-c", script]);
    assert!(done.ok(), "{script}: {}", done.text());
}

/// Waits until `what` was repaired once more than `before`, and `whole` holds; how long that took.
fn repaired(lab: &Lab, act: &str, what: &str, before: u64, limit: Duration, whole: impl Fn() -> bool) -> Duration {
    let since = Instant::now();
    wait_until(&format!("{act}: {what} is repaired and counted"), limit, || {
        whole() && repairs(lab).get(what).copied().unwrap_or(0) > before
    });
    since.elapsed()
}

#[test]
fn what_is_removed_under_load_is_repaired_and_nothing_strays() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let neighbour = outside(&retail.lab);
    let daemons = WildcardServices::start(&retail.lab.node, &[80]);
    // Positive control: without us, the way out is open, and the counters see what takes it.
    let seen = strays(&neighbour);
    retail.lab.node.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"stray", "169.254.70.9:9").unwrap();
    });
    wait_until("the neighbour counts a stray", SETTLE, || strays(&neighbour) > seen);
    retail.lab.start_agent();
    let (lab, vip) = (&retail.lab, retail.orders());
    let (hits, gone) = (daemons.hits(), strays(&neighbour));
    let routes = || [ALIAS_RANGE, VIP_RANGE].iter().all(|range| lab.node.ip("route show table local").contains(range));
    let table = || lab.node.run(&["nft", "list", "chain", "inet", "brattice", "guard"]).stdout.contains("drop");
    let up = || lab.node.ip("-o link show brattice0").contains("UP");
    let whole = || routes() && table() && up();
    let acts: &[(&str, &str)] = &[
        ("ip route flush table local proto 187 dev brattice0", "alias-route"),
        ("ip route flush table local proto 187 dev lo", "vip-route"),
        ("ip link set brattice0 down", "brattice0"),
        ("ip link set brattice0 down; ip link set brattice0 up", "alias-route"),
        ("ip link set brattice1 down", "brattice0"),
        ("ip link delete brattice0", "brattice0"),
        ("nft flush ruleset", "nft"),
        ("nft flush table inet brattice", "nft"),
        ("nft delete table arp brattice", "nft"),
        ("ip route flush table local proto 187; nft flush ruleset", "nft"),
    ];
    while_calling(&retail.blue, vip, |answers| {
        for (act, what) in acts {
            let before = repairs(lab).get(*what).copied().unwrap_or(0);
            shell(&lab.node, act);
            let took = repaired(lab, act, what, before, BY_EVENT, whole);
            let answered = answers.load(Ordering::SeqCst);
            wait_until(&format!("{act}: calls are answered again"), BY_EVENT, || {
                answers.load(Ordering::SeqCst) > answered + 3
            });
            println!("{act}: repaired after {} ms", took.as_millis());
            // Both guards gone at once is the one case in which a packet may slip out.
            if !act.contains("ruleset") {
                assert_eq!(strays(&neighbour), gone, "{act}: something left by the default route");
            }
        }
    });
    assert_eq!(daemons.hits(), hits, "a daemon of the host was reached through a VIP");
}

#[test]
fn nothing_strays_for_as_long_as_a_route_is_missing() {
    use nix::sys::signal::{Signal, kill};

    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let neighbour = outside(&retail.lab);
    retail.lab.start_agent();
    let (lab, vip) = (&retail.lab, retail.orders());
    assert!(retail.blue.connect_within(vip, SETTLE).is_ok(), "positive control");
    // Frozen, so that the moment lasts.
    let agent = nix::unistd::Pid::from_raw(lab.status().pid.cast_signed());
    kill(agent, Signal::SIGSTOP).unwrap();
    let call = || (0..5).all(|_| retail.blue.connect_within(vip, Duration::from_millis(100)).is_err());
    let gone = strays(&neighbour);
    lab.node.ip("route flush table local proto 187 dev brattice0");
    assert!(call(), "without the alias route");
    lab.node.ip("route flush table local proto 187");
    assert!(call(), "without both");
    let strayed = strays(&neighbour) - gone;
    // Without the table it is the default route that takes them: the control.
    lab.node.sh("nft delete table inet brattice");
    let unguarded = call() && strays(&neighbour) > gone + strayed;
    kill(agent, Signal::SIGCONT).unwrap();
    assert_eq!(strayed, 0, "something left by the default route");
    assert!(unguarded, "the control");
    wait_until("it is served again", SETTLE, || retail.blue.connect_within(vip, PATIENCE).is_ok());
}

#[test]
fn removed_pins_are_put_back_and_a_restart_adopts_them_under_load() {
    let mut retail = Retail::start();
    let vip = retail.orders();
    let pins = retail.lab.bpffs().join(format!("v{}", brattice_abi::SCHEMA_VERSION));
    let programs = |lab: &Lab| {
        let mut all: Vec<_> =
            lab.status().programs.into_iter().map(|p| (p.program, p.attached_to, p.program_id, p.link_id)).collect();
        all.sort();
        all
    };
    let before = programs(&retail.lab);
    let list = || fs::read_dir(pins.join("links")).map_or(0, Iterator::count);
    let links = list();
    assert!(links > 2);
    let blue = retail.blue.clone();
    while_calling(&blue, vip, |answers| {
        for act in ["rm links/vip_listener", "rm links/*", "rm -r maps programs links", "rm -r ../v5"] {
            let counted = repairs(&retail.lab).get("pins").copied().unwrap_or(0);
            shell(&retail.lab.node, &format!("cd {} && {act}", pins.display()));
            let took = repaired(&retail.lab, act, "pins", counted, BY_EVENT, || {
                list() == links && Path::new(&pins).join("maps/WORKLOADS").exists()
            });
            println!("{act}: repaired after {} ms", took.as_millis());
        }
        let answered = answers.load(Ordering::SeqCst);
        retail.lab.agent().kill();
        wait_until("calls are answered without an agent", SETTLE, || answers.load(Ordering::SeqCst) > answered + 20);
        retail.lab.start_agent();
    });
    assert_eq!(programs(&retail.lab), before, "the same programs and links");
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn another_file_system_over_the_pins_is_noticed_and_taken_back() {
    struct Over(String);
    impl Drop for Over {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").args(["-l", &self.0]).status();
        }
    }
    let retail = Retail::start();
    let (lab, vip) = (&retail.lab, retail.orders());
    let place = lab.bpffs().display().to_string();
    let pinned = || Path::new(&place).join(format!("v{}/links/vip_listener", brattice_abi::SCHEMA_VERSION)).exists();
    while_calling(&retail.blue, vip, |_| {
        let before = repairs(lab).get("pins").copied().unwrap_or(0);
        lab.node.sh(&format!("mount -t bpf none {place}"));
        let over = Over(place.clone());
        let took = repaired(lab, "mount", "pins", before, BY_EVENT, pinned);
        println!("mount over the pins: pinned again after {} ms", took.as_millis());
        drop(over);
        // What was beneath is still pinned there.
        wait_until("the pins from before show", BY_EVENT, pinned);
        lab.node.sh(&format!("mount -t tmpfs none {place}"));
        let over = Over(place.clone());
        let problem = || lab.status().problems.iter().any(|problem| problem.contains("BPF file system"));
        wait_until("status tells", BY_EVENT, problem);
        assert!(fs::read_dir(&place).unwrap().next().is_none(), "nothing is written where nothing can be pinned");
        assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
        drop(over);
        wait_until("status tells no more", BY_LOOKING, || !problem());
    });
}

#[test]
fn programs_that_others_detach_are_attached_again() {
    let retail = Retail::start();
    let (lab, vip) = (&retail.lab, retail.orders());
    // New addresses of IPv6 become usable a second or two later; that is told, and would make the agent look.
    let all =
        [&lab.node, &retail.blue.namespace, &retail.green.namespace, &retail.green2.namespace, &retail.red.namespace];
    wait_until("no address is tentative any more", SETTLE, || {
        all.iter().all(|namespace| namespace.sh("ip -6 -o address show tentative").is_empty())
    });
    while_calling(&retail.blue, vip, |answers| {
        for (program, place) in
            [("workload_ingress", "blue1"), ("workload_egress", "brattice0"), ("vip_listener", "network namespace")]
        {
            let link = || lab.status().programs.into_iter().find(|p| p.program == program && p.attached_to == place);
            let before = repairs(lab).get(program).copied().unwrap_or(0);
            let id = link().unwrap().link_id;
            lab.node.sh(&format!("bpftool link detach id {id}"));
            let took = repaired(lab, "bpftool link detach", program, before, BY_LOOKING, || {
                link().is_some_and(|link| link.link_id != id)
            });
            println!("{program}: attached again after {} ms", took.as_millis());
            let answered = answers.load(Ordering::SeqCst);
            wait_until(&format!("{program}: calls are answered again"), BY_EVENT, || {
                answers.load(Ordering::SeqCst) > answered + 3
            });
        }
    });
}

#[test]
fn a_workload_whose_program_was_detached_is_refused_until_it_is_back() {
    let retail = Retail::start();
    let (lab, vip) = (&retail.lab, retail.orders());
    let id = lab.status().programs.iter().find(|p| p.attached_to == "blue1").unwrap().link_id;
    let served = retail.v1.counters.requests();
    // Frozen, so that the moment lasts.
    let agent = nix::unistd::Pid::from_raw(lab.status().pid.cast_signed());
    assert!(retail.blue.connect(vip).is_ok(), "positive control");
    nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGSTOP).unwrap();
    lab.node.sh(&format!("bpftool link detach id {id}"));
    let answer = retail.blue.connect_within(vip, Duration::from_millis(500));
    nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert!(
        answer.is_err(),
        "the virtual link address is nobody's without the program, and its real address nobody at a VIP"
    );
    assert_eq!(retail.v1.counters.requests(), served);
    wait_until("it is served again", SETTLE, || retail.blue.connect_within(vip, PATIENCE).is_ok());
}

#[test]
fn renamed_moved_and_remade_interfaces_are_followed() {
    let retail = Retail::start();
    let (lab, vip) = (&retail.lab, retail.orders());
    let alias = lab.alias("blue1", retail.blue.address);
    let mut open = retail.blue.http(vip).unwrap();
    open.nonce("n").unwrap();
    // A name that its VPC selects: the same workload, and its connections stay.
    lab.node.ip("link set blue1 down");
    lab.node.ip("link set blue1 name blue7");
    lab.node.ip("link set blue7 up");
    lab.node.ip(&format!("route replace {}/32 dev blue7", retail.blue.address));
    assert_eq!(lab.alias("blue7", retail.blue.address), alias);
    assert_eq!(open.nonce("n").unwrap().server(), "v1", "the connection outlived the name");
    // A name that no document selects: released at once.
    lab.node.ip("link set blue7 down");
    lab.node.ip("link set blue7 name other7");
    lab.node.ip("link set other7 up");
    let attached =
        |name: &str| lab.status().programs.iter().any(|p| p.program == "workload_ingress" && p.attached_to == name);
    wait_until("other7 is let go", BY_EVENT, || !attached("other7") && !attached("blue7"));
    assert!(retail.blue.connect_within(vip, PATIENCE).is_err());
    // Away into another namespace and back: a new workload with another alias, not the one of before.
    let index = lab.ifindex("other7");
    let elsewhere = Namespace::create(&format!("{}-elsewhere", lab.id));
    lab.node.ip(&format!("link set other7 netns {}", elsewhere.name));
    elsewhere.ip("link set other7 up");
    assert!(!elsewhere.sh("bpftool net show").contains("workload_in"), "nothing of ours is left on it");
    elsewhere.ip("link set other7 name blue1");
    elsewhere.ip(&format!("link set blue1 netns {}", lab.node.name));
    lab.node.ip("link set blue1 up");
    let back = lab.alias("blue1", retail.blue.address);
    assert_ne!(back, alias);
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
    // Gone, and another of the same name and index in its place, all within one notice.
    shell(
        &lab.node,
        &format!(
            "ip link delete blue1; ip link add blue1 index {index} type veth peer name eth0 netns {}; ip link set blue1 up",
            retail.blue.namespace.name
        ),
    );
    retail.blue.namespace.ip("addr add 10.0.0.10/16 dev eth0");
    retail.blue.namespace.ip("link set eth0 up");
    retail.blue.namespace.ip(&format!("route add {VIP_RANGE} dev eth0"));
    wait_until("the new one is served", SETTLE, || {
        retail.blue.http(vip).and_then(|mut open| open.nonce("n")).is_ok_and(|answer| answer.server() == "v1")
    });
    assert_ne!(lab.alias("blue1", retail.blue.address), back);
}

#[test]
fn what_changed_while_no_agent_ran_is_followed_by_the_next() {
    let mut retail = Retail::start();
    let vip = retail.orders();
    let blue = retail.lab.alias("blue1", retail.blue.address);
    let green = retail.lab.alias("green1", retail.green.address);
    let index = retail.lab.ifindex("blue1");
    retail.lab.agent().kill();
    // Another interface under the same index and name; routes, a table and a pin gone.
    shell(
        &retail.lab.node,
        &format!(
            "ip link delete blue1; ip link add blue1 index {index} type veth peer name eth0 netns {}; ip link set blue1 up; \
         ip route flush table local proto 187 dev brattice0; nft delete table inet brattice; rm {}/v5/links/workload_egress",
            retail.blue.namespace.name,
            retail.lab.bpffs().display()
        ),
    );
    retail.blue.namespace.ip("addr add 10.0.0.10/16 dev eth0");
    retail.blue.namespace.ip("link set eth0 up");
    retail.blue.namespace.ip(&format!("route add {VIP_RANGE} dev eth0"));
    assert!(retail.blue.connect_within(vip, PATIENCE).is_err(), "nobody knows it yet");
    retail.lab.start_agent();
    assert_ne!(retail.lab.alias("blue1", retail.blue.address), blue, "it is another interface");
    assert_eq!(retail.lab.alias("green1", retail.green.address), green, "and this one is the same");
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}
