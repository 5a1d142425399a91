//! Calls between VPCs with equal addresses.

use std::{net::TcpStream, sync::Barrier};

use brattice_tests::{
    client::{Connection, HOST, connect_from},
    lab::{NODE, Retail, Wiring, forward, service},
    server::{RawServer, Server},
};

/// `red` joins the network.
fn everybody() -> String {
    format!("{NODE}  serviceNetworks: [platform/retail]\n")
}

#[test]
fn equal_addresses_and_equal_ports_do_not_cross() {
    let retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.write("node.yaml", &everybody());
    let mut retail = retail;
    retail.lab.start_agent();
    let vip = retail.orders();
    let both_open = Barrier::new(2);
    std::thread::scope(|scope| {
        for caller in [&retail.blue, &retail.red] {
            let both_open = &both_open;
            scope.spawn(move || {
                caller.namespace.enter_this_thread();
                let stream = connect_from(40_001, vip).unwrap();
                assert_eq!(stream.local_addr().unwrap().to_string(), "10.0.0.10:40001");
                let mut connection = Connection::new(stream);
                connection.nonce("first").unwrap();
                both_open.wait();
                for number in 0..1_000 {
                    connection.nonce(&format!("{}-{number}", caller.interface)).unwrap();
                }
                both_open.wait();
            });
        }
    });
    assert_eq!(retail.v1.counters.requests(), 2_002);
}

#[test]
fn two_thousand_connections_each_get_their_own_answers() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.write("node.yaml", &everybody());
    retail.lab.start_agent();
    let vip = retail.orders();
    let barrier = Barrier::new(2);
    let all_open = &barrier;
    std::thread::scope(|scope| {
        for caller in [&retail.blue, &retail.red] {
            scope.spawn(move || {
                caller.namespace.enter_this_thread();
                let mut open: Vec<Connection> =
                    (0..1_000).map(|_| Connection::new(TcpStream::connect(vip).unwrap())).collect();
                all_open.wait();
                for round in 0..5 {
                    for (index, connection) in open.iter_mut().enumerate() {
                        connection.nonce(&format!("{}-{index}-{round}", caller.interface)).unwrap();
                    }
                }
                all_open.wait();
            });
        }
    });
    assert_eq!(retail.v1.counters.requests(), 10_000);
    let stats = retail.lab.status().engine.stats.unwrap();
    assert!(stats.connections_accepted >= 2_000, "{stats:?}");
}

#[test]
fn a_vpc_gets_a_service_while_it_is_associated_and_only_then() {
    let retail = Retail::start();
    let name = retail.lab.service("shop/orders").names[0].clone();
    let vip = retail.orders();
    let url = format!("http://{name}/");
    let red_gets = || {
        let (dns, _) = retail.red.dig(&[&name, "A"]);
        let by_name = retail.red.fetch(&[&url]).0;
        let by_vip = retail.red.http(vip).and_then(|mut open| open.get("/", "")).map_or(0, |answer| answer.status);
        (dns, by_name, by_vip)
    };
    let refused = |(dns, by_name, by_vip): (String, u16, u16)| {
        dns == "NXDOMAIN" && by_name == 0 && (by_vip == 0 || by_vip == 404)
    };
    assert_eq!(retail.blue.fetch(&[&url]).0, 200, "the service works at all");
    let before = red_gets();
    assert!(refused(before.clone()), "not associated: {before:?}");
    retail.lab.apply("node.yaml", &everybody());
    assert_eq!(red_gets(), ("NOERROR".to_owned(), 200, 200), "associated");
    retail.lab.apply("node.yaml", NODE);
    let after = red_gets();
    assert!(refused(after.clone()), "no longer associated: {after:?}");
    assert_eq!(retail.blue.fetch(&[&url]).0, 200, "the others do not notice");
    assert_eq!(retail.v1.counters.requests(), 4);
}

