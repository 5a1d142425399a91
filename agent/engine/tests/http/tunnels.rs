//! Records of connections that carry no HTTP, or no HTTP any more: relayed as TCP, and upgraded. Which side ended them, and how
//! many bytes passed.

use std::{net::SocketAddr, time::Duration};

use brattice_wire::{engine::Limits, records::FailureReason, snapshot::ProtocolVersion};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{log::Log, support::*};

/// Which side ends the connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    BothFinish,
    ClientResets,
    /// The target sends, and the client closes without reading.
    ClientClosesWhileItIsSentTo,
    ClientResetsAfterTheTargetHasFinished,
    TargetResets,
    /// The client sends, and the target closes without reading.
    TargetClosesWhileItIsSentTo,
    TargetResetsAfterTheClientHasFinished,
}

const ENDS: [(End, &str); 7] = [
    (End::BothFinish, "-"),
    (End::ClientResets, "ClientConnectionClosed"),
    (End::ClientClosesWhileItIsSentTo, "ClientConnectionClosed"),
    (End::ClientResetsAfterTheTargetHasFinished, "ClientConnectionClosed"),
    (End::TargetResets, "TargetConnectionClosed"),
    (End::TargetClosesWhileItIsSentTo, "TargetConnectionClosed"),
    (End::TargetResetsAfterTheClientHasFinished, "TargetConnectionClosed"),
];

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// Reads until the peer has finished, or is gone.
async fn drain(stream: &mut TcpStream) {
    let mut room = [0; 4096];
    let reading = async { while stream.read(&mut room).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an end");
}

/// Writes until the peer is gone.
async fn pour(stream: &mut TcpStream) {
    let writing = async { while stream.write_all(&[7; 4096]).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), writing).await.expect("an end");
}

/// The target, once it has taken `ping`.
async fn answer(mut stream: TcpStream, end: End) {
    stream.read_exact(&mut [0; 4]).await.unwrap();
    stream.write_all(b"pong!").await.unwrap();
    match end {
        End::BothFinish | End::ClientResets => drain(&mut stream).await,
        End::ClientClosesWhileItIsSentTo => pour(&mut stream).await,
        End::ClientResetsAfterTheTargetHasFinished => {
            stream.shutdown().await.unwrap();
            drain(&mut stream).await;
        }
        End::TargetResets => reset(stream),
        // Closed with bytes unread: its kernel resets the connection.
        End::TargetClosesWhileItIsSentTo => stream.readable().await.unwrap(),
        End::TargetResetsAfterTheClientHasFinished => {
            drain(&mut stream).await;
            reset(stream);
        }
    }
}

/// The client, on a connection that reaches the target.
async fn call(mut stream: TcpStream, end: End) {
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    match end {
        End::BothFinish | End::TargetResetsAfterTheClientHasFinished => {
            stream.shutdown().await.unwrap();
            drain(&mut stream).await;
        }
        End::ClientResets => reset(stream),
        End::ClientClosesWhileItIsSentTo => stream.readable().await.unwrap(),
        End::ClientResetsAfterTheTargetHasFinished => {
            drain(&mut stream).await;
            reset(stream);
        }
        End::TargetResets => drain(&mut stream).await,
        End::TargetClosesWhileItIsSentTo => pour(&mut stream).await,
    }
}

/// An engine that relays connections to its port `relay`, too.
async fn serving(target: SocketAddr) -> Engine {
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[target]);
    world.services[0].listeners.push(listener(engine.relay, forward(&[(0, 1)])));
    engine.apply(world).await;
    engine
}

async fn relayed(engine: &Engine) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((CALLER, 0).into()).unwrap();
    socket.connect((VIP, engine.relay).into()).await.unwrap()
}

/// A connection that was upgraded by [`accept_upgrade`].
async fn upgraded(engine: &Engine) -> TcpStream {
    let mut stream = engine.connect(CALLER).await;
    let offer = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    stream.write_all(offer.as_bytes()).await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    stream
}

async fn accept_upgrade(stream: &mut TcpStream) {
    read_until(stream, "\r\n\r\n").await;
    let response = b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(response).await.unwrap();
}

/// The side that breaks a connection is named, in the log and in the metrics.
#[tokio::test]
async fn the_side_that_breaks_a_connection_is_named() {
    for upgrades in [false, true] {
        for (end, reason) in ENDS {
            let target = raw_server(move |mut stream| async move {
                if upgrades {
                    accept_upgrade(&mut stream).await;
                }
                answer(stream, end).await;
            })
            .await;
            let engine = serving(target).await;
            let log = Log::of(&engine, 1);
            call(if upgrades { upgraded(&engine).await } else { relayed(&engine).await }, end).await;
            let what = format!("{end:?}, upgrades: {upgrades}");
            let [line] = log.lines(1).await.try_into().unwrap();
            assert_eq!(line["failureReason"], reason, "{what}");
            let failures = engine.shared.counters.failures();
            for (known, count) in FailureReason::ALL.iter().zip(failures) {
                assert_eq!(count, u64::from(known.as_str() == reason), "{what}: {known:?}");
            }
            if end == End::BothFinish && !upgrades {
                assert_eq!((&line["bytesReceived"], &line["bytesSent"]), (&4.into(), &5.into()), "{what}");
            }
        }
    }
}
