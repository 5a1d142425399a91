//! Names that are not ours: which resolver is asked, and whose answer is taken.

use super::*;

/// A resolver for both protocols: `reply` makes the answers (over UDP: true) out of a question with its id and records
/// the peer.
pub(super) struct Resolver {
    pub(super) address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Resolver {
    pub(super) async fn start(ip: &str, reply: fn(&Message, bool, IpAddr) -> Vec<Message>) -> Self {
        Self::start_late(ip, Duration::ZERO, reply).await
    }

    /// Thinks for a while before each answer.
    pub(super) async fn start_late(
        ip: &str,
        late: Duration,
        reply: fn(&Message, bool, IpAddr) -> Vec<Message>,
    ) -> Self {
        let udp = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let udp = Arc::new(udp);
        let datagrams = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
                let (udp, question) = (Arc::clone(&udp), Message::from_vec(&buffer[..length]).unwrap());
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    for answer in reply(&question, true, peer.ip()) {
                        udp.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
                    }
                });
            }
        });
        let streams = tokio::spawn(async move {
            while let Ok((mut stream, peer)) = tcp.accept().await {
                let question = read(&mut stream).await;
                for answer in reply(&question, false, peer.ip()) {
                    stream.write_all(&framed(&answer)).await.unwrap();
                }
            }
        });
        Self { address, tasks: [datagrams, streams] }
    }
}

pub(super) fn reply_to(question: &Message) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&question.queries);
    answer
}

/// 192.0.2.1, or over TCP 192.0.2.2; the peer as a second record.
pub(super) fn good(question: &Message, udp: bool, peer: IpAddr) -> Vec<Message> {
    let mut answer = reply_to(question);
    let name = question.queries[0].name.clone();
    answer.add_answer(Record::from_rdata(name.clone(), 300, a([192, 0, 2, if udp { 1 } else { 2 }])));
    let IpAddr::V4(peer) = peer else { panic!("IPv4 only") };
    answer.add_answer(Record::from_rdata(name, 300, RData::A(A(peer))));
    vec![answer]
}

pub(super) fn silent(_: &Message, _: bool, _: IpAddr) -> Vec<Message> {
    Vec::new()
}

pub(super) fn other_names_go_to_the_vpcs_resolvers() {
    block_on(async {
        let outside = Resolver::start("127.66.0.1", good).await;
        let workload = Resolver::start(RESOLVER, good).await;
        for (upstream, source) in [(&outside, [127, 0, 0, 1]), (&workload, [127, 77, 0, 5])] {
            let kit = Kit::new();
            let (_engine, agent) = Engine::serving(&kit, snapshot(&[upstream.address])).await;
            let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
            assert_eq!(addresses(&answer), [IpAddr::from([192, 0, 2, 1]), source.into()]);
            assert!(!answer.metadata.authoritative);
            // Asked over TCP, asked on over TCP.
            let mut stream = connect(BLUE, &kit).await;
            stream.write_all(&framed(&question(9, "www.example.", RecordType::A))).await.unwrap();
            let answer = read(&mut stream).await;
            assert_eq!(addresses(&answer), [IpAddr::from([192, 0, 2, 2]), source.into()]);
            assert_eq!(stats(&agent).await.dns, [0, 2, 0]);
        }
    });
}

pub(super) fn answers_into_our_ranges_are_removed() {
    fn poisoned(question: &Message, _: bool, _: IpAddr) -> Vec<Message> {
        let mut answer = reply_to(question);
        answer.add_answer(record("www.example.", a([169, 254, 64, 32])));
        answer.add_answer(record("www.example.", a([100, 127, 3, 4])));
        answer.add_answer(record("www.example.", RData::AAAA(AAAA("::ffff:169.254.64.33".parse().unwrap()))));
        answer.add_answer(record("www.example.", a([169, 254, 80, 1])));
        answer.add_authority(record("ns.example.", a([169, 254, 79, 255])));
        answer.add_additional(record("ns.example.", a([100, 127, 255, 255])));
        answer.metadata.authentic_data = true;
        vec![answer]
    }
    block_on(async {
        let upstream = Resolver::start("127.66.0.1", poisoned).await;
        let kit = Kit::new();
        let (_engine, _agent) = Engine::serving(&kit, snapshot(&[upstream.address])).await;
        let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
        assert_eq!(addresses(&answer), [IpAddr::from([169, 254, 80, 1])], "what is next to our range stays");
        assert!(answer.authorities.is_empty() && answer.additionals.is_empty() && !answer.metadata.authentic_data);
    });
}

