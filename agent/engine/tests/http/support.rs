//! An engine of one or more workers, a document-like way to say what it serves, clients and targets.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use brattice_engine::{
    heartbeat::Heartbeats,
    orders::{Dispatcher, Order},
    state::Shared,
    worker::{self, Worker},
};
use brattice_wire::{
    auth::AuthType,
    engine::{Limits, Settings, Stats},
    index::{ServiceIndex, TargetGroupIndex, VpcIndex},
    snapshot::{
        Action, AliasGeneration, Filters, FixedResponse, Forward, ForwardedHeaders, Listener, Match, Origin, PathMatch,
        PathMatchKind, Precedence, Protocol, ProtocolVersion, Rule, Service, ServiceNumber, Snapshot, Target,
        TargetGroup, Vpc, WeightedTargetGroup, Workload, WorkloadNumber,
    },
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// Addresses of the world that most tests use: VPC 0 `blue` has the caller and sees the service, VPC 1 `red` has
/// another caller and sees nothing.
pub(crate) const CALLER: Ipv4Addr = Ipv4Addr::new(127, 10, 0, 1);
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 10, 0, 2);
pub(crate) const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 10, 0, 99);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(127, 20, 0, 1);
pub(crate) const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 30, 0, 1);
pub(crate) const TARGET: Ipv4Addr = Ipv4Addr::new(127, 40, 0, 1);
/// Real address of the caller, for `x-forwarded-for`.
pub(crate) const REAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub(crate) const HOST: &str = "orders.example";

pub(crate) struct Engine {
    pub(crate) port: u16,
    /// For connections that are bypassed.
    #[allow(dead_code, reason = "the tests of policies use it")]
    pub(crate) relay: u16,
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Dispatcher,
}

