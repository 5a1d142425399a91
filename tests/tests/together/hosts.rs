//! Processes of the host itself: attested when they connect, by cgroup and user; callers and targets.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use brattice_tests::{
    lab::{
        ALIAS_RANGE, AgentOptions, Cgroup, DNS_VIP, Lab, NETWORK, NODE, Output, Retail, SETTLE, Wiring, cgroup_root,
        forward, service, wait_until,
    },
    server::Server,
};
use serde_json::Value;

/// The user of the service of the host.
const TILL: u32 = 4_033;
/// Another user.
const OTHER: u32 = 4_034;
/// Address of the service of the host in its VPC.
const ADDRESS: &str = "10.0.0.70";

/// Documents for `till` in a VPC: processes of a user in a cgroup.
fn till(vpc: &str, cgroup: &str) -> String {
    format!(
        "---\nkind: Workload\nmetadata: {{name: till}}\nspec: {{vpcIdentifier: platform/{vpc}, cgroup: {cgroup}, uid: {TILL}, addresses: [{ADDRESS}]}}\n"
    )
}

/// A node whose `till` is of VPC blue.
fn with_till() -> (Cgroup, Retail) {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let cgroup = Cgroup::create(&format!("{}-till.slice", retail.lab.id));
    retail.lab.write("node.yaml", &format!("{NODE}{}", till("blue", &cgroup.name)));
    retail.lab.start_agent_with(&AgentOptions::recording());
    wait_until("till is attached", SETTLE, || state(&retail.lab).0 == "attached");
    (cgroup, retail)
}

fn state(lab: &Lab) -> (String, String) {
    let till = lab.workloads().into_iter().find(|workload| workload.name == "till");
    till.map(|till| (till.state, till.reason.unwrap_or_default())).unwrap_or_default()
}

fn alias(lab: &Lab) -> Option<IpAddr> {
    let till = lab.workloads().into_iter().find(|workload| workload.name == "till")?;
    till.addresses.get(ADDRESS)?.parse().ok()
}

/// curl's words for a call of a service.
fn curl(to: SocketAddr) -> Vec<String> {
    ["curl", "-s", "--max-time", "3", "-o", "/dev/null", "-w", "%{http_code} %{errormsg}"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("http://{to}/")])
        .collect()
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// What a line of Python printed, by a user in a cgroup: `done`, or the error.
fn attempt((cgroup, uid): (&Cgroup, u32), lab: &Lab, line: &str) -> String {
    // The interpreter may lie where only root may read.
    let program = format!(
        "import os, socket as s, struct\n\
         os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})\n\
         def tcp(family=s.AF_INET): c = s.socket(family, s.SOCK_STREAM); c.settimeout(3); return c\n\
         def udp(family=s.AF_INET): c = s.socket(family, s.SOCK_DGRAM); c.settimeout(3); return c\n\
         question = b'\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x06orders\\x04shop\\x08internal\\0\\0\\x01\\0\\x01'\n\
         def answered(c): assert c.recv(512)[3] & 15 == 0, 'an answer with an error'\n\
         try:\n\
         \x20   {line}\n\
         \x20   print('done')\n\
         except OSError as e: print(e.strerror or e)\n"
    );
    let Output { stdout, stderr, .. } = cgroup.run(&lab.node, 0, &["python3", "-c", &program]);
    assert!(!stdout.is_empty(), "{line}: {stderr}");
    stdout.trim().to_owned()
}

