//! Header fields on their way, in each combination of versions.

use brattice_wire::{
    engine::Limits,
    snapshot::{ForwardedHeaders, ProtocolVersion},
};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::support::*;

/// What the target sees of a raw HTTP/1.1 request with these lines.
async fn seen(engine: &Engine, server: &Server, lines: &str) -> HeaderMap {
    let mut client = engine.connect(CALLER).await;
    client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{lines}\r\n").as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    server.last().headers
}

/// What the engine says to a target about a call without identity and service network.
const OURS: [&str; 7] = [
    "x-amzn-lattice-network",
    "x-amzn-lattice-target",
    "x-amzn-requestid",
    "x-amzn-source-vpc",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
];

#[tokio::test]
async fn callers_cannot_set_the_fields_of_brattice() {
    for to in [ProtocolVersion::Http1, ProtocolVersion::Http2] {
        let server = Server::echo(to == ProtocolVersion::Http2).await;
        let engine = Engine::serving(Limits::default(), to, &[server.address]).await;
        for line in [
            "x-amzn-lattice-identity: Principal=root\r\n",
            "X-Amzn-Lattice-Network: x\r\n",
            "x-AMZN-lattice-TARGET: x\r\n",
            "x_amzn_lattice_identity: x\r\n",
            "X-Amzn_Lattice-Identity: x\r\n",
            "x-amzn-lattice-identity_tags: x\r\n",
            "x-amzn-lattice-anything: x\r\n",
            "x-amzn-source-vpc: x\r\n",
            "X_Amzn_Source_Vpc: x\r\n",
            "x-brattice-workload: x\r\n",
            "X_BRATTICE_WORKLOAD: x\r\n",
            "x_forwarded_for: 1.2.3.4\r\n",
            "X-Forwarded_For: 1.2.3.4\r\n",
            "x_forwarded_proto: https\r\n",
            "x_amzn_requestid: x\r\n",
            "content_length: 5\r\n",
            "transfer_encoding: chunked\r\n",
            "x-amzn-lattice-identity: a\r\nx-amzn-lattice-identity: b\r\n",
            "connection: x-amzn-lattice-identity\r\nx-amzn-lattice-identity: x\r\n",
            "connection: close, x-brattice-a\r\nx-brattice-a: x\r\n",
            // Hop by hop.
            "connection: x-hop\r\nx-hop: 1\r\n",
            "Connection: foo,X-Hop , bar\r\nX-HOP: 1\r\n",
            "connection: a\r\nconnection: x-hop\r\nx-hop: 1\r\n",
            "keep-alive: timeout=5\r\n",
            "proxy-connection: keep-alive\r\n",
            "proxy-authorization: Basic x\r\n",
            "Proxy-Anything: x\r\n",
            "te: gzip\r\n",
            "upgrade: h2c\r\nhttp2-settings: AAA\r\nconnection: upgrade, http2-settings\r\n",
            "HTTP2_Settings: AAA\r\n",
        ] {
            let headers = seen(&engine, &server, &format!("x-control: 1\r\n{line}")).await;
            let mut left: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
            left.sort_unstable();
            let mut expected = [&OURS[..], &["x-control"]].concat();
            expected.sort_unstable();
            if to == ProtocolVersion::Http1 {
                expected.insert(0, "host");
            }
            assert_eq!(left, expected, "{line}");
            assert_eq!(headers["x-forwarded-for"], REAL.to_string(), "{line}");
        }
    }
}

#[tokio::test]
async fn http2_clients_lose_the_same() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut client = engine.http2(CALLER).await;
    let mut request = get2("/");
    for name in
        ["x-amzn-lattice-identity", "x_amzn_lattice_identity", "x-brattice-a", "x-amzn-source-vpc", "x_forwarded_for"]
    {
        request.headers_mut().insert(name, "x".parse().unwrap());
    }
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());
    client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    let headers = server.last().headers;
    let mut left: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, [&["cookie", "host"], &OURS[..]].concat());
    assert_eq!(headers["cookie"], "a=1; b=2");
    assert_eq!(headers["host"], HOST);
}

