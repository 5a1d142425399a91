//! DNS over TCP (RFC 7766): several questions on a connection, answered as they are ready.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    aliases::CallerId,
    events::DnsEvent,
    tasks::Parties,
    transport::{Listener, Stream},
};

use super::{Admitted, PAUSE, Plan, Resolver};

/// A connection without a whole question or an answer for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// How long an answer may wait for a client that does not read.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Questions of one connection that are worked on at once; more wait unread.
const PIPELINE: usize = 16;
/// Length prefix and longest message.
const MOST_BUFFERED: usize = 2 + 65_535;

/// Accepts forever. A connection takes a place among the questions in flight, so the same limits bound both.
pub(super) async fn accept(resolver: Rc<Resolver>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => begin(&resolver, stream, peer),
            Err(error) => {
                brattice_wire::rarely!(warn, %error, "a DNS connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn begin(resolver: &Rc<Resolver>, stream: Stream, peer: SocketAddr) {
    let state = resolver.shared.state.load();
    let Some(caller) = state.caller_at(peer.ip().to_canonical()) else {
        resolver.emit(DnsEvent::UnknownPeer);
        // A reset is all that an unknown caller gets.
        stream.reset_on_drop(true);
        return;
    };
    let Some(admitted) = resolver.admit(&caller) else {
        stream.reset_on_drop(true);
        return;
    };
    let parties = Parties::default();
    parties.set(0, caller.alias, caller.generation);
    let asker = Asker { resolver: Rc::clone(resolver), caller: caller.id() };
    resolver.tasks.spawn(parties, serve(asker, stream, admitted));
}

struct Asker {
    resolver: Rc<Resolver>,
    caller: CallerId,
}

async fn serve(asker: Asker, stream: Stream, _admitted: Admitted) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::new();
    let mut working: FuturesUnordered<LocalBoxFuture<'static, Option<Vec<u8>>>> = FuturesUnordered::new();
    let mut ended = false;
    let mut deadline = Instant::now() + IDLE;
    loop {
        while working.len() < PIPELINE {
            let Some(message) = next_message(&mut buffer) else { break };
            deadline = Instant::now() + IDLE;
            // The alias belongs to another workload now: no answer on a connection of the previous one.
            let Some(answer) = asker.work(&message) else { return };
            working.push(answer);
        }
        if ended && working.is_empty() {
            return;
        }
        tokio::select! {
            Some(answer) = working.next(), if !working.is_empty() => {
                let Some(answer) = answer else { return };
                let Ok(length) = u16::try_from(answer.len()) else { return };
                let mut frame = Vec::with_capacity(answer.len() + 2);
                frame.extend(length.to_be_bytes());
                frame.extend(answer);
                if !matches!(timeout(WRITE_PATIENCE, writer.write_all(&frame)).await, Ok(Ok(()))) {
                    return;
                }
                deadline = Instant::now() + IDLE;
            }
            read = reader.read_buf(&mut buffer), if !ended && working.len() < PIPELINE && buffer.len() < MOST_BUFFERED => {
                match read {
                    Ok(0) => ended = true,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
            () = tokio::time::sleep_until(deadline), if working.is_empty() => return,
        }
    }
}

/// The next whole message in the buffer.
fn next_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let prefix: [u8; 2] = buffer.first_chunk().copied()?;
    let length = usize::from(u16::from_be_bytes(prefix));
    if buffer.len() < 2 + length {
        return None;
    }
    buffer.advance(2);
    Some(buffer.split_to(length).freeze())
}

impl Asker {
    /// The work on one question, which yields `None` where the connection is to be closed; `None` at once when the
    /// alias is no longer the client's.
    fn work(&self, message: &[u8]) -> Option<LocalBoxFuture<'static, Option<Vec<u8>>>> {
        let state = self.resolver.shared.state.load_full();
        let caller = state.caller(self.caller)?;
        Some(match self.resolver.plan(&state, &caller, message, true) {
            Plan::Answer(answer) => Box::pin(std::future::ready(answer)),
            Plan::Forward(forward) => {
                // A task of its own, so that it ends when the resolver's alias is closed, and the connection with it.
                let (done, answer) = oneshot::channel();
                self.resolver.tasks.spawn(forward.parties(), async move {
                    let (answer, trial) = forward.answer().await;
                    if let Some(answer) = answer {
                        // The connection may have ended: then there is no receiver.
                        let _ = done.send(answer);
                    }
                    if let Some(trial) = trial {
                        trial.await;
                    }
                });
                Box::pin(async move { answer.await.ok() })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_however_they_arrive(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            piece in 1_usize..50,
        ) {
            let mut wire = Vec::new();
            for message in &messages {
                wire.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
                wire.extend(message);
            }
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for piece in wire.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(message) = next_message(&mut buffer) {
                    seen.push(message.to_vec());
                }
            }
            prop_assert_eq!(seen, messages);
            prop_assert!(buffer.is_empty());
        }
    }
}
