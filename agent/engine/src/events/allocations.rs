//! The memory that events of a request cost: nothing, once buffers are there.

use std::{
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use brattice_allocations::{Counting, allocations};
use brattice_wire::{
    auth::AuthType,
    engine::AccessLog,
    index::{ServiceIndex, TargetGroupIndex, VpcIndex},
    records::Past,
    snapshot::{
        Action, AliasGeneration, Filters, Forward, ForwardedHeaders, HeaderMatch, Listener, Match, Origin, Precedence,
        Protocol, ProtocolVersion, Rule, Service, ServiceNumber, Snapshot, TargetGroup, ValueMatch, Vpc, Workload,
        WorkloadNumber,
    },
};
use http::Request;

use super::{
    Events, RequestEvent,
    access_log::{
        output::{CHUNK_BYTES, LogOutput},
        writer,
    },
    connection::{Called, ConnectionSpan},
    names::Names,
    tests::for_tests,
};
use crate::aliases::CallerId;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ALIAS: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 127, 0, 1));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 64, 32));

/// A service whose rule asks for two header fields, one of them secret.
fn snapshot() -> Snapshot {
    let vpc = Vpc {
        name: "platform/blue".into(),
        id: "vpc-1".into(),
        arn: "arn:vpc-1".into(),
        services: vec![ServiceIndex::new(0)],
        account: String::new(),
        networks: Vec::new(),
        dns_upstreams: Vec::new(),
        families: (true, false),
    };
    let workload = Workload {
        alias: ALIAS,
        address: IpAddr::from([10, 0, 0, 10]),
        vpc: VpcIndex::new(0),
        name: "web".into(),
        number: WorkloadNumber::new(1),
        generation: GENERATION,
        attested: "arn:web".into(),
        evidence: Vec::new(),
        role: None,
        session: String::new(),
    };
    let header = |name: &str| HeaderMatch {
        name: name.into(),
        value: ValueMatch::Present,
        case_sensitive: false,
        invert: false,
    };
    let action = Action::Forward(Forward { groups: Vec::new(), stickiness: None });
    let rule = Rule {
        name: "canary".into(),
        id: "rule-1".into(),
        priority: 1,
        matches: Match { headers: vec![header("x-team"), header("authorization")], ..Match::default() },
        filters: Filters::default(),
        action: action.clone(),
        origin: Origin::default(),
    };
    let listener = Listener {
        name: "http".into(),
        id: "listener-1".into(),
        port: 80,
        protocol: Protocol::Http,
        forwarded_headers: ForwardedHeaders::Replace,
        precedence: Precedence::Priority,
        rules: vec![rule],
        default_filters: Filters::default(),
        default_action: action,
        origin: Origin::default(),
    };
    let service = Service {
        name: "shop/orders".into(),
        id: "svc-1".into(),
        arn: "arn:svc-1".into(),
        number: SERVICE,
        vip: VIP,
        vip6: None,
        generated_name: "orders.internal".into(),
        domains: Vec::new(),
        account: String::new(),
        tags: Vec::new(),
        auth_type: AuthType::None,
        policy: None,
        networks: Vec::new(),
        listeners: vec![listener],
        idle_timeout_ms: 60_000,
        origin: Origin::default(),
    };
    let group = TargetGroup {
        name: "shop/v1".into(),
        id: "tg-1".into(),
        arn: "arn:tg-1".into(),
        vpc: Some(VpcIndex::new(0)),
        protocol_version: ProtocolVersion::Http1,
        targets: Vec::new(),
        configured: 0,
        connect_timeout_ms: 1,
        idle_timeout_ms: None,
        origin: Origin::default(),
    };
    Snapshot {
        revision: 3,
        vpcs: vec![vpc],
        workloads: vec![workload],
        services: vec![service],
        target_groups: vec![group],
        ..Snapshot::default()
    }
}

fn request() -> Request<()> {
    Request::get("/a%20b?q=1")
        .header("host", "Orders.internal:80")
        .header("user-agent", "tester/1")
        .header("x-team", "red")
        .header("x-team", "blue")
        .header("authorization", "hidden")
        .body(())
        .unwrap()
}

const GENERATION: AliasGeneration = AliasGeneration::new(1);
const SERVICE: ServiceNumber = ServiceNumber::new(7);

fn connect(events: &Rc<Events>, names: &Names) -> Rc<ConnectionSpan> {
    let called = Called { source_port: 4711, vip: VIP, port: 80 };
    events.open_connection(names, CallerId::new(ALIAS, GENERATION), called, (Some(SERVICE), None))
}