impl Engine {
    /// One worker.
    pub(crate) fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let relay = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let relay_port = relay.local_addr().unwrap().port();
        relay.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let map = tempfile::tempfile().unwrap();
        map.set_len(64 * 16).unwrap();
        let heartbeats = Heartbeats::map(&map).unwrap();
        let shared =
            Shared::new(Settings { workers: 1, sources: vec![SOURCE], sources6: Vec::new(), limits, halvings: 0 });
        let (workers, mut queues) = Dispatcher::new(1);
        let worker = Worker {
            index: 0,
            http: listener.into(),
            tcp: relay.into(),
            shared: Arc::clone(&shared),
            orders: queues.remove(0),
            slot: heartbeats.slot(0).unwrap(),
        };
        // The name that it has in the process.
        std::thread::Builder::new().name("worker-0".into()).spawn(move || worker::serve(worker)).unwrap();
        Self { port, relay: relay_port, shared, workers }
    }

    pub(crate) async fn apply(&self, snapshot: Snapshot) {
        self.shared.apply(snapshot).unwrap();
        self.workers.all(&Order::Applied, Duration::from_secs(5)).await.unwrap();
    }

    pub(crate) async fn close(&self, aliases: &[(IpAddr, u32)]) {
        let aliases: Vec<_> =
            aliases.iter().map(|(alias, generation)| (*alias, AliasGeneration::new(*generation))).collect();
        self.workers.all(&Order::CloseAliases(aliases.into()), Duration::from_secs(5)).await.unwrap();
    }

    pub(crate) fn stats(&self) -> Stats {
        self.shared.stats(Vec::new())
    }

    pub(crate) fn hits(&self, limit: &str) -> u64 {
        self.stats().limits_hit.into_iter().find(|(name, _)| name == limit).unwrap().1
    }

    /// Waits until something holds, as counts follow events a little later.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Stats) -> bool) {
        let started = Instant::now();
        while !holds(&self.stats()) {
            assert!(started.elapsed() < Duration::from_secs(10), "{what}: {:?}", self.stats());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The usual world: one service with one listener that forwards everything to these targets.
    pub(crate) fn world(&self, protocol: ProtocolVersion, targets: &[SocketAddr]) -> Snapshot {
        Snapshot {
            revision: 1,
            vpcs: vec![vpc("blue", &[0]), vpc("red", &[])],
            workloads: vec![workload(CALLER, REAL, 0, 1), workload(STRANGER, REAL, 1, 2)],
            services: vec![service("orders", VIP, &[HOST], vec![listener(self.port, forward(&[(0, 1)]))])],
            target_groups: vec![group("orders", protocol, targets)],
            ..Snapshot::default()
        }
    }

    /// An engine that serves [`Engine::world`].
    pub(crate) async fn serving(limits: Limits, protocol: ProtocolVersion, targets: &[SocketAddr]) -> Self {
        let engine = Self::start(limits);
        let world = engine.world(protocol, targets);
        engine.apply(world).await;
        engine
    }

    /// As [`Engine::serving`], with a service that allows no silence beyond these limits.
    #[allow(dead_code, reason = "the tests of policies have no use for it")]
    pub(crate) async fn serving_impatiently(limits: Limits, protocol: ProtocolVersion, targets: &[SocketAddr]) -> Self {
        let engine = Self::start(limits);
        let mut world = engine.world(protocol, targets);
        world.services[0].idle_timeout_ms = limits.response_timeout_ms.min(limits.body_idle_timeout_ms);
        engine.apply(world).await;
        engine
    }

    pub(crate) async fn connect(&self, from: Ipv4Addr) -> TcpStream {
        self.connect_to(from, VIP).await
    }

    /// Whether a new connection is reset at once.
    pub(crate) async fn resets(&self, from: Ipv4Addr) -> bool {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let reset = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        match socket.connect((VIP, self.port).into()).await {
            Err(error) => reset(error),
            Ok(mut stream) => stream.read(&mut [0; 1]).await.is_err_and(reset),
        }
    }

    pub(crate) async fn connect_to(&self, from: Ipv4Addr, vip: Ipv4Addr) -> TcpStream {
        self.try_connect(from, vip).await.unwrap()
    }

    /// A connection that the engine refuses may be reset before it is known here.
    pub(crate) async fn try_connect(&self, from: Ipv4Addr, vip: Ipv4Addr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect((vip, self.port).into()).await?;
        // Fails where the engine has reset it already.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Sends bytes, and answers with all that comes until the engine closes (at most 15 s).
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect(CALLER).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "still open after {:?}", String::from_utf8_lossy(&answer));
        answer
    }

    pub(crate) async fn http1(&self, from: Ipv4Addr) -> hyper::client::conn::http1::SendRequest<TestBody> {
        let io = TokioIo::new(self.connect(from).await);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub(crate) async fn http2(&self, from: Ipv4Addr) -> hyper::client::conn::http2::SendRequest<TestBody> {
        let io = TokioIo::new(self.connect(from).await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One GET on a connection of its own, from the caller; status, fields, body.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, HeaderMap, Bytes) {
        let mut client = self.http1(CALLER).await;
        let response = client.send_request(get(path)).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }
}

pub(crate) type TestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) fn full(text: impl Into<Bytes>) -> TestBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn get(path: &str) -> Request<TestBody> {
    Request::get(path).header("host", HOST).body(full("")).unwrap()
}

/// For HTTP/2, which has the host in the URI.
pub(crate) fn get2(path: &str) -> Request<TestBody> {
    Request::get(format!("http://{HOST}{path}")).body(full("")).unwrap()
}

/// What a VPC sees: the services at these positions.
pub(crate) fn visible(positions: &[usize]) -> Vec<ServiceIndex> {
    positions.iter().copied().map(ServiceIndex::new).collect()
}

pub(crate) fn vpc(name: &str, services: &[usize]) -> Vpc {
    Vpc {
        name: name.into(),
        id: format!("vpc-{name}"),
        arn: name.into(),
        services: visible(services),
        account: String::new(),
        networks: Vec::new(),
        dns_upstreams: Vec::new(),
        families: (true, false),
    }
}