pub(super) fn forged_answers_are_ignored() {
    fn forger(question: &Message, _: bool, peer: IpAddr) -> Vec<Message> {
        let mut wrong_id = reply_to(question);
        wrong_id.metadata.id = question.metadata.id.wrapping_add(1);
        wrong_id.add_answer(record("www.example.", a([203, 0, 113, 1])));
        let mut wrong_name = reply_to(question);
        wrong_name.queries = vec![Query::query(Name::from_ascii("evil.example.").unwrap(), RecordType::A)];
        wrong_name.add_answer(record("evil.example.", a([203, 0, 113, 2])));
        let mut wrong_type = reply_to(question);
        wrong_type.queries[0].set_query_type(RecordType::TXT);
        let mut no_answer = question.clone();
        no_answer.add_answer(record("www.example.", a([203, 0, 113, 3])));
        let mut none = reply_to(question);
        none.queries.clear();
        none.add_answer(record("www.example.", a([203, 0, 113, 4])));
        let mut all = vec![wrong_id, wrong_name, wrong_type, no_answer, none];
        all.extend(good(question, true, peer));
        all
    }
    block_on(async {
        let upstream = Resolver::start("127.66.0.1", forger).await;
        let kit = Kit::new();
        let (_engine, _agent) = Engine::serving(&kit, snapshot(&[upstream.address])).await;
        let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
        assert_eq!(addresses(&answer)[0], IpAddr::from([192, 0, 2, 1]));
    });
}

pub(super) fn the_next_resolver_is_asked() {
    fn broken(question: &Message, _: bool, _: IpAddr) -> Vec<Message> {
        let mut answer = reply_to(question);
        answer.metadata.response_code = ResponseCode::ServFail;
        vec![answer]
    }
    block_on(async {
        let closed: SocketAddr = "127.66.0.7:9".parse().unwrap();
        let silent = Resolver::start("127.66.0.1", silent).await;
        let broken = Resolver::start("127.66.0.2", broken).await;
        let good = Resolver::start("127.66.0.3", good).await;
        for first in [closed, silent.address, broken.address] {
            let kit = Kit::new();
            let (_engine, _agent) = Engine::serving(&kit, snapshot(&[first, good.address])).await;
            let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
            assert_eq!(addresses(&answer)[0], IpAddr::from([192, 0, 2, 1]), "after {first}");
        }
        let kit = Kit::new();
        let (_engine, _agent) = Engine::serving(&kit, snapshot(&[closed, broken.address])).await;
        let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    });
}

pub(super) fn long_answers_go_over_tcp() {
    fn long(question: &Message, udp: bool, _: IpAddr) -> Vec<Message> {
        let mut answer = reply_to(question);
        if udp {
            answer.metadata.truncation = true;
            return vec![answer];
        }
        for n in 0..60 {
            answer.add_answer(Record::from_rdata(question.queries[0].name.clone(), 300, a([192, 0, 2, n])));
        }
        vec![answer]
    }
    block_on(async {
        let upstream = Resolver::start("127.66.0.1", long).await;
        let kit = Kit::new();
        let (_engine, _agent) = Engine::serving(&kit, snapshot(&[upstream.address])).await;
        // 60 records are about 990 bytes: too many for 512, not for 1232; never more than that, whatever is offered.
        let plain = ask(BLUE, &kit, "www.example.", RecordType::A).await;
        assert!(plain.metadata.truncation && plain.answers.is_empty());
        for payload in [1232, 4096] {
            let mut offering = question(5, "www.example.", RecordType::A);
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            offering.set_edns(edns);
            let answer = ask_message(BLUE, &kit, &offering).await;
            assert_eq!((answer.metadata.truncation, answer.answers.len()), (false, 60));
            assert_eq!(answer.edns.as_ref().unwrap().max_payload(), 1232);
        }
        let mut stream = connect(BLUE, &kit).await;
        stream.write_all(&framed(&question(9, "www.example.", RecordType::A))).await.unwrap();
        assert_eq!(read(&mut stream).await.answers.len(), 60);
    });
}

/// musl (Alpine) goes on with its search list after NXDOMAIN alone: it waits REFUSED out, and fails.
pub(super) fn without_resolvers_other_names_do_not_exist() {
    block_on(async {
        // The DNS VIP itself is no resolver: it would be us.
        let ourselves: SocketAddr = "169.254.64.17:53".parse().unwrap();
        for upstreams in [&[][..], &[ourselves]] {
            let kit = Kit::new();
            let (_engine, agent) = Engine::serving(&kit, snapshot(upstreams)).await;
            for kind in [RecordType::A, RecordType::AAAA] {
                let answer = ask(BLUE, &kit, "orders.shop.internal.default.svc.cluster.local.", kind).await;
                assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
                // Without a SOA record clients do not cache it (RFC 2308, 5): the VPC may get a resolver.
                assert!(answer.answers.is_empty() && answer.authorities.is_empty() && !answer.metadata.authoritative);
            }
            let mut stream = connect(BLUE, &kit).await;
            stream.write_all(&framed(&question(9, "www.example.", RecordType::A))).await.unwrap();
            assert_eq!(read(&mut stream).await.metadata.response_code, ResponseCode::NXDomain);
            assert_eq!(stats(&agent).await.dns, [3, 0, 0]);
            // What follows in the list is found.
            assert_eq!(addresses(&ask(BLUE, &kit, "orders.shop.internal.", RecordType::A).await), [IpAddr::from(VIP)]);
        }
    });
}

