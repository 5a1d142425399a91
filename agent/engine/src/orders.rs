//! Orders of the link to the workers and the DNS thread.
//!
//! Every worker has one bounded queue. An order is confirmed by answering its [`Confirm`]; the link answers the agent
//! only after every worker has confirmed. A worker takes orders in the turn of its own loop, so once it has confirmed
//! [`Order::Applied`], every request that it begins afterwards sees the new state.

use std::{net::IpAddr, sync::Arc, time::Duration};

use brattice_wire::snapshot::AliasGeneration;
use tokio::sync::{mpsc, oneshot, watch};

use crate::queries::question::Question;

/// Most orders waiting for one worker. The link sends the next one only after the one before is confirmed, so more
/// than a few never wait.
pub const ORDERS_WAITING: usize = 16;

/// Keeps a thread from accepting before its first state is in force. Connections that waited for an engine that died are
/// in the listeners' queues already: accepted too early, their callers would be unknown and be reset.
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Open from the start where there is a state already.
    pub fn new(open: bool) -> Self {
        Self(watch::channel(open).0)
    }

    /// Lets all connections through from now on.
    pub fn open(&self) {
        self.0.send_if_modified(|open| !std::mem::replace(open, true));
    }

    /// Runs `work` once the gate is open.
    pub fn behind<F: Future>(&self, work: F) -> impl Future<Output = ()> + use<F> {
        let mut open = self.0.subscribe();
        async move {
            // The gate is gone with its thread: then there is nothing to do any more.
            if open.wait_for(|open| *open).await.is_ok() {
                let _ = work.await;
            }
        }
    }
}

/// An order to a worker.
#[derive(Clone, Debug)]
pub enum Order {
    /// A new state is published in the shared `ArcSwap`: let go of what the old one allowed (pooled connections to
    /// targets that are gone), then confirm.
    Applied,
    /// Close every connection from or to these aliases up to the given generation (also relayed ones, idle pooled ones
    /// and ones being connected), then confirm. Connections of a newer generation stay.
    CloseAliases(Arc<[(IpAddr, AliasGeneration)]>),
    /// Answer a question from outside, then confirm. Questions come from another thread than other orders.
    Ask(Arc<Question>),
    /// Stop accepting now, let what is in flight finish for this long, close the rest, confirm and return.
    Shutdown(Duration),
}

/// Answered with `()` when an order is carried out; dropping it says that the worker is gone.
pub type Confirm = oneshot::Sender<()>;

/// A worker's end of its queue.
pub type Orders = mpsc::Receiver<(Order, Confirm)>;

/// The link's ends of all queues.
#[derive(Clone)]
pub struct Dispatcher {
    queues: Arc<[mpsc::Sender<(Order, Confirm)>]>,
}

/// A worker did not confirm: its thread is gone, or stuck for longer than the time given.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderError {
    /// The queue is closed.
    #[error("worker {0} has stopped; the engine must be restarted")]
    Gone(usize),
    /// No answer in time.
    #[error("worker {0} did not confirm within {1:?}; it is stuck or starved of CPU")]
    Stuck(usize, Duration),
}

impl Dispatcher {
    /// Queues for `receivers` workers.
    pub fn new(receivers: usize) -> (Self, Vec<Orders>) {
        let (senders, queues): (Vec<_>, Vec<_>) = (0..receivers).map(|_| mpsc::channel(ORDERS_WAITING)).unzip();
        (Self { queues: senders.into() }, queues)
    }

    /// Gives an order to all and waits until all have confirmed, at most `patience`.
    ///
    /// # Errors
    /// When one is gone or does not confirm in time; the others have the order nevertheless.
    pub async fn all(&self, order: &Order, patience: Duration) -> Result<(), OrderError> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut waiting = Vec::with_capacity(self.queues.len());
        let mut result = Ok(());
        for (index, queue) in self.queues.iter().enumerate() {
            let (confirm, confirmed) = oneshot::channel();
            match tokio::time::timeout_at(deadline, queue.send((order.clone(), confirm))).await {
                Ok(Ok(())) => waiting.push((index, confirmed)),
                Ok(Err(_)) => result = Err(OrderError::Gone(index)),
                Err(_) => result = Err(OrderError::Stuck(index, patience)),
            }
        }
        for (index, confirmed) in waiting {
            match tokio::time::timeout_at(deadline, confirmed).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => result = Err(OrderError::Gone(index)),
                Err(_) => result = Err(OrderError::Stuck(index, patience)),
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn nothing_passes_a_closed_gate() {
        runtime().block_on(async {
            let gate = Gate::new(false);
            let mut work = std::pin::pin!(gate.behind(async {}));
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut work).await.is_err());
            gate.open();
            assert!(tokio::time::timeout(Duration::from_secs(1), &mut work).await.is_ok());
            assert!(tokio::time::timeout(Duration::from_secs(1), Gate::new(true).behind(async {})).await.is_ok());
        });
    }

    #[test]
    fn all_must_confirm() {
        runtime().block_on(async {
            let (dispatcher, mut queues) = Dispatcher::new(2);
            let mut second = queues.pop().unwrap();
            let mut first = queues.pop().unwrap();
            tokio::spawn(async move {
                while let Some((_, confirm)) = first.recv().await {
                    let _ = confirm.send(());
                }
            });
            let patience = Duration::from_millis(50);
            let stuck = dispatcher.all(&Order::Applied, patience).await;
            assert_eq!(stuck, Err(OrderError::Stuck(1, patience)));
            let (order, confirm) = second.recv().await.unwrap();
            assert!(matches!(order, Order::Applied));
            drop(confirm);
            drop(second);
            let gone = dispatcher.all(&Order::Applied, Duration::from_secs(1)).await;
            assert_eq!(gone, Err(OrderError::Gone(1)));
        });
    }
}