pub(crate) fn workload(alias: Ipv4Addr, address: Ipv4Addr, vpc: usize, number: u32) -> Workload {
    Workload {
        alias: alias.into(),
        address: address.into(),
        vpc: VpcIndex::new(vpc),
        name: format!("w{number}"),
        number: WorkloadNumber::new(number),
        generation: AliasGeneration::new(1),
        attested: format!("arn:w{number}"),
        evidence: Vec::new(),
        role: None,
        session: String::new(),
    }
}

pub(crate) fn service(name: &str, vip: Ipv4Addr, domains: &[&str], listeners: Vec<Listener>) -> Service {
    // The same service has the same number in every revision.
    static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap();
    let place = names.iter().position(|known| known == name).unwrap_or(names.len());
    if place == names.len() {
        names.push(name.into());
    }
    Service {
        name: name.into(),
        id: format!("svc-{name}"),
        arn: String::new(),
        number: ServiceNumber::new(u32::try_from(place).unwrap()),
        vip: vip.into(),
        vip6: None,
        generated_name: format!("{name}-0.svc.brattice.internal"),
        domains: domains.iter().map(|name| (*name).into()).collect(),
        account: String::new(),
        tags: Vec::new(),
        auth_type: AuthType::None,
        policy: None,
        networks: Vec::new(),
        listeners,
        idle_timeout_ms: 60_000,
        origin: Origin::default(),
    }
}

pub(crate) fn listener(port: u16, default_action: Action) -> Listener {
    Listener {
        name: "http".into(),
        id: "listener-1".into(),
        port,
        protocol: Protocol::Http,
        forwarded_headers: ForwardedHeaders::Replace,
        precedence: Precedence::Priority,
        rules: Vec::new(),
        default_filters: Filters::default(),
        default_action,
        origin: Origin::default(),
    }
}

pub(crate) fn rule(priority: u16, path: Option<(PathMatchKind, &str)>, method: Option<&str>, action: Action) -> Rule {
    Rule {
        name: format!("r{priority}"),
        id: format!("rule-{priority}"),
        priority,
        matches: Match {
            method: method.map(Into::into),
            path: path.map(|(kind, value)| PathMatch { kind, value: value.into(), case_sensitive: true }),
            ..Match::default()
        },
        filters: Filters::default(),
        action,
        origin: Origin::default(),
    }
}

pub(crate) fn forward(groups: &[(usize, u16)]) -> Action {
    Action::Forward(Forward {
        groups: groups
            .iter()
            .map(|(group, weight)| WeightedTargetGroup { target_group: TargetGroupIndex::new(*group), weight: *weight })
            .collect(),
        stickiness: None,
    })
}

/// An answer with this status and nothing else.
pub(crate) fn fixed(status: u16) -> Action {
    Action::FixedResponse(FixedResponse { status, content_type: None, body: String::new() })
}

pub(crate) fn group(name: &str, protocol_version: ProtocolVersion, targets: &[SocketAddr]) -> TargetGroup {
    TargetGroup {
        name: name.into(),
        id: format!("tg-{name}"),
        arn: String::new(),
        vpc: None,
        protocol_version,
        targets: targets
            .iter()
            .map(|target| Target {
                alias: target.ip(),
                port: target.port(),
                address: target.ip(),
                generation: AliasGeneration::new(1),
            })
            .collect(),
        configured: 1,
        connect_timeout_ms: 1_000,
        idle_timeout_ms: None,
        origin: Origin::default(),
    }
}

/// What a target group of targets that speak HTTP/2, or HTTP/1.1, says.
pub(crate) fn version(http2: bool) -> ProtocolVersion {
    if http2 { ProtocolVersion::Http2 } else { ProtocolVersion::Http1 }
}

/// HTTP/2 from the client, HTTP/2 to the target.
pub(crate) const ALL: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// A client's connection in either version.
pub(crate) enum Client {
    One(hyper::client::conn::http1::SendRequest<TestBody>),
    Two(hyper::client::conn::http2::SendRequest<TestBody>),
}

impl Client {
    pub(crate) async fn new(engine: &Engine, http2: bool) -> Self {
        Self::of(engine, http2, CALLER).await
    }

