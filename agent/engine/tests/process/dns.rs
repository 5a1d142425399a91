//! The DNS server through the whole process. Loopback addresses stand for the DNS VIP, aliases and resolvers.

mod forwarding;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use brattice_wire::{
    auth::AuthType,
    engine::{FromEngine, Limits, Settings, Stats, ToEngine},
    index::{ServiceIndex, VpcIndex},
    snapshot::{AliasGeneration, Dns, Origin, Service, Snapshot, Vpc, Workload, WorkloadNumber},
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinHandle,
};

use crate::{
    Test,
    agent::{Agent, Engine, Kit, PATIENCE, block_on, settings},
};

use forwarding::{Resolver, good, silent};

pub(crate) const TESTS: &[Test] = &[
    ("dns::names_are_those_of_the_asking_vpc", names_are_those_of_the_asking_vpc),
    ("dns::dig_understands_us", dig_understands_us),
    ("dns::other_names_go_to_the_vpcs_resolvers", forwarding::other_names_go_to_the_vpcs_resolvers),
    ("dns::answers_into_our_ranges_are_removed", forwarding::answers_into_our_ranges_are_removed),
    ("dns::forged_answers_are_ignored", forwarding::forged_answers_are_ignored),
    ("dns::the_next_resolver_is_asked", forwarding::the_next_resolver_is_asked),
    ("dns::long_answers_go_over_tcp", forwarding::long_answers_go_over_tcp),
    ("dns::without_resolvers_other_names_do_not_exist", forwarding::without_resolvers_other_names_do_not_exist),
    ("dns::a_dead_resolver_costs_the_first_question_alone", forwarding::a_dead_resolver_costs_the_first_question_alone),
    ("dns::late_answers_are_taken", forwarding::late_answers_are_taken),
    ("dns::questions_have_few_sockets", forwarding::questions_have_few_sockets),
    ("dns::lost_questions_are_asked_again", forwarding::lost_questions_are_asked_again),
    ("dns::questions_in_flight_are_bounded", questions_in_flight_are_bounded),
    ("dns::connections_carry_many_questions_and_may_not_idle", connections_carry_many_questions_and_may_not_idle),
    ("dns::a_closed_alias_gets_no_answer", a_closed_alias_gets_no_answer),
    ("dns::junk_is_refused_or_dropped", junk_is_refused_or_dropped),
];

/// Sees the service.
const BLUE: &str = "127.88.0.1";
/// Sees nothing.
const RED: &str = "127.88.0.2";
/// No alias.
const STRANGER: &str = "127.88.0.3";
/// A workload that is a resolver.
const RESOLVER: &str = "127.88.0.9";
const VIP: Ipv4Addr = Ipv4Addr::new(169, 254, 64, 32);
const GENERATED: &str = "orders-svc-0123456789abcdefg.svc.brattice.internal";

fn snapshot(upstreams: &[SocketAddr]) -> Snapshot {
    let vpc = |name: &str, services: &[usize]| Vpc {
        name: name.into(),
        id: format!("vpc-{name}"),
        arn: String::new(),
        services: services.iter().copied().map(ServiceIndex::new).collect(),
        account: String::new(),
        networks: Vec::new(),
        dns_upstreams: upstreams.to_vec(),
        families: (true, false),
    };
    let workload = |alias: &str, vpc, number| Workload {
        alias: alias.parse().unwrap(),
        address: "10.0.0.10".parse().unwrap(),
        vpc: VpcIndex::new(vpc),
        name: format!("w{number}"),
        number: WorkloadNumber::new(number),
        generation: AliasGeneration::new(1),
        attested: String::new(),
        evidence: Vec::new(),
        role: None,
        session: String::new(),
    };
    Snapshot {
        revision: 1,
        vpcs: vec![vpc("blue", &[0]), vpc("red", &[])],
        workloads: vec![workload(BLUE, 0, 1), workload(RED, 1, 2), workload(RESOLVER, 0, 3)],
        services: vec![Service {
            name: "shop/orders".into(),
            id: "svc-0123456789abcdefg".into(),
            arn: String::new(),
            number: brattice_wire::snapshot::ServiceNumber::new(1),
            vip: VIP.into(),
            vip6: None,
            generated_name: GENERATED.into(),
            domains: vec!["orders.shop.internal".into()],
            listeners: Vec::new(),
            account: String::new(),
            tags: Vec::new(),
            auth_type: AuthType::None,
            policy: None,
            networks: Vec::new(),
            idle_timeout_ms: 60_000,
            origin: Origin::default(),
        }],
        dns: Dns {
            suffix: "brattice.internal".into(),
            ttl_seconds: 20,
            own_ranges: vec![(Ipv4Addr::new(169, 254, 64, 0).into(), 20), (Ipv4Addr::new(100, 127, 0, 0).into(), 16)],
        },
        ..Snapshot::default()
    }
}

