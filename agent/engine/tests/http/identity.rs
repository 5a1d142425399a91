//! Who calls, what it may see, and that nothing else shows.

use brattice_wire::{
    engine::Limits,
    index::VpcIndex,
    snapshot::{AliasGeneration, ProtocolVersion, Snapshot},
};
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

fn request(host: &str) -> Vec<u8> {
    // With a request id of its own, an answer has nothing that changes from one request to the next but the date.
    format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-amzn-requestid: fixed\r\nconnection: close\r\n\r\n").into_bytes()
}

async fn answer(engine: &Engine, from: std::net::Ipv4Addr, vip: std::net::Ipv4Addr, host: &str) -> String {
    let mut client = engine.connect_to(from, vip).await;
    client.write_all(&request(host)).await.unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    let (before, after) = all.split_once("date: ").unwrap();
    format!("{before}{}", after.split_once("\r\n").unwrap().1)
}

#[tokio::test]
async fn unknown_and_invisible_services_are_the_same_bytes() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let unknown = answer(&engine, CALLER, VIP, "nothing.example").await;
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    for (what, from, vip, host) in [
        ("the right host, not associated", STRANGER, VIP, HOST),
        ("the VIP itself, not associated", STRANGER, VIP, "127.20.0.1"),
        ("another VIP", CALLER, std::net::Ipv4Addr::new(127, 20, 0, 2), HOST),
        ("an empty host", CALLER, VIP, ""),
        ("a suffix", CALLER, VIP, "a.orders.example"),
        ("another VIP as host", CALLER, VIP, "127.20.0.2"),
    ] {
        assert_eq!(answer(&engine, from, vip, host).await, unknown, "{what}");
    }
    assert_eq!(engine.stats().unknown_service, 7);
    assert_eq!(server.seen(), 0);
    for host in
        [HOST, "ORDERS.example", "orders.example.", "orders.example:81", "orders-0.svc.brattice.internal", "127.20.0.1"]
    {
        assert!(answer(&engine, CALLER, VIP, host).await.starts_with("HTTP/1.1 200 "), "control: {host}");
    }
}

#[tokio::test]
async fn two_vpcs_with_the_same_vip_and_host_never_meet() {
    let (blue, red) = (
        Server::start(false, TARGET, |_| async { Ok(http::Response::new(full("blue"))) }).await,
        Server::start(false, TARGET, |_| async { Ok(http::Response::new(full("red"))) }).await,
    );
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[blue.address]);
    world.services.push(service("other", VIP, &[HOST], vec![listener(engine.port, forward(&[(1, 1)]))]));
    world.target_groups.push(group("other", ProtocolVersion::Http1, &[red.address]));
    world.vpcs[1].services = visible(&[1]);
    engine.apply(world).await;
    let mut clients = Vec::new();
    for (from, expected) in [(CALLER, "blue"), (STRANGER, "red")] {
        clients.push((engine.http1(from).await, expected));
    }
    for _ in 0..200 {
        for (client, expected) in &mut clients {
            client.ready().await.unwrap();
            let response = client.send_request(get("/")).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), *expected);
        }
    }
    assert_eq!((blue.seen(), red.seen()), (200, 200));
}

#[tokio::test]
async fn association_decides_also_on_open_connections() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let world = |associated: bool| {
        let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
        world.vpcs[1].services = if associated { visible(&[0]) } else { Vec::new() };
        world
    };
    let mut client = engine.http1(STRANGER).await;
    for associated in [false, true] {
        engine.apply(world(associated)).await;
        client.ready().await.unwrap();
        let response = client.send_request(get("/")).await.unwrap();
        assert_eq!(response.status(), if associated { StatusCode::OK } else { StatusCode::NOT_FOUND });
        response.into_body().collect().await.unwrap();
    }
    // What was let through before is not any more: the connection ends, and a new one finds nothing.
    engine.apply(world(false)).await;
    engine.until("ended within a second", |stats| stats.connections_open == 0).await;
    assert!(client.ready().await.is_err() || client.send_request(get("/")).await.is_err());
    let response = engine.http1(STRANGER).await.send_request(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(engine.get("/").await.0, StatusCode::OK, "others stay");
}

#[tokio::test]
async fn peers_without_an_alias_are_reset_and_counted() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    assert!(engine.resets(NOBODY).await);
    engine.until("counted", |stats| stats.unknown_peers == 1).await;
    assert_eq!(server.seen(), 0);
    assert_eq!(engine.get("/").await.0, StatusCode::OK, "control");
}

#[tokio::test]
async fn a_caller_whose_alias_went_to_another_is_cut_off() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut client = engine.http1(CALLER).await;
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    world.workloads[0].generation = AliasGeneration::new(2);
    engine.apply(world).await;
    let _ = client.ready().await;
    assert!(client.send_request(get("/")).await.is_err(), "the old connection is not the new workload's");
    assert_eq!(engine.get("/").await.0, StatusCode::OK, "a new connection is");
}

#[tokio::test]
async fn hosts_and_authorities_must_agree_in_http2() {
    let server = Server::echo(true).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &[server.address]).await;
    let mut client = engine.http2(CALLER).await;
    let mut request = get2("/");
    request.headers_mut().insert("host", "other.example".parse().unwrap());
    assert_eq!(client.send_request(request).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let mut request = get2("/");
    request.headers_mut().insert("host", HOST.parse().unwrap());
    assert_eq!(client.send_request(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_contradictory_snapshot_is_refused_and_the_old_one_serves() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let good = engine.world(ProtocolVersion::Http1, &[server.address]);
    type Fault = Box<dyn Fn(&mut Snapshot)>;
    let mut faults: Vec<Fault> = Vec::new();
    faults.push(Box::new(|world| world.vpcs[0].services = visible(&[9])));
    faults.push(Box::new(|world| world.workloads[0].vpc = VpcIndex::new(9)));
    faults.push(Box::new(|world| world.services[0].listeners[0].default_action = forward(&[(9, 1)])));
    faults.push(Box::new(|world| {
        world.services[0].listeners[0].default_action = fixed(99);
    }));
    faults.push(Box::new(|world| world.workloads.push(workload(CALLER, REAL, 1, 3))));
    for fault in faults {
        let mut world = good.clone();
        world.revision = 2;
        fault(&mut world);
        assert!(engine.shared.apply(world).is_err());
    }
    assert_eq!(engine.stats().revision, 1);
    assert_eq!(engine.get("/").await.0, StatusCode::OK);
}
