//! What answers a request: the picture that the agent's loop published last, the engine, the documents or a probe. No
//! request waits for the loop.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use brattice_abi as abi;
use brattice_model::Owner;
use brattice_sources::worker;
use brattice_wire::api::{Answer, ErrorCode, Mode, Recalled, Request, Scope};
use brattice_wire::records::{MAX_BACKLOG, MAX_REQUEST_ID, Query};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::answers::{Asked, Inquiry};
use super::server::{Call, Reply};
use super::views;
use crate::picture::Picture;
use crate::switches;

/// How long `brattice engine restart` waits for the new engine; less than the API's time for an answer.
pub(crate) const RESTART_PATIENCE: Duration = Duration::from_secs(25);
/// Time that requests in flight have when an engine is stopped or replaced.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);

/// What answers need.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) picture: watch::Receiver<Arc<Picture>>,
    pub(crate) documents: worker::Handle,
    /// Held while a probe runs.
    probing: Arc<Mutex<()>>,
}

impl Calls {
    pub(crate) fn new(picture: watch::Receiver<Arc<Picture>>, documents: worker::Handle) -> Self {
        Self { picture, documents, probing: Arc::default() }
    }

    /// Answers until all senders are gone, each call in a task of its own; the socket bounds how many there are.
    pub(crate) async fn serve(self, mut calls: mpsc::Receiver<Call>) {
        while let Some(Call { request, connection, answer }) = calls.recv().await {
            let own = self.clone();
            tokio::spawn(async move {
                let _ = answer.send(own.answer(request, connection).await);
            });
        }
    }

    async fn answer(&self, request: Request, connection: Option<OwnedFd>) -> Reply {
        let picture = self.picture.borrow().clone();
        match request {
            Request::Status => {
                let stats = picture.stats().await;
                look(move || Answer::Status(Box::new(views::status(&picture, stats)))).await.into()
            }
            Request::Services => {
                let stats = picture.stats().await;
                look(move || Answer::Services(views::services(&picture, stats.as_ref()))).await.into()
            }
            Request::Workloads => look(move || Answer::Workloads(views::workloads(&picture))).await.into(),
            Request::Switch { mode, scope, on, seconds } => {
                look(move || switch(&picture, mode, &scope, on, seconds)).await.into()
            }
            Request::Accept { owner } => self.documents.accept(Owner::from(owner)).await.into(),
            Request::Flows | Request::Logs { .. } | Request::Recall { .. } => {
                hand_over(&picture, &request, connection).await
            }
            Request::Probe => match self.probing.try_lock() {
                // It takes seconds where something is wrong.
                Ok(_alone) => views::probe(&picture.datapath).await.into(),
                Err(_) => failed("a probe is on its way already").into(),
            },
            Request::RestartEngine => match picture.engine.restarter().restart(STOP_GRACE, RESTART_PATIENCE).await {
                Ok(pid) => Answer::Done { message: format!("a new engine serves: process {pid}") }.into(),
                Err(message) => failed(message).into(),
            },
            Request::Route(question) => inquire(&picture, Asked::Route(question)).await.into(),
            Request::Explain { about } => inquire(&picture, Asked::Explain(about)).await.into(),
        }
    }
}

fn failed(message: impl Into<String>) -> Answer {
    Answer::Error { code: ErrorCode::Failed, message: message.into() }
}

async fn inquire(picture: &Picture, asked: Asked) -> Answer {
    let stats = picture.stats().await;
    Inquiry::new(picture, asked, stats).answer().await
}

/// Looks at the kernel, too, which blocks for a moment.
async fn look(look: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    spawn_blocking(look).await.unwrap_or_else(|e| failed(format!("looking failed, which is a fault of Brattice: {e}")))
}

fn switch(picture: &Picture, mode: Mode, scope: &Scope, on: bool, seconds: Option<u64>) -> Answer {
    let lasts = seconds.map(Duration::from_secs);
    match switches::switch(&picture.datapath.maps.switches(), &picture.names(), mode, scope, on, lasts) {
        Ok(message) => {
            warn!("{message}");
            if on && mode == Mode::Detach {
                reset_hosts(picture, scope);
            }
            Answer::Done { message }
        }
        Err(switches::SwitchError::NotFound(message)) => Answer::Error { code: ErrorCode::NotFound, message },
        Err(e) => failed(e.to_string()),
    }
}

/// Ends the connections of processes of the host that were detached: no program sees their packets.
fn reset_hosts(picture: &Picture, scope: &Scope) {
    let Ok(key) = picture.names().key(scope) else { return };
    let detached = |alias: &abi::Alias| match key.scope {
        abi::SWITCH_ALL => true,
        abi::SWITCH_WORKLOAD => alias.workload_id == key.id,
        _ => false,
    };
    let aliases: Vec<IpAddr> = (picture.held.aliases.iter())
        .filter(|(_, alias)| alias.ifindex == 0 && detached(alias))
        .map(|(address, _)| IpAddr::from(*address))
        .collect();
    spawn_blocking(move || {
        for alias in aliases {
            if let Err(e) = brattice_loader::sockets::destroy(alias) {
                error!(%alias, error = %e, "connections of a detached process of the host cannot be ended");
            }
        }
    });
}

/// Has the engine answer, on the caller's connection.
async fn hand_over(picture: &Picture, request: &Request, connection: Option<OwnedFd>) -> Reply {
    let query = match query(request) {
        Ok(query) => query,
        Err(message) => return Answer::Error { code: ErrorCode::BadRequest, message }.into(),
    };
    let Some(connection) = connection else { return failed("the connection is gone").into() };
    if picture.engine.attend(query, connection).await {
        return Reply::HandedOver;
    }
    failed("no engine serves now, and only it knows; see brattice status").into()
}

/// What the engine is asked.
fn query(request: &Request) -> Result<Query, String> {
    match request {
        Request::Flows => Ok(Query::Flows),
        Request::Logs { backlog } => Ok(Query::Follow { backlog_lines: (*backlog).min(MAX_BACKLOG) }),
        Request::Recall { what: Recalled::Request(id) } if id.len() > MAX_REQUEST_ID => {
            Err(format!("a request id has at most {MAX_REQUEST_ID} characters"))
        }
        Request::Recall { what: Recalled::Request(id) } => Ok(Query::Recall { request_id: id.clone() }),
        Request::Recall { what: Recalled::Flow(flow) } => {
            let flow = flow.parse().map_err(|_| format!("{flow:?} is no flow's id; brattice flows shows them"))?;
            Ok(Query::RecallFlow { flow })
        }
        _ => Err("the engine does not answer this".to_owned()),
    }
}
