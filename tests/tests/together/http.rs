//! Hostile and odd HTTP.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use brattice_tests::{
    client::{Connection, HOST},
    lab::{Retail, forward, service},
    server::RawServer,
};

/// Version 2's address is played by a raw server: what arrives there is what really left the engine.
fn with_raw_target() -> (Retail, RawServer) {
    let mut retail = Retail::prepare(&service(&forward(0, 1)).replace(
        "port: 8080, protocol: HTTP}, targets: [{id: 10.0.0.11}]",
        "port: 8090, protocol: HTTP}, targets: [{id: 10.0.0.11}]",
    ));
    let raw = RawServer::start(
        &retail.green2.namespace,
        8090,
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-nonce: n\r\n\r\nok",
    );
    retail.lab.start_agent();
    (retail, raw)
}

#[test]
fn what_a_client_claims_about_itself_is_removed() {
    let retail = Retail::start();
    let mut open = retail.blue.http(retail.orders()).unwrap();
    let forged = "X-Amzn-Lattice-Identity: Principal=me\r\n\
                  x-amzn-lattice-network: SourceVpcArn=x\r\n\
                  X_AMZN_LATTICE_TARGET: y\r\n\
                  x-Amzn_Lattice-odd: z\r\n\
                  x-brattice-workload: root\r\n\
                  X-Forwarded-For: 1.2.3.4\r\n\
                  x-forwarded-port: 9\r\n\
                  x-forwarded-proto: https\r\n\
                  connection: x-secret, X-Amzn-Lattice-Identity\r\n\
                  x-secret: for the next hop only\r\n\
                  keep-alive: timeout=5\r\n\
                  proxy-connection: keep-alive\r\n\
                  x-harmless: stays\r\n";
    let seen = open.get("/", forged).unwrap().json();
    let headers = seen["headers"].as_object().unwrap();
    let ours =
        ["x-amzn-lattice-network", "x-amzn-lattice-target", "x-amzn-lattice-identity", "x-amzn-lattice-identity-tags"];
    for (name, values) in headers {
        let plain = name.replace('_', "-");
        if plain.starts_with("x-amzn-lattice") || plain.starts_with("x-brattice") {
            assert!(ours.contains(&name.as_str()), "{name} reached the target");
            let text = values.to_string();
            let forged = ["Principal=me", "SourceVpcArn=x", "\"y\"", "\"z\"", "root"];
            assert!(!forged.iter().any(|value| text.contains(value)), "{name} reached the target as {text}");
        }
    }
    assert!(seen["headers"]["x-amzn-lattice-network"][0].as_str().unwrap().starts_with("SourceVpcArn=arn:"), "{seen}");
    for name in ["x-secret", "keep-alive", "proxy-connection", "connection"] {
        assert!(!headers.contains_key(name), "{name} reached the target: {seen}");
    }
    assert_eq!(seen["headers"]["x-forwarded-for"], serde_json::json!(["10.0.0.10"]));
    assert_eq!(seen["headers"]["x-forwarded-port"], serde_json::json!(["80"]));
    assert_eq!(seen["headers"]["x-forwarded-proto"], serde_json::json!(["http"]));
    assert_eq!(seen["headers"]["x-harmless"], serde_json::json!(["stays"]), "what is harmless stays");
    assert_eq!(seen["headers"]["host"], serde_json::json!([HOST]));

    let append =
        service(&forward(1, 0)).replace("  - protocol: HTTP\n", "  - protocol: HTTP\n    forwardedHeaders: append\n");
    retail.lab.apply("accounts/shop/orders.yaml", &append);
    let seen = open.get("/", forged).unwrap().json();
    let for_whom = seen["headers"]["x-forwarded-for"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_str().unwrap())
        .collect::<Vec<_>>()
        .join(", ");
    assert_eq!(for_whom, "1.2.3.4, 10.0.0.10");
}

