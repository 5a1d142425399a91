//! The DNS server of the node: one thread, a UDP socket at each DNS VIP and one TCP listener for all VPCs. The caller is
//! known by the alias that the question comes from.
//!
//! - [`question`]: an incoming message; malformed and unwanted messages end there.
//! - [`local`]: names of services, as far as the client's VPC may see them.
//! - [`forward`]: all other names, to the resolvers of the client's VPC; without any they do not exist (NXDOMAIN), as some
//!   stub resolvers take any other code for a server that is broken, and give up their list of search domains.
//! - [`race`], [`health`]: when which resolver is asked, and which one first.
//! - [`stream`]: DNS over TCP.

pub mod forward;
pub mod health;
pub mod local;
pub mod question;
pub mod race;
pub mod stream;

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use tokio::task::LocalSet;

use crate::{
    events::{DnsEvent, Subscriber, metrics::Metrics},
    limits::{Limit, Taken, Use},
    orders::{Gate, Order, Orders},
    state::{Caller, Shared, State},
    tasks::{Parties, Tasks},
    transport::{Listener, ListeningSocket},
    upstream::dial::Sources,
};

use forward::{Inquiry, Spares, Trial};
use health::Health;
use question::{Triage, triage};

/// Larger than any question; a longer datagram is cut by the kernel and then malformed.
const UDP_BUFFER: usize = 4096;
/// Pause after a failed receive or accept.
const PAUSE: Duration = Duration::from_millis(20);

/// The input of the DNS thread.
pub struct Server {
    /// Bound to the DNS VIP, port 53; non-blocking. Each of the VIPs has one, as answers come from where was asked.
    pub udp: Vec<UdpSocket>,
    /// Non-blocking.
    pub tcp: ListeningSocket,
    /// State, settings, counts.
    pub shared: Arc<Shared>,
    /// The link's orders.
    pub orders: Orders,
}

/// Serves until an [`Order::Shutdown`] is carried out.
///
/// # Errors
/// When the runtime cannot be built, or the link is gone.
pub fn serve(server: Server) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, run(server))
}

async fn run(server: Server) -> io::Result<()> {
    let Server { udp, tcp, shared, mut orders } = server;
    let gate = Gate::new(shared.state.load().revision > 0);
    let spares = shared.limits.dns_in_flight;
    let resolver = Rc::new(Resolver {
        sources: RefCell::new(Sources::all(&shared.settings)),
        metrics: Metrics::of_dns(&shared.counters),
        shared,
        tasks: Rc::default(),
        in_flight: Rc::default(),
        health: Rc::default(),
        spares: Spares::new(spares),
    });
    let tcp = Listener::new(tcp)?;
    let mut serving = vec![tokio::task::spawn_local(gate.behind(stream::accept(Rc::clone(&resolver), tcp)))];
    for udp in udp {
        let udp = Rc::new(tokio::net::UdpSocket::from_std(udp)?);
        serving.push(tokio::task::spawn_local(gate.behind(Rc::clone(&resolver).datagrams(udp))));
    }
    while let Some((order, confirm)) = orders.recv().await {
        match order {
            // Every question asks for the state anew.
            Order::Applied => {
                resolver.forget();
                gate.open();
            }
            // Nothing is written down about questions.
            Order::Ask(_) => {}
            Order::CloseAliases(aliases) => resolver.tasks.close(&aliases).await,
            Order::Shutdown(grace) => {
                serving.iter().for_each(tokio::task::JoinHandle::abort);
                resolver.tasks.finish(grace).await;
                let _ = confirm.send(());
                return Ok(());
            }
        }
        // The link has given up waiting if there is no receiver.
        let _ = confirm.send(());
    }
    Err(io::Error::other("the link is gone"))
}

/// The state that all questions share.
struct Resolver {
    shared: Arc<Shared>,
    metrics: Metrics,
    tasks: Rc<Tasks>,
    sources: RefCell<Sources>,
    in_flight: Rc<Cell<u32>>,
    health: Rc<RefCell<Health>>,
    spares: Rc<Spares>,
}

/// A place among the questions in flight, until it is dropped.
struct Admitted {
    in_flight: Rc<Cell<u32>>,
    _taken: Taken,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }
}

/// The way in which a question is answered.
enum Plan {
    /// It is answered.
    Answer(Option<Vec<u8>>),
    /// It is for the VPC's resolvers.
    Forward(Forward),
}

/// A question on its way.
struct Forward {
    inquiry: Inquiry,
    state: Arc<State>,
    admitted: Admitted,
}

impl Forward {
    fn parties(&self) -> Parties {
        self.inquiry.parties.clone()
    }