/// packets.md host 60: connect or send to a VIP, by a process whose cgroup (or one above) and user a `Workload` names |
///   goes on, from its alias | –
/// packets.md host 70: … by another, or on a socket that was bound before: TCP | goes on, and is reset by
///   `vip_listener` | `UnattestedHost`
#[test]
fn a_process_of_the_host_calls_as_the_workload_of_its_cgroup_and_user() {
    let (cgroup, retail) = with_till();
    let (lab, vip) = (&retail.lab, retail.orders());
    let (outside, line) = (Cgroup::create(&format!("{}-else.slice", lab.id)), curl(vip));
    let within = Cgroup::create(&format!("{}/inner.service", cgroup.name));
    let refused = lab.drops("UnattestedHost");
    for (group, uid) in [(&outside, TILL), (&outside, 0), (&cgroup, OTHER), (&within, 0)] {
        let answer = group.run(&lab.node, uid, &words(&line));
        assert_eq!(answer.code, 7, "user {uid} in {}: {}", group.name, answer.text());
    }
    assert_eq!(lab.drops("UnattestedHost"), refused + 4);
    for group in [&cgroup, &within] {
        let answer = group.run(&lab.node, TILL, &words(&line));
        assert!(answer.ok() && answer.stdout.starts_with("200"), "{}: {}", group.name, answer.text());
    }
    assert_eq!(lab.drops("UnattestedHost"), refused + 4);
    let record = lab.records_at_least(2).pop().unwrap();
    assert_eq!(record["sourceWorkload"], "till", "{record}");
    assert!(record["sourceIpPort"].as_str().unwrap().starts_with(&format!("{ADDRESS}:")), "{record}");
    let message = lab.brattice(&["explain", "--from", "till", "--to", "shop/orders"]).stdout;
    assert!(message.contains(&format!("processes of the host, cgroup {}, user {TILL}", cgroup.name)), "{message}");
    let listed = lab.brattice(&["workloads", "--wide"]).stdout;
    assert!(listed.contains("(host)") && listed.contains(&cgroup.name), "{listed}");
    let explained = lab.brattice(&["explain", "--from", "till", "--to", "shop/orders", "--output", "json"]);
    let explained: Value = serde_json::from_str(&explained.stdout).unwrap();
    assert!(explained.to_string().contains("\"evidence\":[\"cgroup\",\"uid\"]"), "{explained}");
    let footprint = lab.status().footprint.join("\n");
    assert!(footprint.contains(&format!("address {}/32", alias(lab).unwrap())), "{footprint}");
}

/// packets.md host 70
/// packets.md host 80: … UDP | refused | `UnattestedHost`
/// packets.md host 90: connect to a host process' alias; bind to any alias, not by the engine | refused | `NotEngine`;
///   `HostBind`
#[test]
fn an_alias_is_not_obtained_by_other_means() {
    let (cgroup, retail) = with_till();
    let (lab, vip) = (&retail.lab, retail.orders());
    let (alias, port) = (alias(lab).unwrap(), vip.port());
    let vip = vip.ip();
    let outside = Cgroup::create(&format!("{}-else.slice", lab.id));
    let honest = |line: &str| attempt((&cgroup, TILL), lab, line);
    let other = |line: &str| attempt((&outside, OTHER), lab, line);
    let counts = || (lab.drops("UnattestedHost"), lab.drops("HostBind"), lab.drops("NotEngine"));
    let before = counts();
    // What the honest one does, and the same by another.
    let mapped = format!("tcp(s.AF_INET6).connect(('::ffff:{vip}', {port}))");
    assert_eq!(honest(&mapped), "done");
    assert_eq!(other(&mapped), "Connection refused");
    let sent = format!("c = udp(); c.sendto(question, ('{DNS_VIP}', 53)); answered(c)");
    assert_eq!(honest(&sent), "done");
    assert_eq!(other(&sent), "Operation not permitted");
    let connected = format!("c = udp(); c.connect(('{DNS_VIP}', 53)); c.send(question); answered(c)");
    assert_eq!(honest(&connected), "done");
    assert_eq!(other(&connected), "Operation not permitted");
    assert_eq!(counts(), (before.0 + 3, before.1, before.2));
    // A source of its own choice: in a datagram's control message, bound, bound to a device.
    let named = format!(
        "c = udp(); c.sendmsg([question], [(s.IPPROTO_IP, 8, struct.pack('i', 0) + s.inet_aton('{alias}') + s.inet_aton('0.0.0.0'))], 0, ('{DNS_VIP}', 53)); answered(c)"
    );
    assert_eq!(honest(&named), "done");
    assert_eq!(other(&named), "Operation not permitted");
    let bound = format!("c = tcp(); c.bind(('{alias}', 0)); c.connect(('{vip}', {port}))");
    assert_eq!(other(&bound), "Operation not permitted");
    assert_eq!(honest(&bound), "Operation not permitted");
    let mapped = format!("c = tcp(s.AF_INET6); c.bind(('::ffff:{alias}', 0)); c.connect(('::ffff:{vip}', {port}))");
    assert_eq!(other(&mapped), "Operation not permitted");
    assert_eq!(other("tcp().bind(('127.0.0.1', 0))"), "done");
    let device =
        |name: &str| format!("c = tcp(); c.setsockopt(s.SOL_SOCKET, 25, b'{name}'); c.connect(('{vip}', {port}))");
    assert_eq!(other(&device("lo")), "Connection refused");
    assert_ne!(other(&device("brattice0")), "done");
    assert_eq!(counts().1, before.1 + 3);
    // A socket that had an address already belongs to no workload.
    let early = format!("c = tcp(); c.bind(('0.0.0.0', 0)); c.connect(('{vip}', {port}))");
    let refused = lab.drops("UnattestedHost");
    assert_eq!(honest(&early), "Connection refused");
    assert_eq!(lab.drops("UnattestedHost"), refused + 1);
    // Its alias is no way in.
    let listening = Server::start(&lab.node, "host", 8_070);
    assert_eq!(other(&format!("tcp().connect(('127.0.0.1', {}))", listening.port)), "done");
    assert_eq!(other(&format!("tcp().connect(('{alias}', {}))", listening.port)), "Operation not permitted");
    assert_eq!(lab.drops("NotEngine"), before.2 + 1);
}

