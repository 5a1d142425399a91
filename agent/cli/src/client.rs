//! The client of the agent's API.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use brattice_wire::api::{Answer, ErrorCode, Recalled, Request};
use brattice_wire::records::{Notice, Past};
use rustix::event::{PollFd, PollFlags, poll};

use crate::{Failure, systemd};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(35);
/// Longest answer that is read, bytes.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;
/// Longest line of the engine's that is read, bytes.
const MAX_LINE: u64 = 4 * 1024 * 1024;
const OTHER_VERSION: &str = "the answer cannot be read; is it of another version? See brattice version";

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
        // It was closed, with or without a reset: as is done where there is no place for the caller.
        let closed = |e: &std::io::Error| matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        if let Some(e) = read.and(written.map(|()| 0)).err().filter(|e| !closed(e)) {
            return Err(lost(e));
        }
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
        Answer::Error { code: ErrorCode::Busy, message } => Err(Failure::new(message).code(2)),
        Answer::Error { message, .. } => Err(Failure::new(message)),
        answer => Ok(answer),
    }
}

/// Asks the engine for a request that it remembers, over the agent; none: it does not.
///
/// # Errors
/// Exit code 2 where no agent answers, 1 where the agent refuses.
pub(crate) fn recall(run_dir: &Path, what: Recalled) -> Result<Option<Past>, Failure> {
    let mut found = None;
    let mut lines = Lines::ask(run_dir, &Request::Recall { what })?;
    while let Some(line) = lines.next()? {
        if let Line::Row(row) = line {
            found = Some(read_as(&row)?);
        }
    }
    Ok(found)
}

/// What the engine answers, on the connection that the agent has handed over.
pub(crate) struct Lines {
    stream: BufReader<UnixStream>,
    ended: bool,
}

/// One line of it.
pub(crate) enum Line {
    /// What was asked for.
    Row(String),
    /// What is known about it; never [`Notice::End`] or [`Notice::Refused`].
    Notice(Notice),
}

impl Lines {
    /// Asks.
    ///
    /// # Errors
    /// Exit code 2 where no agent answers.
    pub(crate) fn ask(run_dir: &Path, request: &Request) -> Result<Self, Failure> {
        let socket = run_dir.join("agent.sock");
        let mut stream = UnixStream::connect(&socket).map_err(|e| Failure::new(unreachable(&socket, &e)).code(2))?;
        let lost = |e: std::io::Error| Failure::new(format!("the agent does not answer: {e}")).code(2);
        stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(lost)?;
        let mut line = serde_json::to_vec(request).map_err(Failure::new)?;
        line.push(b'\n');
        // An agent that refuses the caller may close before it has read the request: its answer counts.
        let _ = stream.write_all(&line);
        Ok(Self { stream: BufReader::new(stream), ended: false })
    }

    /// From now on the next line may take as long as it likes.
    ///
    /// # Errors
    /// When the socket is gone.
    pub(crate) fn wait_for_ever(&self) -> Result<(), Failure> {
        self.stream.get_ref().set_read_timeout(None).map_err(Failure::new)
    }

    /// Waits for more of the answer as long as standard output has a reader; false: it has none. Without it a reader
    /// that went away would be noticed at the next line that fits the filters only, and the engine has few places for
    /// followers.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub(crate) fn wait(&self) -> Result<bool, Failure> {
        while self.stream.buffer().is_empty() {
            let stdout = std::io::stdout();
            // Without flags: what is reported then are errors, such as a pipe without a reader.
            let mut ends =
                [PollFd::new(self.stream.get_ref(), PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())];
            match poll(&mut ends, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Failure::new(e).code(2)),
                Ok(_) if !ends[1].revents().is_empty() => return Ok(false),
                Ok(_) => return Ok(true),
            }
        }
        Ok(true)
    }

    /// The next line; none: the answer is complete.
    ///
    /// # Errors
    /// Exit code 1 where the agent or the engine refuses, 2 where the answer ends before its end.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = self.stream.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes);
        read.map_err(|e| Failure::new(format!("the engine did not answer: {e}")).code(2))?;
        if bytes.pop() != Some(b'\n') {
            return Err(Failure::new("the answer ended in the middle: the engine is gone, see brattice status").code(2));
        }
        let line = String::from_utf8(bytes).map_err(Failure::new)?;
        if line.starts_with("{\"notice\":") {
            return match read_as(&line)? {
                Notice::End => {
                    self.ended = true;
                    Ok(None)
                }
                Notice::Refused { message } => Err(Failure::new(message)),
                notice => Ok(Some(Line::Notice(notice))),
            };
        }
        if line.starts_with("{\"answer\":") {
            return match read_as(&line)? {
                Answer::Error { message, .. } => Err(Failure::new(message)),
                _ => Err(Failure::new(OTHER_VERSION).code(2)),
            };
        }
        Ok(Some(Line::Row(line)))
    }
}

/// A row of an answer.
///
/// # Errors
/// Exit code 2 where it is none.
pub(crate) fn read_as<T: serde::de::DeserializeOwned>(row: &str) -> Result<T, Failure> {
    serde_json::from_str(row).map_err(|e| Failure::new(format!("{OTHER_VERSION} ({e})")).code(2))
}

/// Whether an agent listens.
pub(crate) fn is_there(run_dir: &Path) -> bool {
    UnixStream::connect(run_dir.join("agent.sock")).is_ok()
}

fn unreachable(socket: &Path, e: &std::io::Error) -> String {
    let start = systemd::start(socket.parent().unwrap_or(socket));
    let socket = socket.display();
    match e.kind() {
        ErrorKind::NotFound => {
            format!("no agent: there is no {socket}; start it with {start}, or name its directory with --run-dir")
        }
        ErrorKind::ConnectionRefused => format!(
            "no agent: no process listens on {socket} any more; engine and kernel may still serve. Start it again with {start}; bypass and detach work with --offline"
        ),
        ErrorKind::PermissionDenied => {
            format!("permission denied for {socket}: ask as root, or as a member of its group")
        }
        _ => format!("the agent at {socket} cannot be reached: {e}"),
    }
}