    /// The answer's bytes, and what is to be waited for when it is sent.
    async fn answer(self) -> (Option<Vec<u8>>, Option<Trial>) {
        let Self { inquiry, state, admitted } = self;
        let (question, over_tcp) = (Rc::clone(&inquiry.question), inquiry.over_tcp);
        let (answer, trial) = inquiry.ask(&state.dns).await;
        drop(admitted);
        (question.encode(&answer, !over_tcp), trial)
    }
}

impl Resolver {
    /// Resolvers that no VPC has any more.
    fn forget(&self) {
        let state = self.shared.state.load();
        let known: HashSet<SocketAddr> = state.vpcs().iter().flat_map(|vpc| &vpc.dns_upstreams).copied().collect();
        self.health.borrow_mut().retain(|resolver| known.contains(&resolver));
    }

    /// DNS has the metrics subscriber only.
    fn emit(&self, event: DnsEvent) {
        self.metrics.on_dns(&event);
    }

    /// A place among the questions in flight, if there is one for this workload.
    fn admit(&self, caller: &Caller<'_>) -> Option<Admitted> {
        let limits = &self.shared.limits;
        if self.in_flight.get() >= limits.dns_in_flight {
            self.emit(DnsEvent::LimitReached(Limit::DnsInFlight));
            return None;
        }
        let Some(taken) = caller.usage.take(Use::Dns, limits.dns_in_flight_per_workload) else {
            self.emit(DnsEvent::LimitReached(Limit::DnsInFlightPerWorkload));
            return None;
        };
        self.in_flight.set(self.in_flight.get() + 1);
        Some(Admitted { in_flight: Rc::clone(&self.in_flight), _taken: taken })
    }

    /// Answers, or plans to forward. What needs no resolver is answered at once and takes no place in flight.
    fn plan(&self, state: &Arc<State>, caller: &Caller<'_>, bytes: &[u8], over_tcp: bool) -> Plan {
        let question = match triage(bytes) {
            Triage::Drop => return Plan::Answer(None),
            Triage::Refuse(answer) => {
                self.emit(DnsEvent::Refused);
                return Plan::Answer(Some(answer));
            }
            Triage::Ask(question) => question,
        };
        if let Some(answer) = local::answer(state, caller.vpc, &question) {
            self.emit(DnsEvent::Answered);
            return Plan::Answer(question.encode(&answer, !over_tcp));
        }
        let upstreams = forward::upstreams(state, caller.vpc, &self.sources);
        if upstreams.is_empty() {
            self.emit(DnsEvent::Answered);
            return Plan::Answer(question.encode(&question.answer(ResponseCode::NXDomain), !over_tcp));
        }
        let Some(admitted) = self.admit(caller) else {
            self.emit(DnsEvent::Refused);
            return Plan::Answer(question.encode(&question.answer(ResponseCode::ServFail), !over_tcp));
        };
        self.emit(DnsEvent::Forwarded);
        let parties = Parties::default();
        parties.set(0, caller.alias, caller.generation);
        let (health, spares) = (Rc::clone(&self.health), Rc::clone(&self.spares));
        let inquiry = Inquiry { question: Rc::from(question), upstreams, over_tcp, parties, health, spares };
        Plan::Forward(Forward { inquiry, state: Arc::clone(state), admitted })
    }

    /// Answers datagrams forever.
    async fn datagrams(self: Rc<Self>, socket: Rc<tokio::net::UdpSocket>) {
        let mut buffer = vec![0; UDP_BUFFER];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((length, peer)) => self.datagram(&socket, &buffer[..length], peer),
                Err(error) => {
                    brattice_wire::rarely!(warn, %error, "a question cannot be received");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn datagram(&self, socket: &Rc<tokio::net::UdpSocket>, bytes: &[u8], peer: SocketAddr) {
        let state = self.shared.state.load_full();
        let alias: IpAddr = peer.ip().to_canonical();
        let Some(caller) = state.caller_at(alias) else {
            self.emit(DnsEvent::UnknownPeer);
            return;
        };
        match self.plan(&state, &caller, bytes, false) {
            Plan::Answer(None) => {}
            // A full send buffer loses the answer, as the network may; the client asks again.
            Plan::Answer(Some(answer)) => drop(socket.try_send_to(&answer, peer)),
            Plan::Forward(forward) => {
                let socket = Rc::clone(socket);
                self.tasks.spawn(forward.parties(), async move {
                    let (answer, trial) = forward.answer().await;
                    if let Some(answer) = answer {
                        // As above.
                        let _ = socket.send_to(&answer, peer).await;
                    }
                    if let Some(trial) = trial {
                        trial.await;
                    }
                });
            }
        }
    }
}