/// What happens to one request.
fn serve(events: &Events, connection: &Rc<ConnectionSpan>, names: &Names, request: &Request<()>, id: &[u8]) {
    let span = events.begin_request(connection, request);
    span.emit(RequestEvent::Identified { id });
    span.emit(RequestEvent::ServiceFound { service: SERVICE });
    let (host, headers) = ("orders.internal", request.headers());
    span.emit(RequestEvent::HeadRead { service: SERVICE, host, path: "/a%20b", headers, names });
    span.emit(RequestEvent::RuleMatched { id: "rule-1" });
    span.emit(RequestEvent::GroupChosen { group: TargetGroupIndex::new(0) });
    span.emit(RequestEvent::TargetChosen { address: ([10, 0, 0, 11], 8080).into(), alias: ALIAS });
    span.emit(RequestEvent::Decided { names });
    span.emit(RequestEvent::BodyReceived { bytes: 10 });
    span.emit(RequestEvent::RequestSent);
    span.emit(RequestEvent::ResponseReceived);
    span.emit(RequestEvent::ResponseStarted { status: 200, headers });
    span.emit(RequestEvent::BodySent { bytes: 20 });
    span.end(true);
}

/// Requests of a round.
const ROUND: usize = 200;
/// More than the lines of a round fill.
const BUFFERS: usize = 16;

#[test]
fn a_request_costs_no_allocation() {
    let output = Arc::new(LogOutput::default());
    let writing = Arc::clone(&output);
    std::thread::spawn(move || writer::run(&writing));
    let names = Names::of(&snapshot());
    let events = for_tests(&output);
    let connection = connect(&events, &names);
    let request = request();
    let count = allocations;
    // How many buffers are on their way at once is the scheduler's to say: more than a round can fill are there.
    for _ in 0..BUFFERS {
        output.give_back(Vec::with_capacity(2 * CHUNK_BYTES));
    }
    for logged in [false, true] {
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let log = AccessLog { sample: 1, file: false };
        output.set_log(logged.then(|| (log, null.into())));
        let mut allocated = 0;
        for round in 0..40 {
            let before = count();
            for _ in 0..ROUND {
                serve(&events, &connection, &names, &request, b"r-1");
            }
            // At first everything finds its size.
            if round >= 20 {
                allocated += count() - before;
            }
            // Buffers come back.
            output.drain(Duration::from_secs(5));
        }
        assert_eq!(allocated, 0, "logged: {logged}");
    }
    events.flush();
    output.drain(Duration::from_secs(5));
    let [written, dropped, sampled] = output.line_counts();
    assert_eq!((written, dropped, sampled), (8_000, 0, 0), "it was logged");
    // The count counts.
    let before = count();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(count() - before, 1);
}

#[test]
fn what_is_remembered_is_what_was_asked() {
    let names = Names::of(&snapshot());
    let events = for_tests(&Arc::default());
    let connection = connect(&events, &names);
    serve(&events, &connection, &names, &request(), b"r-7");
    let past: Past = events.subscribers.past_requests.recall(b"r-7").unwrap();
    assert_eq!((&*past.request_id, past.flow, past.revision), ("r-7", connection.id, 3));
    assert_eq!((&*past.vpc, &*past.workload, past.alias, past.generation), ("platform/blue", "web", ALIAS, GENERATION));
    assert_eq!((past.vip, past.port, past.http2, past.cut), (VIP, 80, false, false));
    let head = (&*past.method, &*past.path, &*past.query, &*past.host);
    assert_eq!(head, ("GET", "/a%20b", "q=1", "orders.internal"));
    let fields: Vec<_> = past.headers.iter().map(|field| (&*field.name, field.values.clone())).collect();
    assert_eq!(fields, [("authorization", None), ("x-team", Some(vec!["red".to_owned(), "blue".to_owned()]))]);
    assert_eq!(past.service.as_deref(), Some("shop/orders"));
    assert_eq!(past.listener.as_deref(), Some("http"));
    assert_eq!(past.rule.as_deref(), Some("rule-1"));
    assert_eq!(past.target_group.as_deref(), Some("shop/v1"));
    assert_eq!(past.target, Some(([10, 0, 0, 11], 8080).into()));
    assert_eq!((past.status, past.failure, past.decision_id, past.denied_by), (Some(200), None, None, None));
    assert!(past.duration_ms.is_some());
    assert!(events.subscribers.past_requests.recall(b"r-8").is_none());
}
