//! What is decided about each request, and the response to the caller.

use brattice_engine::events::metrics::{count::Count, series::Row};
use brattice_wire::{
    auth::AuthType,
    engine::Limits,
    snapshot::{Action, FixedResponse, ProtocolVersion},
};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::{scene::*, support::*};

/// Lattice's message to a caller with a role that nothing of the service's policy is about.
fn wording(user: &str, path: &str) -> String {
    format!(
        "AccessDeniedException: User: {user} is not authorized to perform: vpc-lattice-svcs:Invoke on resource: \
         {SERVICE}{path} because no service-based policy allows the vpc-lattice-svcs:Invoke action"
    )
}

#[tokio::test]
async fn each_request_of_a_kept_connection_is_decided() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[&allow("*/public/*"), WEB]).await;
    for (from, user) in [(CALLER, SESSION), (NEIGHBOUR, "anonymous")] {
        let mut client = engine.http1(from).await;
        for path in ["/public/a", "/private", "/public/b", "/public/../private", "/x/%2e%2e/public/c"] {
            let seen = server.seen();
            client.ready().await.unwrap();
            let response = client.send_request(get(path)).await.unwrap();
            let normal = if path.contains("private") { "/private" } else { "/public" };
            let passes = from == CALLER || normal == "/public";
            assert_eq!(response.status(), if passes { StatusCode::OK } else { StatusCode::FORBIDDEN }, "{user} {path}");
            let id = response.headers()["x-amzn-requestid"].to_str().unwrap().to_owned();
            let kind = response.headers().get("content-type").cloned();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            if !passes {
                assert_eq!(body, format!("{}\nrequest id: {id}\n", wording(user, normal)), "{path}");
                assert!(kind.unwrap().to_str().unwrap().starts_with("text/plain"));
            }
            assert_eq!(server.seen() - seen, u64::from(passes), "{user} {path}: what is denied reaches no target");
        }
    }
    engine.until("counted", |stats| stats.responses[3] == 2).await;
}

