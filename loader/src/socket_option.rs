//! Options of sockets that rustix does not have.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an option whose value is this plain C type.
#[allow(unsafe_code)]
pub(crate) fn set<T: Copy>(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).expect("some bytes");
    // SAFETY: the value lives through the call, is only read, and its size is given.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(&value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
