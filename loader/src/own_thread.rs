//! Runs blocking work beside the asynchronous runtime.

use tokio::sync::oneshot;

use crate::{Error, Result};

/// Runs blocking work on a thread of its own.
///
/// Not on the runtime's pool: a new thread inherits the network namespace of the thread that starts it, which is the one
/// the caller means; a pooled thread may have been started elsewhere. What is done here is rare enough for that.
pub(crate) async fn on_own_thread<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("kernel-{what}").chars().take(15).collect())
        .spawn(move || {
            // The caller may have stopped waiting.
            let _ = sender.send(work());
        })
        .map_err(Error::io(format!("starting a thread for {what}")))?;
    receiver.await.map_err(|_| Error::Thread(what))?
}
