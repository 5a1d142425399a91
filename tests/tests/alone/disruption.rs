//! Agents and engines that end, under load.

use std::{
    fs,
    io::{ErrorKind, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

use brattice_tests::{
    client::{Connection, HOST, Load},
    lab::{Retail, wait_until},
};
use nix::sys::signal::{Signal, kill};

#[test]
fn agents_come_and_go_within_fifty_thousand_requests() {
    const EACH: u64 = 12_500;
    let mut retail = Retail::start();
    let vip = retail.orders();
    let ids = |retail: &Retail| {
        let mut ids: Vec<_> = retail
            .lab
            .status()
            .programs
            .into_iter()
            .map(|program| (program.program, program.attached_to, program.program_id, program.link_id))
            .collect();
        ids.sort();
        ids
    };
    let before = ids(&retail);
    let engine = retail.lab.engine_pid();
    let loads: Vec<Load> = [true, true, true, false]
        .into_iter()
        .map(|kept| Load::start(&retail.blue, vip, kept, if kept { u64::MAX } else { EACH }))
        .collect();
    let done = |loads: &[Load]| loads.iter().map(Load::done).sum::<u64>();
    for round in 0..10 {
        if round % 2 == 0 {
            assert_eq!(retail.lab.agent().stop(), 0);
        } else {
            retail.lab.agent().kill();
        }
        let at = done(&loads);
        wait_until("requests are answered without an agent", Duration::from_secs(10), || done(&loads) > at + 500);
        retail.lab.start_agent();
        let at = done(&loads);
        wait_until("requests are answered with the next one", Duration::from_secs(10), || done(&loads) > at + 1_000);
    }
    wait_until("50,000 requests", Duration::from_secs(60), || done(&loads) >= 50_000);
    let tallies: Vec<_> = loads.into_iter().map(Load::finish).collect();
    for tally in &tallies {
        assert_eq!((tally.failed, tally.good), (0, tally.sent), "{:?}", tally.errors);
    }
    assert!(tallies.iter().map(|tally| tally.sent).sum::<u64>() >= 50_000);
    assert_eq!(ids(&retail), before, "program and link ids are unchanged");
    assert_eq!(retail.lab.engine_pid(), engine, "the same engine");
    assert_eq!(retail.v1.counters.requests(), tallies.iter().map(|tally| tally.sent).sum::<u64>());
}

#[test]
fn a_killed_engine_is_replaced_and_those_who_wait_are_served() {
    let retail = Retail::start();
    let vip = retail.orders();
    let engine = retail.lab.engine_pid();
    retail.blue.http(vip).unwrap().nonce("before").unwrap();
    // In flight: reset. Frozen, the engine accepts nothing: new connections wait in the queue.
    let mut in_flight = retail.blue.http(vip).unwrap();
    in_flight.send(format!("GET /slow/5000 HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    wait_until("the slow request is at the target", Duration::from_secs(3), || retail.v1.counters.requests() == 2);
    kill(engine, Signal::SIGSTOP).unwrap();
    // The signal reaches one thread first; the others go on for a moment.
    wait_until("every thread of it is stopped", Duration::from_secs(3), || {
        let threads = fs::read_dir(format!("/proc/{engine}/task")).unwrap().flatten();
        threads.into_iter().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    });
    let mut waiting: Vec<Connection> = (0..20).map(|_| retail.blue.http(vip).unwrap()).collect();
    for (number, open) in waiting.iter_mut().enumerate() {
        open.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-nonce: {number}\r\n\r\n").as_bytes()).unwrap();
    }
    kill(engine, Signal::SIGKILL).unwrap();
    for (number, open) in waiting.iter_mut().enumerate() {
        let answer = open.answer().unwrap_or_else(|error| panic!("waiting connection {number}: {error}"));
        assert_eq!((answer.status, answer.header("x-nonce")), (200, Some(number.to_string().as_str())));
    }
    let start = Instant::now();
    let error = in_flight.answer().unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(2) && error.kind() != ErrorKind::WouldBlock,
        "in flight is reset, not left hanging: {error}"
    );
    let status = retail.lab.status();
    assert_ne!(status.engine.pid, Some(engine.as_raw().cast_unsigned()));
    assert!(status.engine.restarts >= 1);
    retail.blue.http(vip).unwrap().nonce("after").unwrap();
}

#[test]
fn under_load_an_engine_kill_costs_only_what_was_in_flight() {
    let retail = Retail::start();
    let vip = retail.orders();
    let loads: Vec<Load> = (0..4).map(|number| Load::start(&retail.blue, vip, number % 2 == 0, u64::MAX)).collect();
    let done = || loads.iter().map(Load::done).sum::<u64>();
    wait_until("requests flow", Duration::from_secs(10), || done() > 2_000);
    kill(retail.lab.engine_pid(), Signal::SIGKILL).unwrap();
    wait_until("a successor runs", Duration::from_secs(5), || {
        retail.lab.try_status().is_ok_and(|status| status.engine.restarts == 1 && status.engine.state == "running")
    });
    let at = done();
    wait_until("requests flow again", Duration::from_secs(10), || done() > at + 2_000);
    for tally in loads.into_iter().map(Load::finish) {
        // What was in flight at the kill, and what the dead engine had accepted but not read.
        assert!(tally.failed <= 3, "{} of {} failed: {:?}", tally.failed, tally.sent, tally.errors);
        assert!(tally.good > 300, "{tally:?}");
    }
}

#[test]
fn without_a_successor_clients_are_reset_at_once() {
    let retail = Retail::start();
    let vip = retail.orders();
    retail.blue.http(vip).unwrap().nonce("before").unwrap();
    // No successor can be started: something lies where its socket belongs.
    let socket = retail.lab.run_dir().join("engine.sock");
    fs::remove_file(&socket).unwrap();
    fs::create_dir(&socket).unwrap();
    let engine = retail.lab.engine_pid();
    kill(engine, Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    // Connections that come right then wait for a successor, 100 ms and no longer.
    let mut waiting: Vec<TcpStream> =
        (0..20).filter_map(|_| retail.blue.connect_within(vip, Duration::from_secs(2)).ok()).collect();
    assert!(!waiting.is_empty(), "nobody waited");
    for stream in &mut waiting {
        assert!(is_reset(stream), "left hanging");
    }
    assert!(killed.elapsed() < PROMISED + SCHEDULING, "those who waited were reset after {:?}", killed.elapsed());
    for _ in 0..20 {
        let start = Instant::now();
        // Refused, or accepted by the kernel just before and then reset: never left hanging.
        let ended = match retail.blue.connect_within(vip, Duration::from_secs(2)) {
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
            Ok(mut stream) => is_reset(&mut stream),
        };
        assert!(ended && start.elapsed() < Duration::from_millis(500), "hung for {:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    retail.lab.dropped("EngineDown", 1);
    assert_ne!(retail.lab.status().health, brattice_wire::api::Health::Ok);
    fs::remove_dir(&socket).unwrap();
    wait_until("a successor serves", Duration::from_secs(10), || {
        retail.blue.http(vip).and_then(|mut open| open.nonce("n")).is_ok()
    });
}

/// How long connections wait for the successor of an engine that died.
const PROMISED: Duration = Duration::from_millis(100);
/// What a busy machine may add.
const SCHEDULING: Duration = Duration::from_millis(150);

fn is_reset(stream: &mut TcpStream) -> bool {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}
