//! The socket of the agent's API.
//!
//! Access is checked twice: by the modes of the directory (0750, the group's) and the socket (0660), and by the
//! caller's user and groups as the kernel reports them. Root may do everything, members of the group may read, the
//! engine's user may do nothing. Length and time of a request and the number of connections are bounded; junk gets an
//! error answer. For what the engine answers itself, the agent hands it the caller's connection, after the same checks.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use brattice_wire::api::{Answer, ErrorCode, MAX_REQUEST, Request};
use brattice_wire::rarely;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::error;

/// Most connections of root at once. As many again for users who may read, so that they cannot lock root out; and as
/// many for all others, so that they lock nobody out.
pub const MAX_CONNECTIONS: usize = 16;
/// Time to send a request.
pub const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long, and for how many bytes, a caller is still listened to after its answer.
const LINGER_TIME: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 1024 * 1024;
/// Time for the agent to answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Time to read the answer.
pub const READ_TIME: Duration = Duration::from_secs(5);
/// Most groups of a caller that are looked at.
const MAX_GROUPS: usize = 1_024;

/// Permissions of a caller.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The engine's user: refused.
    pub engine_uid: u32,
    /// Its members may ask read-only questions.
    pub group: u32,
}

/// A caller, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Groups, the primary one first.
    pub groups: Vec<u32>,
}

/// A request that was allowed.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Of a request for the engine ([`Request::is_for_engine`]): the caller's connection, to be handed on.
    pub connection: Option<OwnedFd>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Reply>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Reply {
    /// Its answer.
    Answer(Box<Answer>),
    /// The engine answers, on the connection that it was given.
    HandedOver,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(Box::new(answer))
    }
}

impl Access {
    /// Whether `caller` may ask `request`.
    ///
    /// # Errors
    /// The sentence for the caller.
    pub fn check(&self, caller: &Caller, request: &Request) -> Result<(), String> {
        self.connect(caller)?;
        // guard: api-root
        if caller.uid == 0 || request.is_read_only() {
            return Ok(());
        }
        Err("only root may do this; members of the group may only ask (status, services, workloads, route, explain, flows, logs)".to_owned())
    }

    /// Whether `caller` may ask anything.
    ///
    /// # Errors
    /// The sentence for the caller.
    pub fn connect(&self, caller: &Caller) -> Result<(), String> {
        // guard: api-engine
        if caller.uid == self.engine_uid {
            return Err("the engine's user may not talk to the agent's API".to_owned());
        }
        if caller.uid == 0 || caller.groups.contains(&self.group) {
            return Ok(());
        }
        Err(format!("user {} is neither root nor a member of group {}", caller.uid, self.group))
    }
}

/// Answers for as long as it runs.
pub async fn serve(listener: std::os::unix::net::UnixListener, access: Access, calls: mpsc::Sender<Call>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return error!(error = %e, "cannot listen on the API socket"),
    };
    let root = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let others = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let refused = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                rarely!(warn, error = %e, "the API socket does not accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let caller = match caller(&stream) {
            Ok(caller) => caller,
            Err(e) => {
                rarely!(warn, error = %e, "a caller of the API whom the kernel does not know");
                continue;
            }
        };
        let places = match access.connect(&caller) {
            Ok(()) if caller.uid == 0 => &root,
            Ok(()) => &others,
            Err(_) => &refused,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            rarely!(warn, uid = caller.uid, "too many callers of the API at once");
            busy(&stream, &caller);
            continue;
        };
        let calls = calls.clone();
        tokio::spawn(async move {
            converse(stream, access, &caller, calls).await;
            drop(place);
        });
    }
}

/// Tells a caller for which there is no place. It is not waited for: it fits into an empty socket.
fn busy(stream: &UnixStream, caller: &Caller) {
    let whose = if caller.uid == 0 { "root's" } else { "other users'" };
    let message = format!(
        "{MAX_CONNECTIONS} connections to the agent's socket are open, as many as may be {whose} at once: close idle ones \
         (`ss -xp | grep agent.sock` lists them), or try again"
    );
    if let Ok(mut bytes) = serde_json::to_vec(&Answer::Error { code: ErrorCode::Busy, message }) {
        bytes.push(b'\n');
        let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
        let _ = rustix::net::send(stream, &bytes, flags);
    }
}

