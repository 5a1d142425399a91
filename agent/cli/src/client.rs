//! Asks the agent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use brattice_wire::api::{Answer, Recalled, Request};
use brattice_wire::records::{Notice, Past};

use crate::Failure;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(35);
/// Longest answer that is read, bytes.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;
/// Longest remembered request that is read, bytes.
const MAX_RECALLED: u64 = 4 * 1024 * 1024;

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

/// Asks the engine for a request that it remembers, over the agent; none: it does not.
///
/// # Errors
/// Exit code 2 where nobody answers, 1 where the agent refuses.
pub(crate) fn recall(run_dir: &Path, what: Recalled) -> Result<Option<Past>, Failure> {
    let socket = run_dir.join("agent.sock");
    let mut stream = UnixStream::connect(&socket).map_err(|e| Failure::new(unreachable(&socket, &e)).code(2))?;
    let lost = |e: std::io::Error| Failure::new(format!("the engine did not answer: {e}")).code(2);
    stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(lost)?;
    let mut line = serde_json::to_vec(&Request::Recall { what }).map_err(Failure::new)?;
    line.push(b'\n');
    let written = stream.write_all(&line);
    let mut text = String::new();
    let read = stream.take(MAX_RECALLED).read_to_string(&mut text);
    if text.is_empty() {
        read.and(written.map(|()| 0)).map_err(lost)?;
        return Err(Failure::new("the engine closed the connection without an answer; try again").code(2));
    }
    let mut found = None;
    for line in text.lines() {
        if let Ok(Answer::Error { message, .. }) = serde_json::from_str(line) {
            return Err(Failure::new(message));
        }
        match serde_json::from_str(line) {
            Ok(Notice::Refused { message }) => return Err(Failure::new(message)),
            Ok(_) => continue,
            Err(_) => {}
        }
        let past = serde_json::from_str(line).map_err(|e| {
            let text =
                format!("the engine's answer cannot be read ({e}); is it of another version? See brattice version");
            Failure::new(text).code(2)
        })?;
        found = Some(past);
    }
    Ok(found)
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
