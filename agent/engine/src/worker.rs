//! A worker: one thread, one runtime, one listener of each kind.

use std::{rc::Rc, sync::Arc, time::Duration};

use brattice_wire::snapshot::Protocol;
use tokio::{
    task::{JoinHandle, LocalSet},
    time::Instant,
};

use crate::{
    aliases::ClosedAliases,
    downstream::{accept::Acceptor, tcp::TcpProxy},
    events::access_log::output::CHUNK_TIME,
    heartbeat::{self, Slot},
    http::Server,
    limits::Limit,
    local::Local,
    orders::{Gate, Order, Orders},
    review::Reviews,
    state::Shared,
    ticker::Ticker,
    transport::{Listener, ListeningSocket},
    upstream::{Upstream, pool::Key},
    views::Views,
};

/// The input of a worker.
pub struct Worker {
    /// 0 to `settings.workers` - 1.
    pub index: u32,
    /// For connections that are served in the protocol of the listener that they call; non-blocking.
    pub http: ListeningSocket,
    /// For those that are served as TCP, whatever they call; non-blocking.
    pub tcp: ListeningSocket,
    /// State, settings, counts.
    pub shared: Arc<Shared>,
    /// The link's orders.
    pub orders: Orders,
    /// The worker's place in the `WORKERS` map; connections are counted there.
    pub slot: Slot,
}

/// How often a shutdown looks whether everything has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Serves until an [`Order::Shutdown`] is carried out.
///
/// # Errors
/// When the runtime cannot be built, or the link is gone.
pub fn serve(worker: Worker) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, run(worker))
}

async fn run(mut worker: Worker) -> std::io::Result<()> {
    tokio::task::spawn_local(worker.slot.clone().run(Ticker::every(heartbeat::INTERVAL)?));
    let gate = Gate::new(worker.shared.state.load().revision > 0);
    let local = Local::new(worker.shared, worker.index, worker.slot);
    let events = &local.events;
    tokio::task::spawn_local(Rc::clone(events).run(Ticker::every(CHUNK_TIME)?));
    let (views, closed, tasks) = (Views::new(&local.shared), Rc::<ClosedAliases>::default(), Rc::default());
    let http = Server::new(&local, &views, Upstream::new(&local, &tasks, &closed));
    let tcp = TcpProxy::new(&local, &closed);
    let acceptor = Acceptor::new(Rc::clone(&closed), Rc::clone(&http), Rc::clone(&tcp));
    let reviews = Reviews::new(&http, &tcp);
    let accept = |listener, protocol| -> std::io::Result<_> {
        let accepting = Rc::clone(&acceptor).run(Listener::new(listener)?, protocol);
        Ok(tokio::task::spawn_local(gate.behind(accepting)))
    };
    let accepting = [accept(worker.http, Protocol::Http)?, accept(worker.tcp, Protocol::Tcp)?];
    tokio::task::spawn_local(sweep(Rc::clone(&http), Ticker::every(local.clock.period())?));
    while let Some((order, confirm)) = worker.orders.recv().await {
        match order {
            Order::Applied => {
                applied(&http);
                // guard: policies-of-open
                reviews.begin();
                gate.open();
            }
            Order::CloseAliases(aliases) => {
                closed.close(&aliases);
                http.upstream.close_aliases();
                tasks.close(&aliases).await;
                tcp.close_aliases(&aliases).await;
            }
            Order::Ask(question) => events.answer(&views.latest().state.names, &question),
            Order::Shutdown(grace) => {
                accepting.iter().for_each(JoinHandle::abort);
                tokio::join!(tcp.finish(grace), finish(&http, grace));
                events.flush();
                let _ = confirm.send(());
                return Ok(());
            }
        }
        // A link that is gone ends the loop.
        let _ = confirm.send(());
    }
    Err(std::io::Error::other("the link is gone"))
}

/// A new state is in force: connections to targets that are in it no more, or may idle for another time, are of no use.
fn applied(http: &Server) {
    let (local, view) = (&http.local, http.views.latest());
    let targets: std::collections::HashSet<_> = view
        .state
        .groups()
        .iter()
        .flat_map(|group| {
            let idle_ms = group.idle_timeout_ms.unwrap_or(local.limits().pool_idle_timeout_ms);
            group.targets.iter().map(move |target| (target.alias, target.port, target.generation, idle_ms))
        })
        .collect();
    local.events.applied(&view.state.names);
    let wanted = |key: &Key| targets.contains(&(key.alias, key.port, key.generation, key.idle_ms));
    http.upstream.retain(wanted, |_| true);
}

/// Looks after everything that takes time, once per tick.
async fn sweep(http: Rc<Server>, ticker: Ticker) {
    let local = &http.local;
    let limits = *local.limits();
    let clock = &local.clock;
    let [header, write, body, answer] =
        [limits.header_timeout_ms, limits.write_timeout_ms, limits.body_idle_timeout_ms, limits.response_timeout_ms]
            .map(|ms| clock.ticks(ms));
    loop {
        ticker.tick().await;
        clock.advance();
        local.crowded.set(local.shared.crowded());
        http.active_requests.count_waiting(clock, &local.shared);
        let swept = http.active_requests.sweep(clock, answer, body);
        local.events.limit_reached(Limit::ResponseTimeout, swept.answers);
        local.events.limit_reached(Limit::BodyIdleTimeout, swept.bodies);
        http.clients.sweep(local, header, write);
        http.upstream.sweep();
    }
}

/// Lets requests in flight end by themselves for this long, then ends them.
async fn finish(http: &Server, grace: Duration) {
    let deadline = Instant::now() + grace;
    http.clients.drain();
    while http.clients.len() > 0 && Instant::now() < deadline {
        tokio::time::sleep(LOOK.min(grace)).await;
    }
    http.clients.stop();
    http.upstream.retain(|_| false, |_| false);
    http.tasks.finish(Duration::ZERO).await;
}
