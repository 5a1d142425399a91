//! Questions from outside, on a thread of their own. It serves the metrics, and it answers callers of the agent whose
//! connections were handed over, by asking the workers.

use std::{
    os::fd::OwnedFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use brattice_wire::records::{MAX_BACKLOG, Notice, Query};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use crate::{
    events::access_log::output::{Chunk, FOLLOWER_CHUNKS, FOLLOWERS, Follower},
    memory::Trimmer,
    metrics::{self, page},
    orders::{Dispatcher, Order},
    state::Shared,
};

pub(crate) mod question;

use question::{Answers, Question};

/// Callers at once.
pub(crate) const CALLERS: usize = 16;
/// Time for the workers to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// A caller that takes nothing for so long is disconnected.
const STALLED: Duration = Duration::from_secs(60);
/// How often memory that traffic does not hold any more is looked for.
const TRIM_LOOK: Duration = Duration::from_secs(1);
/// Requests of the link that may wait.
pub(crate) const WAITING: usize = 64;

/// A request of the link to this thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// Answer this caller.
    Attend(Query, OwnedFd),
    /// Serve metrics here, or nowhere.
    Metrics(Option<OwnedFd>),
}

struct Server {
    shared: Arc<Shared>,
    workers: Dispatcher,
}

/// Serves until the link is gone.
///
/// # Errors
/// When the runtime cannot be made.
pub(crate) fn run(
    shared: Arc<Shared>,
    workers: Dispatcher,
    missing: Vec<String>,
    requests: mpsc::Receiver<Request>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let server = Rc::new(Server { shared, workers });
    tokio::task::LocalSet::new().block_on(&runtime, serve(server, missing, requests));
    Ok(())
}

async fn serve(server: Rc<Server>, missing: Vec<String>, mut requests: mpsc::Receiver<Request>) {
    let places = Arc::new(Semaphore::new(CALLERS));
    let mut metrics: Option<JoinHandle<()>> = None;
    let shared = Arc::clone(&server.shared);
    tokio::task::spawn_local(give_back(Arc::clone(&shared)));
    let page: Rc<dyn Fn() -> String> = Rc::new(move || metrics_page(&shared, &missing));
    while let Some(request) = requests.recv().await {
        match request {
            Request::Metrics(socket) => {
                if let Some(before) = metrics.take() {
                    before.abort();
                }
                match socket.map(metrics::server::Listener::new).transpose() {
                    Ok(listener) => {
                        metrics = listener.map(|listener| {
                            tokio::task::spawn_local(metrics::server::serve(listener, Rc::clone(&page)))
                        });
                    }
                    Err(error) => tracing::error!(%error, "the metrics' socket cannot be used"),
                }
            }
            Request::Attend(query, connection) => {
                let stream = std::os::unix::net::UnixStream::from(connection);
                let Ok(stream) = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)) else {
                    continue;
                };
                let (server, place) = (Rc::clone(&server), Arc::clone(&places).try_acquire_owned());
                tokio::task::spawn_local(async move {
                    // A caller that has gone needs no answer.
                    let _ = match place {
                        Ok(_place) => server.attend(stream, query).await,
                        Err(_) => refuse(stream, "the engine answers as many callers as it can; try again").await,
                    };
                });
            }
        }
    }
}

/// Gives memory back that traffic does not hold any more.
async fn give_back(shared: Arc<Shared>) {
    let mut trimmer = Trimmer::default();
    loop {
        tokio::time::sleep(TRIM_LOOK).await;
        trimmer.look(shared.bytes());
    }
}

fn metrics_page(shared: &Shared, missing: &[String]) -> String {
    let counters = &shared.counters;
    let agent = counters.agent();
    page::page(&shared.stats(missing.to_vec()), &counters.failures(), &counters.series.all(), agent.as_ref())
}

async fn refuse(mut stream: UnixStream, message: &str) -> std::io::Result<()> {
    notice(&mut stream, &Notice::Refused { message: message.to_owned() }).await?;
    stream.shutdown().await
}

async fn notice(stream: &mut UnixStream, notice: &Notice) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(notice)?;
    line.push(b'\n');
    write(stream, &line).await
}

/// Writes everything, as long as the caller takes something.
async fn write(stream: &mut UnixStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = tokio::time::timeout(STALLED, stream.write(bytes)).await??;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

impl Server {
    async fn attend(&self, mut stream: UnixStream, query: Query) -> std::io::Result<()> {
        if let Query::Follow { backlog_lines } = query {
            return self.follow(stream, backlog_lines.min(MAX_BACKLOG)).await;
        }
        let recall = matches!(query, Query::Recall { .. } | Query::RecallFlow { .. });
        let Some(question) = self.ask(query).await else {
            return refuse(stream, "the engine's workers did not answer in time; see brattice status").await;
        };
        let (rows, left_out) = {
            let mut answers = question.answers();
            (std::mem::take(&mut answers.rows), answers.left_out)
        };
        // A request is remembered by one worker, and of the same id twice the first is as good.
        let end =
            if recall { rows.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1) } else { rows.len() };
        write(&mut stream, &rows[..end]).await?;
        if left_out > 0 {
            notice(&mut stream, &Notice::LeftOut { rows: left_out }).await?;
        }
        notice(&mut stream, &Notice::End).await?;
        stream.shutdown().await
    }

    /// Has every worker answer.
    async fn ask(&self, query: Query) -> Option<Arc<Question>> {
        let question = Question::new(query);
        self.workers.all(&Order::Ask(Arc::clone(&question)), ANSWER_TIME).await.ok()?;
        Some(question)
    }

    async fn follow(&self, mut stream: UnixStream, backlog_lines: u32) -> std::io::Result<()> {
        let log = &self.shared.log;
        let (chunks, mut told) = mpsc::channel::<Arc<Chunk>>(FOLLOWER_CHUNKS);
        let follower = Arc::new(Follower { chunks, lost: AtomicU64::new(0) });
        // Before the backlog is asked for, so that no line falls between the two.
        if !log.follow(&follower) {
            return refuse(stream, &format!("the log has {FOLLOWERS} followers already; end one of them")).await;
        }
        let _place = Following { server: self, follower: &follower };
        let Some(question) = self.ask(Query::Follow { backlog_lines }).await else {
            return refuse(stream, "the engine's workers did not answer in time; see brattice status").await;
        };
        let Answers { mut lines, from, .. } = std::mem::take(&mut *question.answers());
        // Each worker's come newest first; the sort keeps the order of equal times once they are turned round.
        lines.reverse();
        lines.sort_by_key(|(time, _)| *time);
        let first = lines.len().saturating_sub(backlog_lines as usize);
        for (_, line) in lines.drain(first..) {
            write(&mut stream, &line).await?;
        }
        notice(&mut stream, &Notice::BacklogEnds).await?;
        let mut byte = [0; 64];
        loop {
            let chunk = tokio::select! {
                chunk = told.recv() => chunk,
                // Callers say nothing more; what ends is their connection.
                read = stream.read(&mut byte) => match read {
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(_) => continue,
                },
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let lost = follower.lost.swap(0, Relaxed);
            if lost > 0 {
                notice(&mut stream, &Notice::Lost { lines: lost }).await?;
            }
            // Lines written before the backlog was taken are in it.
            if from.get(&chunk.worker).is_some_and(|from| chunk.from >= *from) {
                write(&mut stream, &chunk.bytes).await?;
            }
        }
    }
}

/// A follower of the log, registered until this is dropped.
struct Following<'a> {
    server: &'a Server,
    follower: &'a Arc<Follower>,
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.server.shared.log.unfollow(self.follower);
    }
}
