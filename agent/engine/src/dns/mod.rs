//! DNS.
use std::{net::{TcpListener, UdpSocket}, sync::Arc};
use crate::{orders::{Order, Orders}, state::Shared};

/// What the DNS thread is started with.
pub struct Server {
    /// Bound to the DNS VIP, port 53; non-blocking.
    pub udp: UdpSocket,
    /// Non-blocking.
    pub tcp: TcpListener,
    /// State, settings, counts.
    pub shared: Arc<Shared>,
    /// The link's orders.
    pub orders: Orders,
}

/// Serves until an [`Order::Shutdown`] is carried out.
///
/// # Errors
/// When the runtime cannot be built, or the link is gone.
pub fn serve(mut server: Server) -> std::io::Result<()> {
    while let Some((order, confirm)) = server.orders.blocking_recv() {
        let end = matches!(order, Order::Shutdown(_));
        let _ = confirm.send(());
        if end { return Ok(()); }
    }
    Err(std::io::Error::other("the link is gone"))
}
