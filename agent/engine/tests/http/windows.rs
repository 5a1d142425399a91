//! Responses that wait on a closed HTTP/2 window of their client: they are complete when the client's window has let them through,
//! and not before.

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use bytes::Bytes;
use serde_json::Value;

use crate::{log::Log, support::*};

/// What a client does with a response whose head it has, and whose body its window keeps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    OpensItsWindow,
    ResetsTheStream,
    Closes,
}

const THEN: [(Then, &str); 3] = [
    (Then::OpensItsWindow, "-"),
    (Then::ResetsTheStream, "ClientConnectionClosed"),
    (Then::Closes, "ClientConnectionClosed"),
];

/// An engine whose service `orders.example` forwards to an echo, and that knows no other.
async fn serving() -> Engine {
    let server = Server::echo(false).await;
    Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await
}

/// Status, reason and bytes of the line of a request for this host, and the bytes of the body that the client got.
async fn served(host: &str, then: Then) -> (Value, String, u64, u64) {
    let engine = serving().await;
    let log = Log::of(&engine, 1);
    let stream = engine.connect(CALLER).await;
    let mut builder = h2::client::Builder::new();
    let (client, mut connection) = builder.initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    let mut client = client.ready().await.unwrap();
    let request = http::Request::get(format!("http://{host}/")).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let mut body = tokio::select! {
        response = response => response.unwrap().into_body(),
        _ = &mut connection => panic!("closed"),
    };
    // The body waits in the engine: its head is here.
    let mut got = 0;
    match then {
        Then::OpensItsWindow => {
            connection.set_initial_window_size(65_535).unwrap();
            let driver = tokio::spawn(connection);
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                got += data.len() as u64;
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            drop((body, client));
            driver.await.unwrap().unwrap();
        }
        Then::ResetsTheStream => {
            // Dropped: h2 resets it.
            drop(body);
            let driver = tokio::spawn(connection);
            engine.until("reset", |stats| stats.requests_open == 0).await;
            drop(client);
            driver.await.unwrap().unwrap();
        }
        Then::Closes => drop((body, client, connection)),
    }
    let [line] = log.lines(1).await.try_into().unwrap();
    let sent = line["bytesSent"].as_u64().unwrap();
    (line["responseCode"].clone(), line["failureReason"].as_str().unwrap().to_owned(), sent, got)
}

#[tokio::test]
async fn a_response_is_complete_when_the_clients_window_has_let_it_through() {
    for (host, status) in [("unknown.example", 404), (HOST, 200)] {
        let mut heads = Vec::new();
        for (then, reason) in THEN {
            let (code, failed, sent, got) = served(host, then).await;
            assert_eq!((code, &*failed), (status.into(), reason), "{host}: {then:?}");
            assert_eq!(got > 0, then == Then::OpensItsWindow);
            heads.push(sent - got);
        }
        // Beside what the client got there is the head alone.
        assert!(heads.iter().all(|head| *head == heads[0]), "{host}: {heads:?}");
    }
}
