//! What is no longer allowed ends within a second, what still is goes on.

use std::time::{Duration, Instant};

use brattice_tests::{
    client::{Connection, Http2, Next, Received, WebSocket},
    lab::{Guarded, ORDERS, ORDERS_HOST, wait_until},
};

/// From the revision's being in force to the end of what it denies.
const PROMISED: Duration = Duration::from_secs(1);

/// `shop/orders` without what lets `web` in.
fn without_web() -> String {
    let begin = ORDERS.find("    - Sid: web\n").unwrap();
    let end = ORDERS.find("    - Sid: reports\n").unwrap();
    format!("{}{}", &ORDERS[..begin], &ORDERS[end..])
}

/// Reads a stream until something other than data comes.
fn end_of(client: &Http2, stream: &mut brattice_tests::client::Stream, limit: Duration) -> Next {
    let start = Instant::now();
    loop {
        match client.next(stream, limit.saturating_sub(start.elapsed())) {
            Next::Data(_) if start.elapsed() < limit => {}
            Next::Data(_) => return Next::Nothing,
            other => return other,
        }
    }
}

/// The next data of a stream is fresh: not what was waiting.
fn flows(client: &Http2, stream: &mut brattice_tests::client::Stream) -> bool {
    (0..20).all(|_| matches!(client.next(stream, Duration::from_secs(2)), Next::Data(_)))
}

#[test]
fn kept_http1_connections_of_the_denied_are_closed_and_others_live() {
    let guarded = Guarded::start();
    let mut denied: Vec<Connection> = (0..5).map(|_| guarded.open(&guarded.web, ORDERS_HOST)).collect();
    let mut still = guarded.open(&guarded.web, ORDERS_HOST);
    let mut others = [guarded.open(&guarded.batch, ORDERS_HOST), guarded.open(&guarded.visitor, ORDERS_HOST)];
    for open in &mut denied {
        assert_eq!(open.get("/", "").unwrap().status, 200);
    }
    // Its last request is allowed by another statement as well.
    assert_eq!(still.get("/public/a", "").unwrap().status, 200);
    for open in &mut others {
        assert_eq!(open.get("/public/a", "").unwrap().status, 200);
    }
    guarded.lab.apply("accounts/shop/orders.yaml", &without_web());
    let start = Instant::now();
    for open in &mut denied {
        assert!(open.is_closed_within(PROMISED.saturating_sub(start.elapsed()).max(Duration::from_millis(1))));
    }
    assert_eq!(still.get("/public/a", "").unwrap().status, 200, "its last request is allowed");
    assert_eq!(still.get("/", "").unwrap().status, 403);
    for open in &mut others {
        assert_eq!(open.get("/public/a", "").unwrap().status, 200, "not touched");
    }
}

#[test]
fn answers_on_their_way_are_cut_for_the_denied_alone() {
    let guarded = Guarded::start();
    let drip = |from, path: &str| {
        let mut open = guarded.open(from, ORDERS_HOST);
        open.send(format!("GET {path} HTTP/1.1\r\nhost: {ORDERS_HOST}\r\n\r\n").as_bytes()).unwrap();
        open
    };
    let mut denied = drip(&guarded.web, "/drip/20");
    let mut allowed = drip(&guarded.web, "/public/drip/20");
    wait_until("both drip", Duration::from_secs(5), || guarded.orders.counters.dripping() == 2);
    guarded.lab.apply("accounts/shop/orders.yaml", &without_web());
    wait_until("the target is told, too", PROMISED, || guarded.orders.counters.dripping() == 1);
    let mut text = String::new();
    let ended = std::io::Read::read_to_string(denied.reader(), &mut text);
    assert!(ended.is_err() || !text.ends_with("0\r\n\r\n"), "cut, not ended as if it were whole");
    let mut line = String::new();
    for _ in 0..30 {
        std::io::BufRead::read_line(allowed.reader(), &mut line).unwrap();
    }
    assert_eq!(guarded.orders.counters.dripping(), 1, "the allowed one drips on");
}