#[tokio::test]
async fn http2_streams_are_decided_one_by_one() {
    let server = Server::echo(true).await;
    let engine = Engine::start(Limits::default());
    let world = guarded(&engine, 1, ProtocolVersion::Http2, &[server.address], &[&allow("*/public/*")]);
    engine.apply(world).await;
    let mut client = engine.http2(CALLER).await;
    for (path, passes) in [("/public/a", true), ("/private", false), ("/public/b", true)] {
        let response = client.send_request(get2(path)).await.unwrap();
        assert_eq!(response.status(), if passes { StatusCode::OK } else { StatusCode::FORBIDDEN }, "{path}");
        assert!(response.headers().contains_key("x-amzn-requestid"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.starts_with(wording(SESSION, path).as_bytes()), !passes, "{body:?}");
    }
    assert_eq!(server.seen(), 2);
}

#[tokio::test]
async fn a_denied_head_has_no_body() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[&allow("*/public/*")]).await;
    for (path, status) in [("/private", "HTTP/1.1 403"), ("/public/a", "HTTP/1.1 200")] {
        let request = format!("HEAD {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let answer = String::from_utf8(engine.raw(request.as_bytes()).await).unwrap();
        assert!(answer.starts_with(status) && answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn grpc_is_told_in_its_own_way() {
    let server = Server::echo(true).await;
    let engine = Engine::start(Limits::default());
    let world = guarded(&engine, 1, ProtocolVersion::Http2, &[server.address], &[&allow("*/shop.Orders/Get")]);
    engine.apply(world).await;
    let mut client = engine.http2(CALLER).await;
    for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC; x=1"] {
        let call = |method: &str| {
            let uri = format!("http://{HOST}/shop.Orders/{method}");
            Request::builder()
                .method(Method::POST)
                .uri(uri)
                .header("content-type", kind)
                .body(full("\0\0\0\0\0"))
                .unwrap()
        };
        let response = client.send_request(call("Cancel%25")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers().clone();
        assert_eq!(
            (headers["grpc-status"].to_str().unwrap(), headers["content-type"].to_str().unwrap()),
            ("7", "application/grpc")
        );
        let message = headers["grpc-message"].to_str().unwrap();
        assert!(
            message.starts_with("AccessDeniedException: User: ") && message.contains("/Cancel%2525 because"),
            "{message}"
        );
        assert!(headers.contains_key("x-amzn-requestid"));
        let body = response.into_body().collect().await.unwrap();
        assert!(body.trailers().is_none(), "trailers-only");
        assert!(body.to_bytes().is_empty());
        let seen = server.seen();
        let passed = client.send_request(call("Get")).await.unwrap();
        assert!(passed.status() == StatusCode::OK && !passed.headers().contains_key("grpc-status"), "control");
        assert_eq!(server.seen(), seen + 1);
    }
    let plain = Request::post(format!("http://{HOST}/shop.Orders/Cancel")).header("content-type", "text/grpc");
    let response = client.send_request(plain.body(full("")).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "who does not speak gRPC");
    drop(response);
    // Counted as what they are, though status 200 is what their callers see.
    let stats = engine.stats();
    assert_eq!((stats.responses[1], stats.responses[3], stats.denied.iter().sum::<u64>()), (3, 4, 4));
    let count = |row: fn(&Row) -> u64| engine.shared.counters.series.all().iter().map(|one| one.sum(row)).sum::<u64>();
    let counted = || {
        let denied = count(|row| row.denied.iter().map(Count::get).sum());
        (count(|row| row.responses[2].get()), count(|row| row.responses[4].get()), denied)
    };
    let start = std::time::Instant::now();
    while counted() != (3, 4, 4) {
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", counted());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn answers_of_our_own_are_guarded_as_well() {
    let engine = Engine::start(Limits::default());
    let fixed = || Action::FixedResponse(FixedResponse { status: 204, content_type: None, body: String::new() });
    let mut world = guarded(&engine, 1, ProtocolVersion::Http1, &[], &[&allow("*/public/*")]);
    world.services[0].listeners = vec![listener(engine.port, fixed())];
    engine.apply(world).await;
    assert_eq!(engine.get("/public/a").await.0, StatusCode::NO_CONTENT);
    assert_eq!(engine.get("/private").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_denied_upgrade_reaches_no_target() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[&allow("*/public/*")]).await;
    let mut client = engine.connect(CALLER).await;
    for (path, passes) in [("/socket", false), ("/public/socket", true)] {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, if passes { "GET /public" } else { "request id" }).await;
        assert!(answer.starts_with(if passes { "HTTP/1.1 200" } else { "HTTP/1.1 403" }), "{answer}");
        assert_eq!(server.seen(), u64::from(passes));
    }
}

#[tokio::test]
async fn a_service_that_is_not_seen_is_unknown_and_not_forbidden() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[WEB]).await;
    let response = engine.http1(STRANGER).await.send_request(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let response = engine.http1(NEIGHBOUR).await.send_request(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "who sees it and may not call it");
}

#[tokio::test]
async fn a_new_revision_counts_from_the_next_request_of_a_kept_connection() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[EVERYBODY]).await;
    let targets = [server.address];
    let mut client = engine.http1(CALLER).await;
    // All of these may be believed for a connection, and none for longer than its revision.
    let refused = |revision: u64, change: &dyn Fn(&mut brattice_wire::snapshot::Snapshot)| {
        let mut world = guarded(&engine, revision, ProtocolVersion::Http1, &targets, &[EVERYBODY]);
        change(&mut world);
        world
    };
    let worlds = [
        (refused(2, &|_| {}), 200),
        (refused(3, &|world| world.services[0].policy = None), 403),
        (refused(4, &|_| {}), 200),
        (refused(5, &|world| world.networks[0].auth_type = AuthType::AwsIam), 403),
        (refused(6, &|_| {}), 200),
    ];
    for (world, status) in worlds {
        let revision = world.revision;
        // A request that is refused keeps no connection from being kept, one that was let through does.
        client = if client.ready().await.is_ok() { client } else { engine.http1(CALLER).await };
        engine.apply(world).await;
        let response = match client.send_request(get("/")).await {
            Ok(response) => response,
            Err(_) => {
                client = engine.http1(CALLER).await;
                client.send_request(get("/")).await.unwrap()
            }
        };
        assert_eq!(response.status().as_u16(), status, "revision {revision}");
        response.into_body().collect().await.unwrap();
    }
}