fn question(id: u16, name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn socket(alias: &str) -> UdpSocket {
    UdpSocket::bind((alias.parse::<IpAddr>().unwrap(), 0)).await.unwrap()
}

async fn receive(socket: &UdpSocket) -> Option<Message> {
    let mut buffer = [0; 4096];
    let (length, _) = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await.ok()?.unwrap();
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

async fn ask_message(alias: &str, kit: &Kit, message: &Message) -> Message {
    let socket = socket(alias).await;
    socket.send_to(&message.to_vec().unwrap(), kit.dns_udp.local_addr().unwrap()).await.unwrap();
    let answer = receive(&socket).await.expect("no answer");
    assert_eq!((answer.metadata.id, &answer.queries), (message.metadata.id, &message.queries));
    assert!(answer.metadata.message_type == MessageType::Response && answer.metadata.recursion_available);
    answer
}

async fn ask(alias: &str, kit: &Kit, name: &str, kind: RecordType) -> Message {
    ask_message(alias, kit, &question(4711, name, kind)).await
}

async fn connect(alias: &str, kit: &Kit) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{alias}:0").parse().unwrap()).unwrap();
    socket.connect(kit.dns_tcp.local_addr().unwrap()).await.unwrap()
}

fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().unwrap();
    let mut frame = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(bytes);
    frame
}

async fn read(stream: &mut TcpStream) -> Message {
    let read = async {
        let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut bytes).await.unwrap();
        Message::from_vec(&bytes).unwrap()
    };
    tokio::time::timeout(PATIENCE, read).await.expect("no answer")
}

async fn stats(agent: &Agent) -> Stats {
    agent.send(&ToEngine::Stats).await;
    match agent.answer().await {
        FromEngine::Stats(stats) => stats,
        other => panic!("{other:?}"),
    }
}

fn record(name: &str, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(name).unwrap(), 300, data)
}

fn a(octets: [u8; 4]) -> RData {
    RData::A(A(octets.into()))
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

fn names_are_those_of_the_asking_vpc() {
    block_on(async {
        let upstream = Resolver::start("127.66.0.1", good).await;
        let kit = Kit::new();
        let (_engine, agent) = Engine::serving(&kit, snapshot(&[upstream.address])).await;
        for name in [&format!("{GENERATED}."), "orders.shop.internal.", "ORDERS.shop.INTERNAL."] {
            let answer = ask(BLUE, &kit, name, RecordType::A).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
            assert_eq!(addresses(&answer), [IpAddr::from(VIP)]);
            assert!(answer.metadata.authoritative && answer.answers[0].ttl == 20);
            // No IPv6: the name exists, and how long that may be believed.
            let answer = ask(BLUE, &kit, name, RecordType::AAAA).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert!(answer.answers.is_empty());
            assert!(matches!(&answer.authorities[..], [soa] if soa.ttl <= 30 && matches!(soa.data, RData::SOA(_))));
            // Another VPC: as if there were no such name, although its resolver would say something.
            let hidden = ask(RED, &kit, name, RecordType::A).await;
            assert_eq!(hidden.metadata.response_code, ResponseCode::NXDomain, "{name}");
            assert!(hidden.answers.is_empty() && matches!(hidden.authorities[0].data, RData::SOA(_)));
        }
        let unknown = ask(BLUE, &kit, "nobody.svc.brattice.internal.", RecordType::A).await;
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        for name in ["svc.brattice.internal.", "brattice.internal."] {
            let between = ask(BLUE, &kit, name, RecordType::A).await;
            assert_eq!(between.metadata.response_code, ResponseCode::NoError, "{name}");
            assert!(between.answers.is_empty());
        }
        let soa = ask(BLUE, &kit, "brattice.internal.", RecordType::SOA).await;
        assert!(matches!(soa.answers[0].data, RData::SOA(_)));
        // What only looks like ours is not.
        let foreign = ask(BLUE, &kit, "notbrattice.internal.", RecordType::A).await;
        assert_eq!(addresses(&foreign)[0], IpAddr::from([192, 0, 2, 1]));
        // An unknown caller gets nothing at all.
        let stranger = socket(STRANGER).await;
        let bytes = question(1, "orders.shop.internal.", RecordType::A).to_vec().unwrap();
        stranger.send_to(&bytes, kit.dns_udp.local_addr().unwrap()).await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(300), stranger.recv(&mut [0; 512])).await;
        assert!(nothing.is_err());
        let stats = stats(&agent).await;
        assert_eq!((stats.unknown_peers, stats.dns), (1, [13, 1, 0]));
    });
}

