//! Agents, workloads and addresses of IPv6 that come and go.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use brattice_tests::{
    client::{Connection, HOST},
    lab::{Lab, SETTLE, Wiring, Workload, wait_until},
    server::Server,
};
use socket2::{Domain, Socket, Type};

use super::{SERVICES, Six, open};

/// By the event, not by the next look.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn the_next_agent_keeps_connections_and_aliases() {
    let mut six = Six::start();
    let vip = six.lab.vip6("shop/orders", 80);
    let aliases = |six: &Six| {
        [("blue1", six.blue.address), ("green1", six.green.address), ("dual1", "fd10::10".parse().unwrap())]
            .map(|(interface, address)| six.lab.alias(interface, address))
    };
    let routes = |six: &Six| six.lab.node.ip("-6 route show table all proto 187");
    let (before, routed, engine) = (aliases(&six), routes(&six), six.lab.engine_pid());
    let mut kept = [open(&six.blue, vip, HOST), open(&six.dual, vip, HOST)];
    for (number, connection) in kept.iter_mut().enumerate() {
        connection.nonce(&format!("before-{number}")).unwrap();
    }
    for killed in [false, true] {
        if killed {
            six.lab.agent().kill();
        } else {
            assert_eq!(six.lab.agent().stop(), 0);
        }
        for connection in &mut kept {
            connection.nonce("without").unwrap();
        }
        assert_eq!(open(&six.blue, vip, HOST).nonce("new").unwrap().server(), "orders", "without an agent");
        six.lab.start_agent();
        for connection in &mut kept {
            connection.nonce("after").unwrap();
        }
        assert_eq!(open(&six.dual, vip, HOST).nonce("new").unwrap().server(), "orders", "with the next one");
        assert_eq!((aliases(&six), routes(&six)), (before, routed.clone()));
        assert_eq!(six.lab.engine_pid(), engine, "the same engine");
    }
    // What went while no agent looked.
    six.lab.agent().kill();
    six.dual.namespace.ip("addr del fd10::10/64 dev eth0");
    six.lab.start_agent();
    let [.., gone] = before;
    wait_until("its alias is nobody's", SETTLE, || !holds(&six.lab, "dual1", gone));
    wait_until("its connection is closed", SETTLE, || connections_of(&six.lab, gone) == 0);
    kept[0].nonce("still").unwrap();
}

/// Whether the workload is attached with this alias.
fn holds(lab: &Lab, interface: &str, alias: IpAddr) -> bool {
    lab.workloads().iter().any(|workload| {
        workload.interface == interface
            && workload.state == "attached"
            && workload.addresses.values().any(|own| *own == alias.to_string())
    })
}

/// Open connections of the node with an alias, from either side.
fn connections_of(lab: &Lab, alias: IpAddr) -> usize {
    lab.node.sh(&format!("ss -Htn state established dst [{alias}]")).lines().count()
}

/// A connection from one of a workload's addresses.
fn open_from(workload: &Workload, address: &str, vip: SocketAddr) -> Connection {
    let from: SocketAddr = SocketAddr::new(address.parse().unwrap(), 0);
    let stream: TcpStream = workload.namespace.enter(|| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect_timeout(&vip.into(), Duration::from_secs(5)).unwrap();
        socket.into()
    });
    Connection::new(stream).with_host(HOST)
}