#[tokio::test]
async fn end_to_end_fields_stay() {
    for to in [ProtocolVersion::Http1, ProtocolVersion::Http2] {
        let server = Server::echo(to == ProtocolVersion::Http2).await;
        let engine = Engine::serving(Limits::default(), to, &[server.address]).await;
        let lines = "accept: a\r\naccept: b\r\nauthorization: Bearer x\r\nvia: 1.1 me\r\ncookie: a=1\r\nuser-agent: me\r\nte: trailers, deflate\r\nforwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\nx-forwarded-host: h\r\n";
        let headers = seen(&engine, &server, lines).await;
        assert_eq!(headers.get_all("accept").iter().count(), 2);
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("via", "1.1 me"),
            ("cookie", "a=1"),
            ("user-agent", "me"),
            ("te", "trailers"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-host", "h"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert_eq!(headers.contains_key("connection"), to == ProtocolVersion::Http1, "TE is named to HTTP/1 only");
    }
}

#[tokio::test]
async fn host_and_length_cannot_be_named_away() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut client = engine.connect(CALLER).await;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\nconnection: host, content-length, x-forwarded-for\r\ncontent-length: 5\r\n\r\nhello"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
    let headers = server.last().headers;
    assert_eq!((&headers["host"], &headers["content-length"]), (&HOST.parse().unwrap(), &"5".parse().unwrap()));
    assert_eq!(headers["x-forwarded-for"], REAL.to_string());
}

#[tokio::test]
async fn who_is_said_as_the_listener_says() {
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    let lines = "x-forwarded-for: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\nx-forwarded-port: 1\r\nx-forwarded-proto: https\r\n";
    for (mode, expected) in [
        (ForwardedHeaders::Replace, REAL.to_string()),
        (ForwardedHeaders::Append, format!("1.1.1.1, 2.2.2.2, 3.3.3.3, {REAL}")),
    ] {
        let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
        world.services[0].listeners[0].forwarded_headers = mode;
        engine.apply(world).await;
        let headers = seen(&engine, &server, lines).await;
        assert_eq!(headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), [expected.as_str()]);
        assert_eq!(headers["x-forwarded-port"], engine.port.to_string());
        assert_eq!(headers["x-forwarded-proto"], "http");
        let without = seen(&engine, &server, "").await;
        assert_eq!(without["x-forwarded-for"], REAL.to_string());
    }
}

#[tokio::test]
async fn request_ids() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut client = engine.connect(CALLER).await;
    let long = "x".repeat(600);
    for (given, expected) in [
        (None, None),
        (Some("abc-123"), Some("abc-123".to_owned())),
        (Some(long.as_str()), Some("x".repeat(512))),
        (Some("two words"), None),
        (Some("\u{e9}"), None),
        (Some(""), None),
    ] {
        let line = given.map(|id| format!("X-Amzn-RequestId: {id}\r\n")).unwrap_or_default();
        client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{line}\r\n").as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "GET / ").await;
        let returned: Vec<_> =
            answer.lines().filter_map(|line| line.strip_prefix("x-amzn-requestid: ")).map(str::to_owned).collect();
        let forwarded = server.last().headers["x-amzn-requestid"].to_str().unwrap().to_owned();
        assert_eq!(returned, std::slice::from_ref(&forwarded), "{given:?}");
        match expected {
            Some(expected) => assert_eq!(forwarded, expected),
            None => assert_eq!(uuid::Uuid::parse_str(&forwarded).unwrap().get_version_num(), 4, "{given:?}"),
        }
    }
}

#[tokio::test]
async fn answers_lose_what_is_ours_or_of_the_hop() {
    // hyper's server would not send some of these.
    let target = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n\
            x-amzn-lattice-identity: 1\r\nX_Brattice_A: 1\r\nupgrade: h2c\r\nx-amzn-requestid: theirs\r\nserver: s\r\nset-cookie: a\r\nset-cookie: b\r\n\
            transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let (_, headers, body) = engine.get("/").await;
    let mut left: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["date", "server", "set-cookie", "transfer-encoding", "x-amzn-requestid"]);
    assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
    assert_ne!(headers["x-amzn-requestid"], "theirs");
    assert_eq!(body, "ok");
    let mut client = engine.http2(CALLER).await;
    let response: Response<_> = client.send_request(get2("/")).await.unwrap();
    let mut left: Vec<&str> = response.headers().keys().map(http::HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["date", "server", "set-cookie", "x-amzn-requestid"]);
}