#[test]
fn smuggled_requests_are_refused() {
    let (retail, raw) = with_raw_target();
    let vip = retail.orders();
    let smuggled: &[(&str, String)] = &[
        (
            "CL and TE",
            format!(
                "POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n"
            ),
        ),
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde"),
        ),
        ("a length with a sign", format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: +4\r\n\r\nabcd")),
        (
            "chunked twice",
            format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "not chunked last",
            format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ),
        ("xchunked", format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("obs-fold", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-a: b\r\n c: d\r\n\r\n")),
        ("space before the colon", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length : 4\r\n\r\nabcd")),
        ("bare LF", format!("GET / HTTP/1.1\nhost: {HOST}\n\n")),
        ("bare LF in a field", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-a: b\nx-c: d\r\n\r\n")),
        ("bare CR in a field", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-a: b\rx-c: d\r\n\r\n")),
        ("NUL in a field", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-a: b\0c\r\n\r\n")),
        ("two hosts", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nhost: other\r\n\r\n")),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("TE in HTTP/1.0", format!("POST / HTTP/1.0\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("garbage", "\u{1}\u{2}\u{3} nonsense\r\n\r\n".to_owned()),
    ];
    for (what, bytes) in smuggled {
        let before = raw.received.lock().unwrap().len();
        let mut open = retail.blue.http(vip).unwrap();
        open.send(bytes.as_bytes()).unwrap();
        match open.answer() {
            Ok(answer) => {
                assert!((400..500).contains(&answer.status) || answer.status == 501, "{what}: {}", answer.status);
                assert!(open.is_closed_within(Duration::from_secs(3)), "{what}: the connection goes on");
            }
            Err(error) => {
                assert!(
                    error.kind() != std::io::ErrorKind::WouldBlock,
                    "{what}: neither an answer nor an end: {error}"
                );
            }
        }
        assert_eq!(raw.received.lock().unwrap().len(), before, "{what}: reached the target: {}", raw.text());
    }
    // A bad chunk is seen only after the head was forwarded: the target must never see a whole request.
    for (what, chunks) in [
        ("a chunk size that is none", "zz\r\nabcd\r\n0\r\n\r\n"),
        ("a chunk longer than it says", "2\r\nabcd\r\n0\r\n\r\n"),
        ("a chunk size with bare LF", "4\nabcd\r\n0\r\n\r\n"),
        ("a chunk size that overflows", "fffffffffffffffff\r\nabcd\r\n0\r\n\r\n"),
    ] {
        let mut open = retail.blue.http(vip).unwrap();
        open.send(format!("POST /bad HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        if let Ok(answer) = open.answer() {
            // The raw server answers at the end of the head already.
            assert!(answer.status == 200 || (400..600).contains(&answer.status), "{what}: {}", answer.status);
        }
        assert!(open.is_closed_within(Duration::from_secs(3)), "{what}: the connection goes on");
        assert!(!raw.text().contains("/smuggled"), "{what}: {}", raw.text());
    }
    // The same with good chunks passes, and so does what follows it.
    let mut open = retail.blue.http(vip).unwrap();
    open.send(
        format!("POST /good HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n")
            .as_bytes(),
    )
    .unwrap();
    assert_eq!(open.answer().unwrap().status, 200);
    assert!(raw.text().contains("/good"));
    let stats = retail.lab.status().engine.stats.unwrap();
    assert!(stats.refused_requests >= 10, "{stats:?}");
}

#[test]
fn requests_that_follow_each_other_in_one_packet_are_all_answered() {
    let retail = Retail::start();
    let mut open = retail.blue.http(retail.orders()).unwrap();
    let three: String =
        (0..3).map(|number| format!("GET /{number} HTTP/1.1\r\nhost: {HOST}\r\nx-nonce: {number}\r\n\r\n")).collect();
    open.send(three.as_bytes()).unwrap();
    for number in 0..3 {
        let answer = open.answer().unwrap();
        assert_eq!((answer.status, answer.header("x-nonce")), (200, Some(number.to_string().as_str())));
    }
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let retail = Retail::start();
    let mut open = retail.blue.http(retail.orders()).unwrap();
    for status in [204, 304, 404, 500] {
        assert_eq!(open.get(&format!("/status/{status}"), "").unwrap().status, status);
    }
    assert_eq!(open.nonce("n").unwrap().status, 200);
    let (status, body) =
        retail.blue.fetch(&["--head", "-H", &format!("host: {HOST}"), &format!("http://{}/", retail.orders())]);
    assert_eq!((status, body.contains("x-server: v1")), (200, true), "{body}");
    let reset = open.get("/reset", "").unwrap().status;
    assert!(reset == 502 || reset == 503, "a target that closes without an answer: {reset}");
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn too_many_or_too_long_headers_are_refused() {
    let retail = Retail::start();
    let vip = retail.orders();
    let status = |more: &str| {
        let mut open = retail.blue.http(vip).unwrap();
        let sent = open.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{more}\r\n").as_bytes());
        match open.answer() {
            Ok(answer) => answer.status,
            Err(_) => u16::from(sent.is_ok()),
        }
    };
    let many = |count: usize| (0..count).map(|number| format!("x-{number}: a\r\n")).collect::<String>();
    assert_eq!(status(&many(80)), 200, "80 fields are fine");
    assert_eq!(status(&many(150)), 431);
    assert_eq!(status(&format!("x-long: {}\r\n", "a".repeat(30_000))), 200, "30,000 bytes are fine");
    assert_eq!(status(&format!("x-long: {}\r\n", "a".repeat(70_000))), 431);
    let hit = retail.lab.status().engine.stats.unwrap().limits_hit;
    for name in ["headers", "header_bytes"] {
        assert!(hit.iter().any(|(limit, times)| limit == name && *times > 0), "{name}: {hit:?}");
    }
}

#[test]
fn a_client_that_never_ends_its_header_is_closed_and_others_go_on() {
    let retail = Retail::start();
    let vip = retail.orders();
    let mut slow: Vec<Connection> = (0..50).map(|_| retail.blue.http(vip).unwrap()).collect();
    for open in &mut slow {
        open.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-slow").as_bytes()).unwrap();
    }
    let start = Instant::now();
    let mut good = retail.blue.http(vip).unwrap();
    while start.elapsed() < Duration::from_secs(8) {
        good.nonce("n").unwrap();
        // One byte now and then does not buy more time.
        for open in &mut slow {
            let _ = open.stream().write_all(b"y");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    for open in &mut slow {
        if let Ok(answer) = open.answer() {
            assert_eq!(answer.status, 408);
        }
        assert!(open.is_closed_within(Duration::from_secs(6)), "still open after {:?}", start.elapsed());
    }
    assert!(start.elapsed() < Duration::from_secs(25));
    good.nonce("n").unwrap();
}