fn dig_understands_us() {
    block_on(async {
        let kit = Kit::new();
        let (_engine, _agent) = Engine::serving(&kit, snapshot(&[])).await;
        let address = kit.dns_udp.local_addr().unwrap();
        let dig = |alias: &'static str, more: &'static [&'static str]| {
            let mut command = Command::new("dig");
            command.args(["-b", alias, &format!("@{}", address.ip()), "-p", &address.port().to_string()]);
            command.args(["+tries=1", "+time=5"]).args(more);
            tokio::task::spawn_blocking(move || String::from_utf8(command.output().unwrap().stdout).unwrap())
        };
        for transport in ["+notcp", "+tcp"] {
            let args: &'static [&str] = if transport == "+tcp" { &["+tcp", GENERATED] } else { &["+notcp", GENERATED] };
            let output = dig(BLUE, args).await.unwrap();
            assert!(output.contains("status: NOERROR") && output.contains("169.254.64.32"), "{output}");
            assert!(output.contains("udp: 1232") && !output.contains("WARNING"), "{output}");
            let output = dig(RED, args).await.unwrap();
            assert!(output.contains("status: NXDOMAIN") && !output.contains("169.254.64.32"), "{output}");
        }
        let output = dig(BLUE, &["example.com"]).await.unwrap();
        assert!(output.contains("status: NXDOMAIN"), "{output}");
    });
}

fn questions_in_flight_are_bounded() {
    block_on(async {
        let upstream = Resolver::start("127.66.0.1", silent).await;
        let kit = Kit::new();
        let limits = Limits { dns_in_flight: 12, dns_in_flight_per_workload: 8, ..Limits::default() };
        let (_engine, agent) =
            Engine::serving_with(Settings { limits, ..settings() }, &kit, snapshot(&[upstream.address])).await;
        let address = kit.dns_udp.local_addr().unwrap();
        let blue = socket(BLUE).await;
        for id in 0..20 {
            let bytes = question(id, "www.example.", RecordType::A).to_vec().unwrap();
            blue.send_to(&bytes, address).await.unwrap();
        }
        for _ in 0..12 {
            assert_eq!(receive(&blue).await.unwrap().metadata.response_code, ResponseCode::ServFail);
        }
        // Another workload has places of its own, until all are taken.
        let red = socket(RED).await;
        for id in 0..7 {
            let bytes = question(id, "www.example.", RecordType::A).to_vec().unwrap();
            red.send_to(&bytes, address).await.unwrap();
        }
        for _ in 0..3 {
            assert_eq!(receive(&red).await.unwrap().metadata.response_code, ResponseCode::ServFail);
        }
        // Names of ours are answered all the same.
        assert_eq!(addresses(&ask(BLUE, &kit, "orders.shop.internal.", RecordType::A).await), [IpAddr::from(VIP)]);
        let counted = stats(&agent).await;
        let hit = |name: &str| counted.limits_hit.iter().find(|(limit, _)| limit == name).unwrap().1;
        assert_eq!((hit("dns_in_flight_per_workload"), hit("dns_in_flight")), (12, 3));
        // The rest fails when the resolver's time is over, and the places are free again.
        for _ in 0..8 {
            assert_eq!(receive(&blue).await.unwrap().metadata.response_code, ResponseCode::ServFail);
        }
        let forwarded = stats(&agent).await.dns[1];
        ask(BLUE, &kit, "www.example.", RecordType::A).await;
        assert_eq!(stats(&agent).await.dns[1], forwarded + 1);
    });
}

