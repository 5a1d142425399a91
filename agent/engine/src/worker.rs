//! A worker: one thread, one runtime, one listener of each kind.

use std::{net::TcpListener, rc::Rc, sync::Arc};

use tokio::task::LocalSet;

use crate::{
    heartbeat::Slot,
    orders::{Order, Orders},
    relay::Relay,
    state::Shared,
};

/// What a worker is started with.
pub struct Worker {
    /// 0 to `settings.workers` - 1.
    pub index: u32,
    /// Non-blocking.
    pub http: TcpListener,
    /// Non-blocking.
    pub relay: TcpListener,
    /// State, settings, counts.
    pub shared: Arc<Shared>,
    /// The link's orders.
    pub orders: Orders,
    /// The worker's place in the `WORKERS` map; `relay` counts its connections there, too.
    pub slot: Slot,
}

/// Serves until an [`Order::Shutdown`] is carried out.
///
/// # Errors
/// When the runtime cannot be built, or the link is gone.
pub fn serve(worker: Worker) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, run(worker))
}

async fn run(mut worker: Worker) -> std::io::Result<()> {
    tokio::task::spawn_local(worker.slot.clone().run());
    let relay = Relay::new(Arc::clone(&worker.shared), worker.index, worker.slot.clone());
    let listener = tokio::net::TcpListener::from_std(worker.relay)?;
    let relaying = tokio::task::spawn_local(Rc::clone(&relay).accept(listener));
    while let Some((order, confirm)) = worker.orders.recv().await {
        match order {
            Order::Applied => {}
            Order::CloseAliases(aliases) => relay.close_aliases(&aliases).await,
            Order::Shutdown(grace) => {
                relaying.abort();
                relay.finish(grace).await;
                let _ = confirm.send(());
                return Ok(());
            }
        }
        let _ = confirm.send(());
    }
    Err(std::io::Error::other("the link is gone"))
}
