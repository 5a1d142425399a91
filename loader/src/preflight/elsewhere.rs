//! A throw-away network namespace, held by a thread that works inside it. It has no name, so that nothing of it stays, not
//! even when the process is killed.

use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{Error, Result};

type Work = Box<dyn FnOnce() + Send>;

/// The thread in its namespace; both end when this is dropped.
pub(super) struct Elsewhere {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    /// The namespace.
    pub(super) namespace: File,
}

impl Elsewhere {
    pub(super) fn new() -> Result<Self> {
        let (work, orders) = mpsc::channel::<Work>();
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("probe-workload".into())
            .spawn(move || {
                let namespace = leave().and_then(|()| File::open("/proc/thread-self/ns/net"));
                let usable = namespace.is_ok();
                if ready.send(namespace).is_ok() && usable {
                    for order in orders {
                        order();
                    }
                }
            })
            .map_err(Error::io("starting the probe's thread"))?;
        let namespace = started
            .recv()
            .map_err(|_| Error::Thread("probe"))?
            .map_err(Error::io("making the probe's network namespace"))?;
        Ok(Self { work: Some(work), thread: Some(thread), namespace })
    }

    /// Does something inside and waits for it.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = mpsc::channel();
        let order: Work = Box::new(move || drop(sender.send(work())));
        let sent = self.work.as_ref().is_some_and(|w| w.send(order).is_ok());
        if !sent {
            return Err(Error::Thread("probe"));
        }
        receiver.recv().map_err(|_| Error::Thread("probe"))
    }
}

/// Has the calling thread go on in a new network namespace.
#[allow(unsafe_code)]
fn leave() -> io::Result<()> {
    // SAFETY: descriptors stay shared with the other threads; only the network namespace is another one.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // It only runs orders, and there are no more.
            let _ = thread.join();
        }
    }
}
