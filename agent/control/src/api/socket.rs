//! The socket file of the agent's API: made, or left to the agent that has it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

/// How long an agent that was killed may take to let go of its socket, and how long one has to answer.
const LET_GO: Duration = Duration::from_secs(1);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Makes the directory of the sockets: the group may enter, no others.
///
/// # Errors
/// When it cannot be made.
pub fn prepare_directory(directory: &Path, group: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    std::os::unix::fs::chown(directory, Some(0), Some(group))?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o750))
}

/// What is at the socket.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// No process listens.
    None,
    /// An agent answers.
    Agent(Option<u32>),
    /// A process listens, and does not answer; with its id, where it is known.
    Silent(Option<u32>),
    /// A process listened, and closed the connection without an answer: it is ending, or has too many callers.
    Closed(Option<u32>),
}

/// Makes the API socket. A process that listens on it may be an agent that was killed just now: it has a second to end.
///
/// # Errors
/// When another process listens on it, or it cannot be made.
pub fn bind(socket: &Path, group: u32) -> io::Result<UnixListener> {
    let until = Instant::now() + LET_GO;
    loop {
        let in_use = match holder(socket, until.saturating_duration_since(Instant::now()).max(LOOK))? {
            Holder::None => break,
            Holder::Agent(pid) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!(
                        "another agent answers on it{}; stop that one, or give this one directories of its own",
                        of(pid)
                    ),
                ));
            }
            Holder::Silent(pid) | Holder::Closed(pid) => pid,
        };
        if Instant::now() >= until {
            let holder = in_use.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            let pid = in_use.map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
            let text = format!(
                "{holder} holds it and does not answer: most likely an agent that was stopped (SIGSTOP, a debugger) or \
                 hangs; let it go on (kill -CONT {pid}) or end it (kill -KILL {pid}), or give this one directories \
                 of its own"
            );
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        std::thread::sleep(LOOK);
    }
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    std::os::unix::fs::chown(socket, Some(0), Some(group))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn of(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Who listens, and whether that one answers within `time`. An agent answers an empty request with an error.
fn holder(path: &Path, time: Duration) -> io::Result<Holder> {
    // A blocking connect would wait for as long as the queue of a stopped process is full.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN) => return Ok(Holder::Silent(None)),
        Err(_) => return Ok(Holder::None),
    }
    let pid = sockopt::socket_peercred(&socket).ok().and_then(|peer| u32::try_from(peer.pid.as_raw_pid()).ok());
    let mut stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    Ok(match stream.write_all(b"\n").and_then(|()| stream.read(&mut [0])) {
        Ok(0) => Holder::Closed(pid),
        Ok(_) => Holder::Agent(pid),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Holder::Silent(pid),
        Err(_) => Holder::Closed(pid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> u32 {
        rustix::process::getgid().as_raw()
    }

    #[test]
    fn a_listener_that_ends_within_the_second_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("agent.sock");
        let old = UnixListener::bind(&path).unwrap();
        let begun = Instant::now();
        let ends = std::thread::spawn(move || {
            // As a killed process: connections are made until its descriptors are closed, and then cut.
            std::thread::sleep(Duration::from_millis(150));
            drop(old);
        });
        let new = bind(&path, group()).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(100) && begun.elapsed() < LET_GO * 2, "{:?}", begun.elapsed());
        ends.join().unwrap();
        // Without a listener the file alone is in nobody's hands.
        drop(new);
        let begun = Instant::now();
        drop(bind(&path, group()).unwrap());
        assert!(begun.elapsed() < LET_GO / 2, "a stale file is replaced at once: {:?}", begun.elapsed());
    }

    #[test]
    fn a_process_that_holds_the_socket_silently_is_told_apart_from_an_agent() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("agent.sock");
        let old = UnixListener::bind(&path).unwrap();
        let begun = Instant::now();
        let text = bind(&path, group()).unwrap_err().to_string();
        assert!(begun.elapsed() < LET_GO * 3, "{:?}", begun.elapsed());
        let own = std::process::id();
        let wanted = [format!("process {own} holds it and does not answer"), format!("kill -CONT {own}")];
        assert!(wanted.iter().all(|wanted| text.contains(wanted)), "{text}");
        // Its queue is full as well, as of an agent that has been stopped for a while.
        let mut waiting = Vec::new();
        loop {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
            if connect(&socket, &SocketAddrUnix::new(&path).unwrap()).is_err() {
                break;
            }
            waiting.push(socket);
        }
        let begun = Instant::now();
        let text = bind(&path, group()).unwrap_err().to_string();
        assert!(begun.elapsed() < LET_GO * 3 && text.contains("holds it and does not answer"), "{text}");
        drop((waiting, old));
        // Control: one that answers is named at once.
        std::fs::remove_file(&path).unwrap();
        let agent = UnixListener::bind(&path).unwrap();
        let answers = std::thread::spawn(move || {
            let (mut caller, _) = agent.accept().unwrap();
            caller.read_exact(&mut [0]).unwrap();
            caller.write_all(b"{}\n").unwrap();
        });
        let begun = Instant::now();
        let text = bind(&path, group()).unwrap_err().to_string();
        assert!(begun.elapsed() < LET_GO && text.contains("another agent answers on it"), "{text}");
        answers.join().unwrap();
    }
}