#[test]
fn http2_streams_of_the_denied_are_reset_and_others_live() {
    let guarded = Guarded::start();
    let client =
        |from: &brattice_tests::lab::Workload| Http2::new(from.connect(guarded.vip(ORDERS_HOST)).unwrap()).unwrap();
    let (mut web, mut visitor) = (client(&guarded.web), client(&guarded.visitor));
    let mut denied = web.open("GET", "/drip/20", &[], b"").unwrap();
    // On the same connection: one that is allowed by another statement.
    let mut allowed = web.open("GET", "/public/drip/20", &[], b"").unwrap();
    let mut other = visitor.open("GET", "/public/drip/20", &[], b"").unwrap();
    assert_eq!((denied.status, allowed.status, other.status), (200, 200, 200));
    wait_until("all drip", Duration::from_secs(5), || guarded.orders.counters.dripping() == 3);
    guarded.lab.apply("accounts/shop/orders.yaml", &without_web());
    let start = Instant::now();
    let end = end_of(&web, &mut denied, PROMISED);
    assert!(matches!(&end, Next::Broken(_)), "after {:?}: {end:?}", start.elapsed());
    wait_until("the target is told, too", PROMISED, || guarded.orders.counters.dripping() == 2);
    assert!(flows(&web, &mut allowed), "the other stream of the connection lives");
    assert!(flows(&visitor, &mut other), "other connections live");
    assert_eq!(web.get("/public/a", &[]).unwrap().status, 200, "and so does the connection");
    assert_eq!(web.get("/", &[]).unwrap().status, 403);
}

#[test]
fn websockets_of_the_denied_are_closed_and_others_live() {
    let guarded = Guarded::start();
    let vip = guarded.vip(ORDERS_HOST);
    let mut denied = WebSocket::open(&guarded.web, vip, "/socket", &[]).unwrap();
    let mut allowed = WebSocket::open(&guarded.web, vip, "/public/socket", &[]).unwrap();
    let mut other = WebSocket::open(&guarded.visitor, vip, "/public/socket", &[]).unwrap();
    for socket in [&mut denied, &mut allowed, &mut other] {
        socket.echo("before").unwrap();
    }
    assert!(WebSocket::open(&guarded.visitor, vip, "/socket", &[]).is_err(), "an upgrade is authorized");
    assert_eq!(guarded.orders.counters.upgraded(), 3);
    guarded.lab.apply("accounts/shop/orders.yaml", &without_web());
    assert_eq!(denied.receive(PROMISED), Received::End);
    wait_until("the target is told, too", PROMISED, || guarded.orders.counters.upgraded() == 2);
    for socket in [&mut allowed, &mut other] {
        socket.echo("after").unwrap();
    }
    // A reload that changes nothing for them leaves them alone.
    guarded.lab.apply("accounts/shop/orders.yaml", ORDERS);
    for socket in [&mut allowed, &mut other] {
        socket.echo("again").unwrap();
    }
    WebSocket::open(&guarded.web, vip, "/socket", &[]).unwrap().echo("allowed again").unwrap();
}

#[test]
fn a_role_that_is_taken_away_ends_what_it_allowed() {
    let guarded = Guarded::start();
    let vip = guarded.vip(ORDERS_HOST);
    let mut socket = WebSocket::open(&guarded.web, vip, "/socket", &[]).unwrap();
    let mut other = guarded.open(&guarded.batch, ORDERS_HOST);
    assert_eq!(other.get("/reports/1", "").unwrap().status, 200);
    socket.echo("before").unwrap();
    // The workload loses the label that the role trusts.
    let operator = brattice_tests::lab::OPERATOR.replace("labels: {tier: front}}\nspec", "labels: {tier: back}}\nspec");
    assert_ne!(operator, brattice_tests::lab::OPERATOR);
    guarded.lab.apply("node.yaml", &operator);
    assert_eq!(socket.receive(PROMISED), Received::End);
    assert_eq!(guarded.call(&guarded.web, ORDERS_HOST, "GET", "/", "").status, 403, "it is anonymous now");
    assert_eq!(other.get("/reports/1", "").unwrap().status, 200, "not touched");
}