/// packets.md host 100: connect by the engine to a host process that is detached | refused | `Detached`
#[test]
fn a_process_of_the_host_is_a_target_and_is_reached_by_the_engine_alone() {
    let mut retail = Retail::prepare(&service(&forward(0, 1)).replace("10.0.0.11", ADDRESS));
    let cgroup = Cgroup::create(&format!("{}-till.slice", retail.lab.id));
    retail.lab.write("node.yaml", &format!("{NODE}{}", till("green", &cgroup.name)));
    retail.lab.start_agent();
    let (lab, host) = (&retail.lab, Server::start(&retail.lab.node, "host", 8_080));
    wait_until("till is attached", SETTLE, || state(lab).0 == "attached");
    let vip = retail.orders();
    wait_until("the target is reached", SETTLE, || {
        retail.blue.http(vip).is_ok_and(|mut call| call.nonce("a").is_ok_and(|answer| answer.server() == "host"))
    });
    // Others on the way: another host, a workload, each beside what it may reach.
    let alias = alias(lab).unwrap();
    let neighbour = lab.neighbour();
    neighbour.ip(&format!("route add {ALIAS_RANGE} via 192.168.77.1"));
    let reach = |from: &brattice_tests::lab::Namespace, to: &str| {
        let line = format!("curl -s --max-time 1 -o /dev/null -w %{{http_code}} http://{to}:{}/", host.port);
        from.run(&line.split(' ').collect::<Vec<_>>()).stdout
    };
    assert_eq!(reach(&neighbour, "192.168.77.1"), "200");
    assert_eq!(reach(&neighbour, &alias.to_string()), "000");
    let counted = lab.drops("ToAlias");
    retail.blue.namespace.ip(&format!("route add {alias} via 10.0.0.1 dev eth0 onlink"));
    assert_eq!(reach(&retail.blue.namespace, "10.0.0.1"), "200");
    assert_eq!(reach(&retail.blue.namespace, &alias.to_string()), "000");
    assert!(lab.drops("ToAlias") > counted);
    // Detached, it is not called, and cannot call.
    let before = lab.drops("Detached");
    let to = format!("http://{vip}/");
    let called = || retail.blue.curl(&["-s", "--max-time", "3", "-o", "/dev/null", "-w", "%{http_code}", &to]).stdout;
    assert_eq!(called(), "200");
    assert!(lab.brattice(&["detach", "--workload", "till"]).ok());
    assert_ne!(called(), "200");
    let line = curl(vip);
    assert_eq!(cgroup.run(&lab.node, TILL, &words(&line)).code, 7);
    assert!(lab.drops("Detached") >= before + 2);
    assert!(lab.brattice(&["detach", "--workload", "till", "--off"]).ok());
    wait_until("it is called again", SETTLE, || called() == "200");
    assert!(cgroup.run(&lab.node, TILL, &words(&line)).stdout.starts_with("200"));
}

