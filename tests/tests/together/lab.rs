//! The lab itself, without Brattice: what the other tests rely on.

use brattice_tests::{
    lab::{Lab, Wiring},
    server::{RawServer, Server, pattern_hash},
};

#[test]
fn a_routed_and_a_bridged_workload_reach_the_node_and_their_server() {
    let lab = Lab::new();
    let a = lab.workload("blue1", "10.0.0.10", Wiring::Bridged("brblue"));
    let b = lab.workload("blue2", "10.0.0.11", Wiring::Bridged("brblue"));
    let routed = lab.workload("red1", "10.0.0.10", Wiring::Routed);
    let server = Server::start(&b.namespace, "b", 8080);
    let mut connection = a.http("10.0.0.11:8080".parse().unwrap()).unwrap();
    for number in 0..100 {
        let answer = connection.nonce(&format!("n{number}")).unwrap();
        assert_eq!(answer.server(), "b");
    }
    assert_eq!(server.counters.requests(), 100);
    assert_eq!(connection.get("/status/404", "").unwrap().status, 404);
    let answer = connection.get("/trailers", "te: trailers\r\n").unwrap();
    assert_eq!(answer.trailers, [("x-checksum".to_owned(), "abc123".to_owned())]);
    let bytes = connection.get("/bytes/100000", "").unwrap().body;
    assert_eq!(bytes.len(), 100_000);
    let node = Server::start(&lab.node, "node", 8080);
    let answer = routed.http("10.0.0.1:8080".parse().unwrap()).unwrap().nonce("n").unwrap();
    assert_eq!(answer.server(), node.name, "a routed workload reaches its gateway");
    let (status, body) = a.fetch(&["http://10.0.0.11:8080/x"]);
    assert_eq!((status, body.contains("\"server\":\"b\"")), (200, true));
    let (status, _) = a.fetch(&["--http2-prior-knowledge", "http://10.0.0.11:8080/x"]);
    assert_eq!(status, 200);
    let hash = {
        connection.send(b"POST /hash HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n").unwrap();
        let mut five = [0; 5];
        brattice_tests::server::fill(0, &mut five);
        connection.send(&five).unwrap();
        connection.answer().unwrap().json()
    };
    assert_eq!(hash["sha256"], pattern_hash(5));
}

#[test]
fn a_raw_server_shows_what_it_was_sent() {
    let lab = Lab::new();
    let a = lab.workload("blue1", "10.0.0.10", Wiring::Bridged("brblue"));
    let b = lab.workload("blue2", "10.0.0.11", Wiring::Bridged("brblue"));
    let server = RawServer::start(
        &b.namespace,
        8080,
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let answer = a.http("10.0.0.11:8080".parse().unwrap()).unwrap().get("/a", "x-odd: 1\r\n").unwrap();
    assert_eq!((answer.status, answer.interim, answer.body.as_slice()), (200, vec![103], &b"ok"[..]));
    assert!(server.text().contains("x-odd: 1"));
}

#[test]
fn nothing_is_left_of_a_lab_that_was_dropped() {
    let lab = Lab::new();
    let id = lab.id.clone();
    let a = lab.workload("blue1", "10.0.0.10", Wiring::Routed);
    let mut sleeper = a.namespace.command("sleep").arg("60").spawn().unwrap();
    drop(lab);
    assert!(!sleeper.wait().unwrap().success(), "a process inside is killed");
    for folder in ["/run/netns", "/etc/netns", "/tmp", "/sys/fs/bpf"] {
        let left: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(&format!("{id}-")) || *name == id)
            .collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}
