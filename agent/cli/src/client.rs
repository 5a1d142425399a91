//! Asks the agent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use brattice_wire::api::{Answer, Request};

use crate::Failure;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(35);
/// Longest answer that is read, bytes.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;

/// Asks; an error answer is an error here.
///
/// # Errors
/// Exit code 2 where no agent answers, 1 where it refuses.
pub(crate) fn ask(run_dir: &Path, request: &Request) -> Result<Answer, Failure> {
    let socket = run_dir.join("agent.sock");
    let mut stream = UnixStream::connect(&socket).map_err(|e| Failure::new(unreachable(&socket, &e)).code(2))?;
    let lost =
        |e: std::io::Error| Failure::new(format!("the agent at {} did not answer: {e}", socket.display())).code(2);
    stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(lost)?;
    let mut line = serde_json::to_vec(request).map_err(Failure::new)?;
    line.push(b'\n');
    // An agent that refuses the caller may close before it has read the request: its answer counts.
    let written = stream.write_all(&line);
    let mut bytes = Vec::new();
    let read = stream.take(MAX_ANSWER).read_to_end(&mut bytes);
    if bytes.is_empty() {
        read.and(written.map(|()| 0)).map_err(lost)?;
        return Err(Failure::new(format!(
            "the agent at {} closed the connection; it may be busy with too many callers, so try again",
            socket.display()
        ))
        .code(2));
    }
    let answer = serde_json::from_slice(&bytes).map_err(|e| {
        Failure::new(format!("the agent's answer cannot be read ({e}); is it of another version? See brattice version"))
            .code(2)
    })?;
    match answer {
        Answer::Error { message, .. } => Err(Failure::new(message)),
        answer => Ok(answer),
    }
}

/// Whether an agent listens.
pub(crate) fn is_there(run_dir: &Path) -> bool {
    UnixStream::connect(run_dir.join("agent.sock")).is_ok()
}

fn unreachable(socket: &Path, e: &std::io::Error) -> String {
    let socket = socket.display();
    match e.kind() {
        ErrorKind::NotFound => format!(
            "no agent: there is no {socket}; start it with `brattice agent`, or name its directory with --run-dir"
        ),
        ErrorKind::ConnectionRefused => format!(
            "no agent: nobody listens on {socket} any more; engine and kernel may still serve. Start it again with `brattice agent`; bypass and detach work with --offline"
        ),
        ErrorKind::PermissionDenied => {
            format!("permission denied for {socket}: ask as root, or as a member of its group")
        }
        _ => format!("the agent at {socket} cannot be reached: {e}"),
    }
}
