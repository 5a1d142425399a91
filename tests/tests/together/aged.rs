//! Connections older than every timeout. First by name, so that its waiting runs beside the other tests.

use std::time::{Duration, Instant};

use brattice_tests::{
    client::{HOST, WebSocket},
    lab::{Retail, forward, service, service_of},
};

/// The shortest idle timeout that a service can have (Lattice `idleTimeoutSeconds`), which is the default.
const IDLE: Duration = Duration::from_secs(60);

#[test]
fn an_upgraded_connection_outlives_the_idle_timeout_and_a_plain_one_does_not() {
    let patient = service_of("reports", "green", "10.0.0.10").replace("spec:\n", "spec:\n  idleTimeoutSeconds: 120\n");
    let retail = Retail::start_with(&format!("{}---{patient}", service(&forward(1, 0))));
    let vip = retail.orders();
    // Long polls and an event stream: of a service that says nothing, and of one that allows twice as much.
    let reports = retail.lab.vip("shop/reports", 80);
    let silent = u64::try_from((IDLE + Duration::from_secs(3)).as_millis()).unwrap();
    let ask = |to, host: &str, path: &str| {
        let mut client = retail.blue.http(to).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        client.send(request.as_bytes()).unwrap();
        client.stream().set_read_timeout(Some(2 * IDLE)).unwrap();
        client
    };
    let mut hasty_poll = ask(vip, HOST, &format!("/slow/{silent}"));
    let mut patient_poll = ask(reports, "reports.shop.internal", &format!("/slow/{silent}"));
    let mut patient_events = ask(reports, "reports.shop.internal", &format!("/drip/{silent}"));
    let mut socket = WebSocket::open(&retail.blue, vip, "/", &[]).unwrap();
    socket.echo("before").unwrap();
    let mut plain = retail.blue.http(vip).unwrap();
    plain.nonce("n").unwrap();
    // And an answer that goes on.
    let mut dripping = retail.blue.http(vip).unwrap();
    dripping.send(format!("GET /drip/1000 HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    let start = Instant::now();
    assert!(plain.is_closed_within(IDLE + Duration::from_secs(10)), "kept for {:?}", start.elapsed());
    let idle = start.elapsed();
    assert!(idle > IDLE - Duration::from_secs(5), "closed after {idle:?} already");
    std::thread::sleep((IDLE + Duration::from_secs(5)).saturating_sub(start.elapsed()));
    socket.echo("after").unwrap();
    assert_eq!(hasty_poll.answer().unwrap().status, 504);
    assert_eq!(patient_poll.answer().unwrap().status, 200);
    let mut events = String::new();
    while !events.contains("drip 1") {
        let read = std::io::BufRead::read_line(patient_events.reader(), &mut events).unwrap();
        assert_ne!(read, 0, "the stream was cut: {events}");
    }
    assert_eq!((retail.v1.counters.upgraded(), retail.v1.counters.dripping()), (1, 2));
}
