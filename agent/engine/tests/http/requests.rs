//! Traffic is served and refused as the table of requests says, in both versions of HTTP; and what is no HTTP/2 is ended as
//! RFC 9113 says.

#[path = "../../../router/tests/requests/mod.rs"]
mod table;

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use tokio::io::AsyncWriteExt;

use crate::{frames::*, support::*};

/// The path, without the query, that the target saw last.
fn path(server: &Server) -> String {
    server.last().uri.path_and_query().unwrap().as_str().split('?').next().unwrap().to_owned()
}

#[tokio::test]
async fn http1_requests_become_what_the_table_says() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    for case in table::all() {
        let seen = server.seen();
        let end = format!(" HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", case.host);
        let answer = engine.raw(&[case.method.as_bytes(), b" ", &case.target, end.as_bytes()].concat()).await;
        match &case.path {
            Some(wanted) => {
                assert_eq!(status(&answer), 200, "{case:?}: {}", String::from_utf8_lossy(&answer));
                assert_eq!(path(&server), *wanted, "{case:?}");
            }
            None => assert_eq!((status(&answer), server.seen()), (400, seen), "{case:?}"),
        }
    }
}

#[tokio::test]
async fn http2_requests_become_what_the_table_says() {
    for to in [false, true] {
        let server = Server::echo(to).await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        for case in table::all() {
            let seen = server.seen();
            let block = block(&[
                (":method", case.method.as_bytes()),
                (":scheme", b"http"),
                (":path", &case.target),
                (":authority", case.host.as_bytes()),
            ]);
            let bytes = [frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)].concat();
            let end = end(&mut begun(&engine, &bytes).await, 1).await;
            match &case.path {
                Some(wanted) => {
                    assert_eq!(end, End::Answered(200), "{case:?} to {to}");
                    assert_eq!(path(&server), *wanted, "{case:?}");
                }
                // What its parser refuses has no answer, as RFC 9113, 8.1.1 has it.
                None => {
                    let refused = [End::Answered(400), End::Reset(PROTOCOL_ERROR), End::GoAway(PROTOCOL_ERROR)];
                    assert!(refused.contains(&end), "{case:?} to {to}: {end:?}");
                    assert_eq!(server.seen(), seen, "{case:?} to {to}");
                }
            }
        }
    }
}

/// The fields that begin a request.
fn begin(method: &str) -> Vec<u8> {
    block(&[(":method", method.as_bytes()), (":scheme", b"http"), (":path", b"/"), (":authority", HOST.as_bytes())])
}

#[tokio::test]
async fn http2_begins_with_settings() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &begin("GET"));
    let settings = frame(SETTINGS, 0, 0, &[]);
    let ping = frame(6, 0, 0, &[0; 8]);
    for first in [vec![&request, &settings], vec![&ping, &settings, &request]] {
        let bytes = first.into_iter().flatten().copied().collect::<Vec<u8>>();
        for cut in [bytes.len(), 1, 9] {
            let mut client = begun(&engine, &bytes[..cut]).await;
            tokio::task::yield_now().await;
            // It may be closed by now.
            let _ = client.write_all(&bytes[cut..]).await;
            assert_eq!(end(&mut client, 1).await, End::GoAway(PROTOCOL_ERROR), "cut at {cut}");
        }
    }
    assert_eq!(server.seen(), 0);
    let bytes = [settings, request].concat();
    for cut in [bytes.len(), 1, 9] {
        let mut client = begun(&engine, &bytes[..cut]).await;
        client.write_all(&bytes[cut..]).await.unwrap();
        assert_eq!(end(&mut client, 1).await, End::Answered(200), "control, cut at {cut}");
    }
}

#[tokio::test]
async fn trailers_have_no_pseudo_header_fields() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    // As literals, and as entries of the static table: `:path: /`, `:method: GET`.
    let literal = |name| block(&[(name, b"/admin")]);
    for (name, trailers) in [
        (":path", literal(":path")),
        (":status", literal(":status")),
        (":made-up", literal(":made-up")),
        ("an entry of the static table", vec![0x84]),
        ("another one", vec![0x82]),
        ("behind a field", [block(&[("x-sum", b"1")]), literal(":path")].concat()),
    ] {
        let bytes = [
            frame(SETTINGS, 0, 0, &[]),
            frame(HEADERS, END_HEADERS, 1, &begin("POST")),
            frame(DATA, 0, 1, b"hello"),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &trailers),
        ]
        .concat();
        let end = end(&mut begun(&engine, &bytes).await, 1).await;
        assert!([End::Reset(PROTOCOL_ERROR), End::GoAway(PROTOCOL_ERROR)].contains(&end), "{name}: {end:?}");
    }
    let bytes = [
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &begin("POST")),
        frame(DATA, 0, 1, b"hello"),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("x-sum", b"1")])),
    ]
    .concat();
    assert_eq!(end(&mut begun(&engine, &bytes).await, 1).await, End::Answered(200), "control");
}
