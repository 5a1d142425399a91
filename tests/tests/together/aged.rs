//! Connections older than every timeout. First by name, so that its waiting runs beside the other tests.

use std::time::{Duration, Instant};

use brattice_tests::{
    client::{HOST, WebSocket},
    lab::Retail,
};

/// The shortest idle timeout that a service can have (Lattice `idleTimeoutSeconds`), which is the default.
const IDLE: Duration = Duration::from_secs(60);

#[test]
fn an_upgraded_connection_outlives_the_idle_timeout_and_a_plain_one_does_not() {
    let retail = Retail::start();
    let vip = retail.orders();
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
    assert_eq!((retail.v1.counters.upgraded(), retail.v1.counters.dripping()), (1, 1));
}