#[test]
fn an_invisible_service_looks_like_an_unknown_one() {
    let retail = Retail::start();
    let vip = retail.orders();
    let text = |host: &str| {
        let mut open = retail.red.http(vip).unwrap();
        open.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap();
        let answer = open.answer().unwrap();
        let fields: Vec<(String, String)> = answer
            .headers
            .clone()
            .into_iter()
            .filter(|(name, _)| name != "date" && name != "x-amzn-requestid")
            .collect();
        // Each request has an id of its own.
        let id = answer.header("x-amzn-requestid").unwrap_or("-").to_owned();
        (answer.status, fields, answer.text().replace(&id, "ID"))
    };
    let (invisible, unknown) = (text(HOST), text("nobody.example"));
    assert_eq!(invisible, unknown);
    assert_eq!(invisible.0, 404);
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn http2_goes_in_and_out() {
    let orders = service(&forward(1, 0))
        .replace("port: 8080, protocol: HTTP}", "port: 8080, protocol: HTTP, protocolVersion: HTTP2}");
    let retail = Retail::start_with(&orders);
    let vip = retail.orders();
    for arguments in [&["--http2-prior-knowledge"][..], &["--http1.1"]] {
        let url = format!("http://{vip}/a?b=c");
        let mut line = arguments.to_vec();
        let host = format!("host: {HOST}");
        line.extend(["-H", &host, &url]);
        let (status, body) = retail.blue.fetch(&line);
        assert_eq!(status, 200, "{arguments:?}: {body}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (json["version"].as_str(), json["path"].as_str(), json["query"].as_str()),
            (Some("HTTP/2.0"), Some("/a"), Some("b=c"))
        );
    }
    retail.lab.apply("accounts/shop/orders.yaml", &service(&forward(1, 0)));
    let (status, body) =
        retail.blue.fetch(&["--http2-prior-knowledge", "-H", &format!("host: {HOST}"), &format!("http://{vip}/")]);
    assert_eq!((status, body.contains("HTTP/1.1")), (200, true), "{body}");
    let load = retail.blue.namespace.run(&[
        "h2load",
        "-n",
        "2000",
        "-c",
        "4",
        "-m",
        "20",
        "-H",
        &format!(":authority: {HOST}"),
        &format!("http://{vip}/"),
    ]);
    assert!(load.stdout.contains("2000 succeeded, 0 failed, 0 errored"), "{}", load.text());
}

#[test]
fn trailers_and_interim_answers_pass() {
    let mut retail = Retail::start();
    let vip = retail.orders();
    let mut open = retail.blue.http(vip).unwrap();
    let answer = open.get("/trailers", "te: trailers\r\n").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "with trailers"));
    assert_eq!(answer.trailers, [("x-checksum".to_owned(), "abc123".to_owned())]);
    let request = format!(
        "POST /hash HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-amzn-lattice-evil\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\nX-Amzn-Lattice-Evil: 1\r\n\r\n"
    );
    open.send(request.as_bytes()).unwrap();
    let answer = open.answer().unwrap().json();
    assert_eq!(answer["length"], 5);
    assert_eq!(answer["trailers"]["x-sum"][0], "7");
    assert!(answer["trailers"].get("x-amzn-lattice-evil").is_none(), "{answer}");

    // A target that sends 103 before its answer.
    let green3 = retail.lab.workload("green3", "10.0.0.12", Wiring::Bridged("brgreen"));
    let hints = RawServer::start(
        &green3.namespace,
        8080,
        b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-nonce: n\r\n\r\nok",
    );
    retail.lab.alias("green3", green3.address);
    retail.lab.apply("accounts/shop/orders.yaml", &service(&forward(0, 1)).replace("10.0.0.11", "10.0.0.12"));
    let answer = open.get("/", "").unwrap();
    assert_eq!(
        (answer.status, answer.interim.as_slice(), answer.text().as_str()),
        (200, &[103][..], "ok"),
        "{}",
        hints.text()
    );
    // And 100 Continue, asked for by the client.
    retail.lab.apply("accounts/shop/orders.yaml", &service(&forward(1, 0)));
    open.send(
        format!("POST /hash HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").as_bytes(),
    )
    .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    open.send(b"hello").unwrap();
    let answer = open.answer().unwrap();
    assert_eq!((answer.status, answer.json()["length"].as_u64()), (200, Some(5)));
    assert_eq!(answer.interim, [100]);
    retail.lab.agent().stop();
}