    pub(crate) async fn of(engine: &Engine, http2: bool, from: Ipv4Addr) -> Self {
        if http2 { Self::Two(engine.http2(from).await) } else { Self::One(engine.http1(from).await) }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        self.request_to(HOST, method, path)
    }

    pub(crate) fn request_to(&self, host: &str, method: Method, path: &str) -> http::request::Builder {
        match self {
            Self::One(_) => Request::builder().method(method).uri(path).header("host", host),
            Self::Two(_) => Request::builder().method(method).uri(format!("http://{host}{path}")),
        }
    }

    pub(crate) async fn send(&mut self, request: Request<TestBody>) -> Response<Incoming> {
        match self {
            Self::One(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Self::Two(sender) => sender.send_request(request).await.unwrap(),
        }
    }

    /// A request without a body, and its whole answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = self.request(method, path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, body) = self.send(request.body(full("")).unwrap()).await.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }
}

/// A target that speaks HTTP through hyper.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections that it accepted.
    pub(crate) connections: Arc<AtomicU64>,
    /// Requests that it saw.
    pub(crate) requests: Arc<AtomicU64>,
    /// The latest request's head.
    pub(crate) last: Arc<Mutex<Option<http::request::Parts>>>,
    /// Peers of its connections.
    pub(crate) peers: Arc<Mutex<Vec<IpAddr>>>,
}

pub(crate) type Answer = Result<Response<TestBody>, Box<dyn std::error::Error + Send + Sync>>;

impl Server {
    pub(crate) async fn start<F, A>(http2: bool, address: Ipv4Addr, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            last: Arc::default(),
            peers: Arc::default(),
        };
        let (connections, requests, last, peers) = (
            Arc::clone(&server.connections),
            Arc::clone(&server.requests),
            Arc::clone(&server.last),
            Arc::clone(&server.peers),
        );
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                connections.fetch_add(1, Relaxed);
                peers.lock().unwrap().push(peer.ip());
                let (handler, requests, last) = (handler.clone(), Arc::clone(&requests), Arc::clone(&last));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    requests.fetch_add(1, Relaxed);
                    let (parts, body) = request.into_parts();
                    let mut copy = Request::new(());
                    *copy.method_mut() = parts.method.clone();
                    *copy.uri_mut() = parts.uri.clone();
                    *copy.version_mut() = parts.version;
                    *copy.headers_mut() = parts.headers.clone();
                    *last.lock().unwrap() = Some(copy.into_parts().0);
                    handler(Request::from_parts(parts, body))
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    if http2 {
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = builder.serve_connection(io, service).await;
                    } else {
                        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                    }
                });
            }
        });
        server
    }

    /// Answers with method, path and body of the request.
    pub(crate) async fn echo(http2: bool) -> Self {
        Self::start(http2, TARGET, |request| async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            if parts.method == Method::HEAD {
                return Ok(Response::builder().header("content-length", "8").body(full(""))?);
            }
            let text = format!("{} {} {}", parts.method, parts.uri.path(), String::from_utf8_lossy(&body));
            Ok(Response::new(full(text)))
        })
        .await
    }

    pub(crate) fn last(&self) -> http::request::Parts {
        self.last.lock().unwrap().clone().expect("a request")
    }

    pub(crate) fn seen(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.connections.load(Relaxed)
    }
}

/// A target that speaks bytes: each connection is given to a closure.
pub(crate) async fn raw_server<F, A>(handler: F) -> SocketAddr
where
    F: Fn(TcpStream) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind((TARGET, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(handler(stream));
        }
    });
    address
}

/// Reads until the bytes end with (or contain) something.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let mut room = [0; 4096];
    let started = Instant::now();
    while !String::from_utf8_lossy(&all).contains(end) {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut room)).await;
        let count = read.unwrap_or_else(|_| panic!("no {end:?} in {:?}", String::from_utf8_lossy(&all))).unwrap();
        assert!(count > 0, "closed before {end:?}: {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&room[..count]);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The status code of a raw answer.
pub(crate) fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..))
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}
