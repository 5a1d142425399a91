//! Connections to HTTP/2 endpoints, each of which only one caller's requests use.

mod socket;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    rc::Rc,
    time::Duration,
};

use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use self::socket::{Hit, TargetIo};
use super::{
    Upstream,
    connector::{ConnectError, parties},
    endpoint::Endpoint,
    pool::{Key, Multiplexed, Opened, Streams},
};
use crate::{
    aliases::CallerId,
    events::WorkerEvent,
    http::{peer::PeerState, request_body::RequestBody},
    local::Local,
    tasks::{Parties, Tasks},
};

/// Bytes that a target may send on a stream, and on a connection, before the client has read them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that wait on a stream for the target's window.
const SEND_BUFFER: usize = 64 * 1024;
/// Header section of a target's answer.
const HEADERS: u32 = 128 * 1024;
/// How often a new connection is asked whether the target's settings came; hyper does not tell.
const GREETING_LOOK: Duration = Duration::from_millis(1);
/// A connection.
#[derive(Clone)]
pub(crate) struct Http2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    streams: Rc<Streams>,
    /// As many may be open, as the target's settings say now.
    room: Rc<dyn Fn() -> usize>,
    /// Its other state, as the target announced it.
    pub(super) peer: Rc<PeerState>,
}

impl Multiplexed for Http2 {
    fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.peer.is_draining()
    }

    fn room(&self) -> usize {
        (self.room)()
    }

    fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }
}

/// Counts one of our streams.
pub(crate) struct Stream {
    streams: Rc<Streams>,
    local: Rc<Local>,
}

impl Stream {
    pub(super) fn new(connection: &Http2, local: &Rc<Local>) -> Self {
        connection.streams.begin();
        Self { streams: Rc::clone(&connection.streams), local: Rc::clone(local) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.end(self.local.clock.tick());
    }
}

/// Makes a connection in a task of its own, as others may wait for it, too.
pub(super) fn open(
    upstream: &Rc<Upstream>,
    caller: CallerId,
    endpoint: &Rc<Endpoint>,
    key: Key,
    timeout: Duration,
) -> Opened {
    let (sender, opened) = watch::channel(None);
    upstream.http2.opening(caller, key, opened.clone());
    let (upstream, endpoint) = (Rc::clone(upstream), Rc::clone(endpoint));
    tokio::task::spawn_local(async move {
        let made = connect(&upstream, caller, key, &endpoint, timeout).await;
        let (connection, result) = match made {
            Ok(connection) => (Some(connection), Ok(())),
            Err(error) => {
                upstream.local.events.emit(WorkerEvent::ConnectFailed);
                (None, Err(Rc::new(error)))
            }
        };
        upstream.http2.opened(&caller, &key, connection);
        // There may be no receiver any more.
        let _ = sender.send(Some(result));
    });
    opened
}

async fn connect(
    upstream: &Rc<Upstream>,
    caller: CallerId,
    key: Key,
    endpoint: &Rc<Endpoint>,
    timeout: Duration,
) -> Result<Http2, ConnectError> {
    let local = &upstream.local;
    let stream = upstream.connector.connect(endpoint, timeout).await?;
    let peer = Rc::<PeerState>::default();
    let hit = Rc::<Hit>::default();
    let io = TokioIo::new(TargetIo::new(
        stream,
        (Rc::clone(&hit), Rc::clone(&peer)),
        endpoint.connection(local.upstream_socket()),
        local,
    ));
    let parties = parties(&endpoint.target);
    parties.set(1, caller.alias(), caller.generation());
    let executor = TargetTasks { tasks: Rc::clone(&upstream.tasks), parties: parties.clone() };
    let handshake = http2::Builder::new(executor)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADERS)
        // None until the target has said how many it takes: those beyond it would be refused.
        .initial_max_send_streams(0)
        .handshake(io);
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let (sender, connection) =
        tokio::time::timeout(timeout, handshake).await.map_err(late)?.map_err(io::Error::other)?;
    let may_talk = || upstream.allows(&key) && upstream.closed.allow_caller(caller);
    if !may_talk() {
        return Err(ConnectError::Closed);
    }
    // The task owns the connection; the pool only asks it for its settings.
    let connection = Rc::new(RefCell::new(Box::pin(connection)));
    let (weak, counts) = (Rc::downgrade(&connection), Rc::clone(local));
    upstream.tasks.spawn(parties, async move {
        // Its requests and bodies get the error.
        let _ = poll_fn(|cx| connection.borrow_mut().as_mut().poll(cx)).await;
        hit.count(&counts);
    });
    let room = Rc::new(move || {
        let connection = weak.upgrade();
        connection.map_or(0, |connection| connection.try_borrow().map_or(0, |open| open.current_max_send_streams()))
    });
    let greeted = async {
        while room() == 0 && !sender.is_closed() {
            tokio::time::sleep(GREETING_LOOK).await;
        }
    };
    tokio::time::timeout(timeout, greeted).await.map_err(late)?;
    if sender.is_closed() || !may_talk() {
        return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
    }
    Ok(Http2 { sender, streams: Streams::new(local.clock.tick()), room, peer })
}

/// Runs what hyper needs for a connection to a target, findable by the target's alias and by the caller's.
#[derive(Clone)]
struct TargetTasks {
    tasks: Rc<Tasks>,
    parties: Parties,
}

impl<F> Executor<F> for TargetTasks
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        self.tasks.spawn(self.parties.clone(), task);
    }
}