#[test]
fn rules_choose_by_path_method_and_host() {
    let rules = format!(
        "{}
    rules:
    - {{name: exact, priority: 10, match: {{httpMatch: {{pathMatch: {{match: {{exact: /exact}}}}}}}}, action: {{fixedResponse: {{statusCode: 410}}}}}}
    - {{name: post, priority: 20, match: {{httpMatch: {{method: POST, pathMatch: {{match: {{prefix: /api}}}}}}}}, action: {{fixedResponse: {{statusCode: 405}}}}}}
    - {{name: two, priority: 30, match: {{httpMatch: {{pathMatch: {{match: {{prefix: /api}}}}}}}}, action: {}}}
    - {{name: late, priority: 40, match: {{httpMatch: {{pathMatch: {{match: {{exact: /api}}}}}}}}, action: {{fixedResponse: {{statusCode: 418}}}}}}
---
kind: TargetGroup
metadata: {{name: unused}}
spec: {{config: {{vpcIdentifier: platform/green, port: 8080, protocol: HTTP}}, targets: []}}
",
        service("DEFAULT").split("---").next().unwrap().replace("DEFAULT", &forward(1, 0)),
        forward(0, 1),
    );
    let groups: String = service("x").split("---").skip(1).map(|part| format!("---{part}")).collect();
    let retail = Retail::start_with(&format!("{rules}{groups}"));
    let vip = retail.orders();
    let mut open = retail.blue.http(vip).unwrap();
    assert_eq!(open.get("/exact", "").unwrap().status, 410);
    assert_eq!(open.get("/exact?query=1", "").unwrap().status, 410);
    assert_eq!(open.get("/exact/more", "").unwrap().server(), "v1");
    assert_eq!(open.get("/api/x", "").unwrap().server(), "v2");
    assert_eq!(open.get("/api", "").unwrap().server(), "v2", "the lower priority number wins");
    assert_eq!(open.get("/apiary", "").unwrap().server(), "v1", "a prefix ends at a segment");
    open.send(format!("POST /api/x HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(open.answer().unwrap().status, 405);
}

#[test]
fn a_target_sees_an_engine_source_and_who_called() {
    let retail = Retail::start();
    let mut open = retail.blue.http(retail.orders()).unwrap();
    let seen = open.get("/", "").unwrap().json();
    let peer: std::net::SocketAddrV4 = seen["peer"].as_str().unwrap().parse().unwrap();
    let [a, b, c, d] = peer.ip().octets();
    assert!((a, b, c) == (169, 254, 64) && (1..=16).contains(&d), "{peer}");
    assert_eq!(seen["headers"]["x-forwarded-for"][0], "10.0.0.10");
    assert_eq!(seen["headers"]["x-forwarded-port"][0], "80");
    assert_eq!(seen["headers"]["x-forwarded-proto"][0], "http");
    assert!(seen["headers"]["x-amzn-requestid"][0].as_str().is_some_and(|id| id.len() >= 16), "{seen}");
}

#[test]
fn a_workload_calls_a_service_that_it_serves_itself() {
    let retail = Retail::start();
    let mut open = retail.green.http(retail.orders()).unwrap();
    for number in 0..50 {
        assert_eq!(open.nonce(&format!("{number}")).unwrap().server(), "v1");
    }
}

#[test]
fn a_dead_target_is_a_gateway_error_and_its_return_is_noticed() {
    let mut retail = Retail::start();
    let vip = retail.orders();
    let mut open = retail.blue.http(vip).unwrap();
    assert_eq!(open.get("/", "").unwrap().status, 200);
    let port = retail.v1.port;
    retail.v1 = Server::start(&retail.green.namespace, "elsewhere", port + 1);
    let status = open.get("/", "").unwrap().status;
    assert!(status == 502 || status == 503, "{status}");
    let _back = Server::start(&retail.green.namespace, "back", port);
    assert_eq!(open.get("/", "").unwrap().server(), "back");
}