pub(super) fn a_dead_resolver_costs_the_first_question_alone() {
    const QUESTIONS: u16 = 40;
    block_on(async {
        let dead = UdpSocket::bind("127.66.0.1:0").await.unwrap();
        let good = Resolver::start("127.66.0.2", good).await;
        let kit = Kit::new();
        let (_engine, _agent) = Engine::serving(&kit, snapshot(&[dead.local_addr().unwrap(), good.address])).await;
        let begun = Instant::now();
        for _ in 0..QUESTIONS {
            let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
            assert_eq!(addresses(&answer)[0], IpAddr::from([192, 0, 2, 1]));
        }
        // Were each to wait for it, even for the shortest time, that would be 8 s.
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        let mut heard = 0;
        while dead.try_recv(&mut [0; 512]).is_ok() {
            heard += 1;
        }
        assert!((1..10).contains(&heard), "it is asked first, and then only to see whether it is back: {heard}");
    });
}

pub(super) fn late_answers_are_taken() {
    fn broken(question: &Message, _: bool, _: IpAddr) -> Vec<Message> {
        let mut answer = reply_to(question);
        answer.metadata.response_code = ResponseCode::ServFail;
        vec![answer]
    }
    block_on(async {
        let late = Resolver::start_late("127.66.0.1", Duration::from_millis(2_200), good).await;
        let broken = Resolver::start("127.66.0.2", broken).await;
        let dead = UdpSocket::bind("127.66.0.3:0").await.unwrap();
        let slow = Resolver::start_late("127.66.0.4", Duration::from_millis(900), good).await;
        // Longer than the time that a resolver has for itself; shorter than what is left after another's failure.
        for upstreams in
            [vec![late.address], vec![late.address, dead.local_addr().unwrap()], vec![slow.address, broken.address]]
        {
            let kit = Kit::new();
            let (_engine, _agent) = Engine::serving(&kit, snapshot(&upstreams)).await;
            let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{upstreams:?}");
            assert_eq!(addresses(&answer)[0], IpAddr::from([192, 0, 2, 1]));
        }
    });
}

/// Questions may ask several resolvers at once, but have at most twice as many sockets as there may be questions.
pub(super) fn questions_have_few_sockets() {
    block_on(async {
        let late = Resolver::start_late("127.66.0.1", Duration::from_millis(1_000), good).await;
        let dead = [UdpSocket::bind("127.66.0.2:0").await.unwrap(), UdpSocket::bind("127.66.0.3:0").await.unwrap()];
        let upstreams = [late.address, dead[0].local_addr().unwrap(), dead[1].local_addr().unwrap()];
        for (dns_in_flight, code) in [(1, ResponseCode::ServFail), (2, ResponseCode::NoError)] {
            let limits = Limits { dns_in_flight, ..Limits::default() };
            let kit = Kit::new();
            let (_engine, _agent) =
                Engine::serving_with(Settings { limits, ..settings() }, &kit, snapshot(&upstreams)).await;
            let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
            assert_eq!(answer.metadata.response_code, code, "{dns_in_flight} questions");
        }
    });
}

pub(super) fn lost_questions_are_asked_again() {
    block_on(async {
        let lossy = UdpSocket::bind("127.66.0.1:0").await.unwrap();
        let kit = Kit::new();
        let (_engine, _agent) = Engine::serving(&kit, snapshot(&[lossy.local_addr().unwrap()])).await;
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (lost, from) = lossy.recv_from(&mut buffer).await.unwrap();
            let lost = buffer[..lost].to_vec();
            let (length, again) = lossy.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..length], again), (&lost[..], from), "the same question, from the same socket");
            for answer in good(&Message::from_vec(&lost).unwrap(), true, from.ip()) {
                lossy.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let answer = ask(BLUE, &kit, "www.example.", RecordType::A).await;
        assert_eq!(addresses(&answer)[0], IpAddr::from([192, 0, 2, 1]));
        answering.await.unwrap();
    });
}
