//! Waiting for descriptors in the runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Something that owns its descriptor; what tokio can wait for soundly.
#[derive(Debug)]
pub(crate) struct Owned<T>(pub(crate) T);

impl<T: AsFd> AsRawFd for Owned<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T: AsFd> AsFd for Owned<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Registers a descriptor with the current runtime, to be waited for until it is readable.
pub(crate) fn readable<T: AsFd>(inner: T) -> io::Result<AsyncFd<Owned<T>>> {
    register(inner, Interest::READABLE)
}

/// Registers one to be waited for until it has something urgent: `mountinfo` reports changes so.
pub(crate) fn urgent<T: AsFd>(inner: T) -> io::Result<AsyncFd<Owned<T>>> {
    register(inner, Interest::PRIORITY)
}

#[allow(unsafe_code)]
fn register<T: AsFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<Owned<T>>> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(io::Error::other("there is no asynchronous runtime on this thread"));
    }
    // SAFETY: the types registered here (sockets, inotify, files, a ring buffer's map) own their descriptor for as long as they
    // live, give the same one every time, and live inside the AsyncFd.
    Ok(unsafe { AsyncFd::register_with_interest(Owned(inner), interest) }?)
}
