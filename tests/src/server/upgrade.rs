//! The HTTP server's upgraded connections: WebSocket by a library, and a protocol `echo` that is bytes alone.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::{Counters, open::Open};

/// The answer to a request that asks for an upgrade we know; what comes after it is sent back.
pub(super) fn accept(request: &mut Request<Incoming>, counters: &Arc<Counters>) -> Option<Response<()>> {
    if request.uri().path() == "/refuse" {
        return None;
    }
    let protocol = request.headers().get(header::UPGRADE)?.to_str().ok()?.to_ascii_lowercase();
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_str(&protocol).ok()?);
    match protocol.as_str() {
        "websocket" => {
            let key = derive_accept_key(request.headers().get(header::SEC_WEBSOCKET_KEY)?.as_bytes());
            fields.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&key).ok()?);
        }
        "echo" => {}
        _ => return None,
    }
    let (upgrade, open) = (hyper::upgrade::on(request), Open::count(counters, |counters| &counters.upgraded));
    tokio::spawn(async move {
        let _open = open;
        if let Ok(connection) = upgrade.await {
            if protocol == "websocket" { talk(connection).await } else { repeat(connection).await }
        }
    });
    Some(response)
}

async fn talk(connection: Upgraded) {
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn repeat(connection: Upgraded) {
    let mut connection = TokioIo::new(connection);
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = connection.read(&mut buffer).await {
        if length == 0 || connection.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
