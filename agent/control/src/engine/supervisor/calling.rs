//! The socket on which a later agent calls a running engine: made for each engine, and called.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use tokio::net::{UnixSocket, UnixStream};

/// Makes the socket. The agent keeps no copy: no process listens when the engine is gone.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener.into())
}

/// Connects. `SO_PASSCRED` is set before anything is sent.
pub(super) async fn call(path: &Path) -> io::Result<UnixStream> {
    let socket = UnixSocket::new_stream()?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    socket.connect(path).await
}
