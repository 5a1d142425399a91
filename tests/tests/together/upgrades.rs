//! WebSocket and other upgrades of HTTP/1.1.

use std::{
    io::{Read, Write},
    time::Duration,
};

use brattice_tests::{
    client::{HOST, NotUpgraded, Received, WebSocket},
    lab::{Retail, forward, service, wait_until},
};

#[test]
fn websockets_pass_both_ways() {
    let retail = Retail::start();
    let vip = retail.orders();
    let mut socket = WebSocket::open(&retail.blue, vip, "/chat?room=1", &[("x-nonce", "n")]).unwrap();
    assert_eq!(socket.response.headers()["x-server"], "v1");
    assert!(socket.response.headers().contains_key("x-amzn-requestid"), "{:?}", socket.response);
    for length in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        socket.echo(&"é".repeat(length)).unwrap();
    }
    for number in 0..200 {
        socket.echo(&format!("{number}")).unwrap();
    }
    assert_eq!(retail.v1.counters.upgraded(), 1);
    drop(socket);
    wait_until("the end reaches the target", Duration::from_secs(2), || retail.v1.counters.upgraded() == 0);
    // The other way: the target ends first.
    let mut socket = WebSocket::open(&retail.blue, vip, "/chat", &[]).unwrap();
    socket.echo("before").unwrap();
    drop(retail.v1);
    assert_eq!(socket.receive(Duration::from_secs(5)), Received::End);
}

#[test]
fn a_websocket_survives_reloads_and_agents() {
    let mut retail = Retail::start();
    let vip = retail.orders();
    let mut sockets: Vec<WebSocket> = (0..10).map(|_| WebSocket::open(&retail.blue, vip, "/", &[]).unwrap()).collect();
    let echo = |sockets: &mut Vec<WebSocket>, text: &str| {
        for socket in sockets {
            socket.echo(text).unwrap();
        }
    };
    echo(&mut sockets, "at first");
    retail.lab.apply("accounts/shop/orders.yaml", &service(&forward(0, 1)));
    echo(&mut sockets, "after a reload that sends others elsewhere");
    assert_eq!(retail.v1.counters.upgraded(), 10);
    assert_eq!(WebSocket::open(&retail.blue, vip, "/", &[]).unwrap().response.headers()["x-server"], "v2");
    assert_eq!(retail.lab.agent().stop(), 0);
    echo(&mut sockets, "without an agent");
    retail.lab.start_agent();
    echo(&mut sockets, "with the next agent");
    retail.lab.agent().kill();
    echo(&mut sockets, "after an agent's sudden end");
    retail.lab.start_agent();
    retail.lab.apply("accounts/shop/orders.yaml", &service(&forward(1, 0)));
    echo(&mut sockets, "and a reload by its successor");
    assert_eq!(retail.v1.counters.upgraded(), 10);
}

#[test]
fn any_protocol_may_be_upgraded_to() {
    let retail = Retail::start();
    let mut stream = retail.blue.connect(retail.orders()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET /x HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("\r\nupgrade: echo\r\n") && head.contains("\r\nconnection: "), "{head}");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| ((number * 7) >> 3) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent));
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes, "a megabyte comes back as it was");
    writing.join().unwrap().unwrap();
    // A half-closed side is passed on to the other, which then closes.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut byte).unwrap(), 0);
    wait_until("closed at the target", Duration::from_secs(2), || retail.v1.counters.upgraded() == 0);
}

#[test]
fn an_upgrade_that_the_target_refuses_is_an_answer_like_any_other() {
    let retail = Retail::start();
    let vip = retail.orders();
    match WebSocket::open(&retail.blue, vip, "/refuse", &[]) {
        Err(NotUpgraded::Refused(status, _)) => assert_eq!(status, 200),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("the target did not upgrade"),
    }
    let mut open = retail.blue.http(vip).unwrap();
    let upgrade = "connection: upgrade\r\nupgrade: echo\r\n";
    assert_eq!(open.get("/refuse", upgrade).unwrap().server(), "v1");
    assert_eq!(open.nonce("n").unwrap().server(), "v1", "the connection goes on");
    assert_eq!(open.get("/", "connection: upgrade\r\nupgrade: unheard-of\r\n").unwrap().status, 200);
    assert_eq!(open.nonce("n").unwrap().server(), "v1");
    assert_eq!(retail.v1.counters.upgraded(), 0);
}