fn connections_carry_many_questions_and_may_not_idle() {
    block_on(async {
        let upstream = Resolver::start("127.66.0.1", good).await;
        let kit = Kit::new();
        let (_engine, _agent) = Engine::serving(&kit, snapshot(&[upstream.address])).await;
        let mut stream = connect(BLUE, &kit).await;
        let mut wire = Vec::new();
        for id in 0..40 {
            let name = if id % 2 == 0 { "orders.shop.internal." } else { "www.example." };
            wire.extend(framed(&question(id, name, RecordType::A)));
        }
        // In pieces that end anywhere.
        for piece in wire.chunks(37) {
            stream.write_all(piece).await.unwrap();
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let answer = read(&mut stream).await;
            let even = answer.metadata.id % 2 == 0;
            assert_eq!(addresses(&answer)[0], if even { IpAddr::from(VIP) } else { IpAddr::from([192, 0, 2, 2]) });
            seen.insert(answer.metadata.id);
        }
        assert_eq!(seen.len(), 40);
        // Questions whose client has already finished sending are answered.
        stream.write_all(&framed(&question(50, "www.example.", RecordType::A))).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read(&mut stream).await.metadata.id, 50);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        // Half a question holds nothing for longer than the idle time; an unknown caller does not get that far.
        let mut stream = connect(BLUE, &kit).await;
        stream.write_all(&[0, 60, 1]).await.unwrap();
        let closed = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 8])).await.expect("it stays open");
        assert!(closed.map_or(true, |length| length == 0));
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{STRANGER}:0").parse().unwrap()).unwrap();
        if let Ok(mut stream) = socket.connect(kit.dns_tcp.local_addr().unwrap()).await {
            assert!(stream.read(&mut [0; 8]).await.is_err());
        }
    });
}

fn a_closed_alias_gets_no_answer() {
    block_on(async {
        let upstream = Resolver::start_late("127.66.0.1", Duration::from_millis(700), good).await;
        let kit = Kit::new();
        let (_engine, agent) = Engine::serving(&kit, snapshot(&[upstream.address])).await;
        let blue = socket(BLUE).await;
        let bytes = question(1, "www.example.", RecordType::A).to_vec().unwrap();
        blue.send_to(&bytes, kit.dns_udp.local_addr().unwrap()).await.unwrap();
        let mut stream = connect(BLUE, &kit).await;
        stream.write_all(&framed(&question(2, "orders.shop.internal.", RecordType::A))).await.unwrap();
        read(&mut stream).await;
        agent
            .send(&ToEngine::CloseAliases { token: 3, aliases: vec![(BLUE.parse().unwrap(), AliasGeneration::new(1))] })
            .await;
        assert_eq!(agent.answer().await, FromEngine::AliasesClosed { token: 3 });
        let closed = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 8])).await.expect("it stays open");
        assert!(closed.map_or(true, |length| length == 0));
        let nothing = tokio::time::timeout(Duration::from_millis(1_200), blue.recv(&mut [0; 512])).await;
        assert!(nothing.is_err(), "an answer after the alias was closed");
        // The same alias, given again: served.
        assert_eq!(addresses(&ask(BLUE, &kit, "www.example.", RecordType::A).await)[0], IpAddr::from([192, 0, 2, 1]));
    });
}

fn junk_is_refused_or_dropped() {
    block_on(async {
        let kit = Kit::new();
        let (mut engine, agent) = Engine::serving(&kit, snapshot(&[])).await;
        let blue = socket(BLUE).await;
        let address = kit.dns_udp.local_addr().unwrap();
        let mut junk = vec![Vec::new(), vec![0; 5], vec![0xff; 512], vec![0; 4096]];
        // A deterministic mess: every byte value at every place of a header.
        for seed in 0_u32..2_000 {
            let mut value = seed.wrapping_mul(2_654_435_761);
            let bytes = (0..(seed % 90)).map(|_| {
                value = value.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                (value >> 16) as u8
            });
            junk.push(bytes.collect());
        }
        for bytes in &junk {
            blue.send_to(bytes, address).await.unwrap();
        }
        for bytes in junk.iter().take(40) {
            let mut stream = connect(BLUE, &kit).await;
            let _ = stream.write_all(bytes).await;
        }
        // As long as the junk fills the socket's buffer, questions are lost, as any datagram is.
        let mut answered = None;
        for _ in 0..PATIENCE.as_secs() {
            let question = question(4711, "orders.shop.internal.", RecordType::A).to_vec().unwrap();
            let asking = socket(BLUE).await;
            asking.send_to(&question, address).await.unwrap();
            answered = tokio::time::timeout(Duration::from_secs(1), receive(&asking)).await.ok().flatten();
            if answered.is_some() {
                break;
            }
        }
        assert_eq!(addresses(&answered.expect("no answer")), [IpAddr::from(VIP)]);
        assert!(engine.is_running());
        assert!(stats(&agent).await.dns[2] > 0);
    });
}
