//! The thread of the agent's API (control socket).
//!
//! Questions are read and answered on a runtime of its own. Whatever the agent's loop and its other tasks do meanwhile (plan,
//! write to the kernel, write a large snapshot for the engine), no answer waits for it.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread. It ends with this.
#[derive(Debug)]
pub struct Thread {
    runtime: Handle,
    _ends: oneshot::Sender<()>,
}

impl Thread {
    /// Starts it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (ends, ended) = oneshot::channel::<()>();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("control-socket".to_owned()).spawn(move || {
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { runtime: handle, _ends: ends })
    }

    /// Runs a task on it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }
}