async fn converse(mut stream: UnixStream, access: Access, caller: &Caller, calls: mpsc::Sender<Call>) {
    let answer = match access.connect(caller) {
        Err(why) => {
            rarely!(info, uid = caller.uid, why, "a caller of the API was refused");
            Answer::Error { code: ErrorCode::Forbidden, message: why }
        }
        Ok(()) => match tokio::time::timeout(REQUEST_TIME, read(&mut stream)).await {
            Ok(Ok(Some(line))) => match answer(&line, access, caller, &stream, calls).await {
                Reply::Answer(answer) => *answer,
                Reply::HandedOver => return,
            },
            // Closed without a request.
            Ok(Ok(None)) => return,
            Ok(Err(why)) => bad(why),
            Err(_) => bad(format!("no whole request within {} s", REQUEST_TIME.as_secs())),
        },
    };
    let mut bytes = serde_json::to_vec(&answer).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}").into_bytes());
    bytes.push(b'\n');
    let write = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    // A caller that does not read its answer is ignored.
    if matches!(tokio::time::timeout(READ_TIME, write).await, Ok(Ok(()))) {
        // Closing with unread bytes would reset the connection, and the caller would lose the answer.
        let (mut rest, mut nowhere) = (stream.take(LINGER_BYTES), tokio::io::sink());
        let _ = tokio::time::timeout(LINGER_TIME, tokio::io::copy(&mut rest, &mut nowhere)).await;
    }
}

async fn answer(line: &[u8], access: Access, caller: &Caller, stream: &UnixStream, calls: mpsc::Sender<Call>) -> Reply {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(e) => return bad(format!("not a request: {e}; is the CLI of another version than the agent?")).into(),
    };
    if let Err(why) = access.check(caller, &request) {
        // Without its content: paths and header values do not belong in a log.
        rarely!(info, uid = caller.uid, why, "a request was refused");
        return Answer::Error { code: ErrorCode::Forbidden, message: why }.into();
    }
    let connection = match request.is_for_engine().then(|| stream.as_fd().try_clone_to_owned()).transpose() {
        Ok(connection) => connection,
        Err(e) => {
            let message = format!("the connection cannot be handed to the engine: {e}");
            return Answer::Error { code: ErrorCode::Failed, message }.into();
        }
    };
    let (answer, wait) = oneshot::channel();
    let asked = async {
        calls.send(Call { request, connection, answer }).await.ok()?;
        wait.await.ok()
    };
    match tokio::time::timeout(ANSWER_TIME, asked).await {
        Ok(Some(answer)) => answer,
        Ok(None) => Answer::Error { code: ErrorCode::Failed, message: "the agent is ending".to_owned() }.into(),
        Err(_) => Answer::Error {
            code: ErrorCode::Failed,
            message: format!(
                "the agent did not answer within {} s; its log says what it is busy with",
                ANSWER_TIME.as_secs()
            ),
        }
        .into(),
    }
}

/// The first line, without its end; `None` where nothing came.
async fn read(stream: &mut UnixStream) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.map_err(|e| e.to_string())?;
        if read == 0 {
            return if line.is_empty() { Ok(None) } else { Err("the request does not end with a newline".to_owned()) };
        }
        let end = chunk[..read].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(read)]);
        if line.len() >= MAX_REQUEST {
            return Err(format!("the request is longer than {MAX_REQUEST} bytes"));
        }
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

fn bad(message: String) -> Answer {
    Answer::Error { code: ErrorCode::BadRequest, message }
}

/// The caller's user and groups as the kernel reports them.
fn caller(stream: &UnixStream) -> io::Result<Caller> {
    let credentials = stream.peer_cred()?;
    let mut groups = vec![credentials.gid()];
    groups.extend(supplementary_groups(stream.as_fd())?);
    Ok(Caller { uid: credentials.uid(), groups })
}

fn supplementary_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; MAX_GROUPS];
    let mut length =
        libc::socklen_t::try_from(MAX_GROUPS * size_of::<u32>()).expect("it is a constant of some kilobytes");
    #[allow(unsafe_code, reason = "no crate in the tree wraps SO_PEERGROUPS")]
    // SAFETY: `groups` has `length` writable bytes, and the kernel writes at most `length` and says how many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(length as usize / size_of::<u32>());
    Ok(groups)
}

#[cfg(test)]
mod tests;