#[test]
fn a_service_that_ends_is_let_go_and_one_that_starts_is_taken_up() {
    let (cgroup, mut retail) = with_till();
    let vip = retail.orders();
    let line = curl(vip);
    // A connection that the restart of the agent does not touch.
    let program = format!(
        "import os, socket as s\n\
         os.setresuid({TILL}, {TILL}, {TILL})\n\
         c = s.socket(); c.connect(('{}', {}))\n\
         while True:\n\
         \x20   c.sendall(b'GET / HTTP/1.1\\r\\nHost: orders.shop.internal\\r\\n\\r\\n')\n\
         \x20   print(c.getsockname()[0], c.recv(65536)[9:12].decode() or 'closed', flush=True)\n\
         \x20   input()\n",
        vip.ip(),
        vip.port()
    );
    let mut caller = cgroup
        .command(&retail.lab.node, 0, "python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(caller.stdout.take().unwrap()).lines();
    let mut ask = caller.stdin.take().unwrap();
    let first = alias(&retail.lab).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), format!("{first} 200"));
    retail.lab.agent().stop();
    assert!(cgroup.run(&retail.lab.node, TILL, &words(&line)).stdout.starts_with("200"), "without an agent");
    retail.lab.start_agent_with(&AgentOptions::recording());
    wait_until("till is attached", SETTLE, || state(&retail.lab).0 == "attached");
    assert_eq!(alias(&retail.lab), Some(first));
    std::io::Write::write_all(&mut ask, b"\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), format!("{first} 200"));
    // Another process removes the address: it is put back.
    let lab = &retail.lab;
    lab.node.ip(&format!("addr del {first}/32 dev brattice0"));
    wait_until("the address is back", SETTLE, || lab.node.ip("addr show dev brattice0").contains(&first.to_string()));
    assert!(cgroup.run(&lab.node, TILL, &words(&line)).stdout.starts_with("200"));
    // The service ends; what it held is closed, and another of its name is known by the event.
    let _ = caller.kill();
    let _ = caller.wait();
    let name = cgroup.name.clone();
    drop(cgroup);
    wait_until("it is let go", Duration::from_secs(3), || state(lab).1.contains("NoCgroup"));
    wait_until("its alias is no address of the host", SETTLE, || {
        !lab.node.ip("addr show dev brattice0").contains(&first.to_string())
    });
    let again = Cgroup::create(&name);
    wait_until("it is attached again", Duration::from_secs(3), || state(lab).0 == "attached");
    assert_ne!(alias(lab).unwrap(), first, "the alias rests");
    assert!(again.run(&lab.node, TILL, &words(&line)).stdout.starts_with("200"));
    assert!(fs::metadata(cgroup_root().join(&name)).is_ok());
}

/// Both families in one VPC, and a service whose target is a process of the host by its IPv6 address.
///
/// packets.md host 60
#[test]
fn processes_of_the_host_call_and_are_called_over_ipv6() {
    const ADDRESS6: &str = "fd10::70";
    let mut lab = Lab::new();
    let blue = lab.workload("blue1", "fd10::10", Wiring::Routed);
    let cgroup = Cgroup::create(&format!("{}-till.slice", lab.id));
    let node = NODE.replace("cidrBlocks: [10.0.0.0/16]", "cidrBlocks: [10.0.0.0/16, \"fd10::/64\"]");
    let document = till("green", &cgroup.name).replace(ADDRESS, &format!("{ADDRESS}, \"{ADDRESS6}\""));
    lab.write("node.yaml", &format!("{node}{document}"));
    lab.write("accounts/platform/network.yaml", NETWORK);
    lab.write("accounts/shop/orders.yaml", &service(&forward(1, 0)).replace("10.0.0.10", &format!("\"{ADDRESS6}\"")));
    lab.start_agent_with(&AgentOptions::recording());
    let host = Server::start(&lab.node, "host", 8_080);
    wait_until("till is attached", SETTLE, || state(&lab).0 == "attached");
    let (vip, vip6) = (lab.vip("shop/orders", 80), lab.vip6("shop/orders", 80));
    wait_until("the target is reached", SETTLE, || {
        blue.http(vip6).is_ok_and(|mut call| call.nonce("a").is_ok_and(|answer| answer.server() == host.name))
    });
    let outside = Cgroup::create(&format!("{}-else.slice", lab.id));
    for to in [vip, vip6] {
        let line = curl(to);
        let answer = cgroup.run(&lab.node, TILL, &words(&line));
        assert!(answer.stdout.starts_with("200"), "{to}: {}", answer.text());
        assert_eq!(outside.run(&lab.node, TILL, &words(&line)).code, 7, "{to}");
    }
    let record = lab.records_at_least(3).pop().unwrap();
    assert_eq!(record["sourceWorkload"], "till", "{record}");
    let dns6 = brattice_tests::lab::DNS_VIP6;
    let sent = format!("c = udp(s.AF_INET6); c.sendto(question, ('{dns6}', 53)); answered(c)");
    assert_eq!(attempt((&cgroup, TILL), &lab, &sent), "done");
    assert_eq!(attempt((&outside, TILL), &lab, &sent), "Operation not permitted");
}