/// An address that one workload gives up and another takes, as caller and as target.
#[test]
fn an_address_that_changes_hands_takes_no_connection_and_no_alias_along() {
    const ADDRESS: &str = "fd10::20";
    let mut six = Six::prepare();
    let heir = six.lab.workload("dual2", "fd10::12", Wiring::Routed);
    let servers = [(&six.dual, "first"), (&heir, "heir")].map(|(who, name)| Server::start(&who.namespace, name, 8080));
    six.dual.namespace.ip(&format!("addr add {ADDRESS}/64 dev eth0 nodad"));
    let moving = SERVICES.replace("platform/green", "platform/dual").replace("\"fd10::10\"", &format!("\"{ADDRESS}\""));
    six.lab.write("accounts/shop/services.yaml", &moving);
    six.lab.start_agent();
    let address: IpAddr = ADDRESS.parse().unwrap();
    let (vip, own) = (six.lab.vip6("shop/orders", 80), six.lab.alias("dual1", "fd10::10".parse::<IpAddr>().unwrap()));
    let mut held = Vec::new();
    // There, and back again.
    for (round, (holder, next)) in [(&six.dual, &heir), (&heir, &six.dual)].into_iter().enumerate() {
        let alias = six.lab.alias(&holder.interface, address);
        assert!(!held.contains(&alias), "round {round}: {alias} was given before: {held:?}");
        held.push(alias);
        let mut called = open(&six.blue, vip, HOST);
        assert_eq!(called.nonce("before").unwrap().server(), servers[round].name);
        let mut calls = open_from(holder, ADDRESS, vip);
        calls.nonce("before").unwrap();
        // That of the caller, and the engine's to the target.
        assert!(connections_of(&six.lab, alias) >= 2, "round {round}");
        holder.namespace.ip(&format!("addr del {ADDRESS}/64 dev eth0"));
        wait_until("the alias is lost", AT_ONCE, || !holds(&six.lab, &holder.interface, alias));
        wait_until("its connections are closed", AT_ONCE, || connections_of(&six.lab, alias) == 0);
        next.namespace.ip(&format!("addr add {ADDRESS}/64 dev eth0 nodad"));
        let fresh = six.lab.alias(&next.interface, address);
        assert!(!held.contains(&fresh), "round {round}: {fresh} was given before: {held:?}");
        let resting = six.lab.workloads().into_iter().any(|view| {
            view.state == "quarantined"
                && view.addresses.get(ADDRESS).is_some_and(|resting| *resting == alias.to_string())
        });
        assert!(resting, "round {round}: {:?}", six.lab.workloads());
        // A client that has called the service all the time is served by the workload that has the address now.
        wait_until("the engine knows", SETTLE, || {
            open(&six.blue, vip, HOST).nonce("asks").is_ok_and(|answer| answer.server() == servers[1 - round].name)
        });
        for number in 0..20 {
            let nonce = format!("after-{number}");
            assert_eq!(called.nonce(&nonce).unwrap().server(), servers[1 - round].name, "round {round}");
        }
        open_from(next, ADDRESS, vip).nonce("its own").unwrap();
        assert_eq!(six.lab.alias("dual1", "fd10::10".parse::<IpAddr>().unwrap()), own, "the other address stays");
    }
}

/// Packets that a counter in a namespace has seen.
fn seen(workload: &Workload, table: &str) -> u64 {
    let text = workload.namespace.sh(&format!("nft list table {table}"));
    text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a counter")
}

/// Questions of a workload before it is attached are not answered. The answer is announced at attachment, so it need
/// not ask again, a second later.
#[test]
fn a_new_workload_is_told_what_it_asked_before_it_was_attached() {
    use nix::sys::signal::{Signal, kill};

    let six = Six::start();
    // Else the host answers for its own, which VIPs are, and refuses what comes before the workload is attached.
    six.lab.node.sh("sysctl -qw net.ipv4.conf.all.arp_ignore=1");
    let vips = [six.lab.vip("shop/prices", 80), six.lab.vip6("shop/orders", 80)];
    let agent = nix::unistd::Pid::from_raw(six.lab.status().pid.cast_signed());
    kill(agent, Signal::SIGSTOP).unwrap();
    let fresh = six.lab.workload("dual2", "10.0.0.77", Wiring::Bridged("brfresh"));
    six.lab.also(&fresh, "fd10::77", Wiring::Bridged("brfresh"));
    let count = |table: &str, hook: &str, rule: String| {
        fresh.namespace.sh(&format!("nft add table {table}"));
        fresh.namespace.sh(&format!("nft add chain {table} c {{ type filter hook {hook} priority 0 ; }}"));
        fresh.namespace.sh(&format!("nft add rule {table} c {rule} counter"));
    };
    let vip6 = match vips[1].ip() {
        IpAddr::V6(address) => address.to_bits(),
        IpAddr::V4(_) => panic!("{vips:?}"),
    };
    count("arp asked", "output", format!("arp operation request arp daddr ip {}", vips[0].ip()));
    count("arp told", "input", format!("arp operation reply arp saddr ip {}", vips[0].ip()));
    count("ip6 asked", "output", format!("icmpv6 type nd-neighbor-solicit @th,64,128 {vip6:#x}"));
    count("ip6 told", "input", format!("icmpv6 type nd-neighbor-advert @th,64,128 {vip6:#x}"));
    let counts = |what: &str| [seen(&fresh, &format!("arp {what}")), seen(&fresh, &format!("ip6 {what}"))];
    std::thread::scope(|scope| {
        let calls = vips.map(|vip| {
            let fresh = &fresh;
            scope.spawn(move || fresh.connect_within(vip, Duration::from_secs(20)))
        });
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("it has asked", SETTLE, || counts("asked").iter().all(|asked| *asked > 0));
            assert_eq!(counts("told"), [0, 0], "control: nobody answers");
        }));
        kill(agent, Signal::SIGCONT).unwrap();
        asked.unwrap();
        for call in calls {
            call.join().unwrap().unwrap();
        }
    });
    // Asked while there was no answer, and announced all the same: an answer for each question, however often it had to ask.
    wait_until("each question is answered", SETTLE, || counts("told") == counts("asked"));
}
