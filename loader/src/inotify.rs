//! Events of inotify, as values.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, init};
use rustix::io::{Errno, Result};

/// Bytes that are read at once.
const BUFFER: usize = 4096;

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    /// The watch that it is of.
    pub(crate) watch: i32,
    /// What happened.
    pub(crate) what: ReadFlags,
    /// The name in the watched folder that it is about; `None`: what is watched itself.
    pub(crate) name: Option<OsString>,
}

/// A descriptor that watches nothing yet.
pub(crate) fn open() -> Result<OwnedFd> {
    init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
}

/// The events that there are, none if there is none.
pub(crate) fn events(inotify: impl AsFd) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(inotify.as_fd(), &mut buffer);
    loop {
        match reader.next() {
            Ok(event) => events.push(Event {
                watch: event.wd(),
                what: event.events(),
                name: event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
            }),
            Err(Errno::AGAIN) => return Ok(events),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
