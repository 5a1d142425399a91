//! Questions about names that are no service's, to the resolvers of the client's VPC.
//!
//! [`Race`] says when which one is asked, [`Health`] who is asked first. Every attempt has a socket of its own: a random port (the kernel's) and a random id, connected, so that a forged
//! answer must guess both. What comes back must repeat the question. Over UDP first; over TCP when the answer is cut, or
//! when the client came over TCP.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    task::Poll,
};

use brattice_wire::{
    index::VpcIndex,
    snapshot::{AliasGeneration, Dns},
};
use futures_util::{FutureExt, future::LocalBoxFuture};
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        RData, Record,
        rdata::svcb::{SVCB, SvcParamValue},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    state::State,
    tasks::Parties,
    upstream::dial::{self, Sources},
};

use super::{
    health::{Health, Order},
    question::{Question, edns},
    race::{HEAD_START, PATIENCE, Race, Step},
};

/// Resolvers of a VPC that are asked; a question has at most this many sockets.
const MOST_UPSTREAMS: usize = 4;
/// Datagrams that are no answer to our question, before an attempt is given up.
const MOST_STRAY: usize = 16;
/// Larger than any answer to the payload that we offer.
const UDP_BUFFER: usize = 2048;

/// A resolver, and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    address: SocketAddr,
    /// Present when the resolver is a workload: its generation, and the engine source to ask from.
    workload: Option<(AliasGeneration, Option<IpAddr>)>,
}

/// The resolvers of a VPC, in order. An address in our own ranges that is no workload is left out: it would be
/// ourselves.
pub fn upstreams(state: &State, vpc: VpcIndex, sources: &RefCell<Sources>) -> Vec<Upstream> {
    let configured = state.vpc(vpc).map_or(&[][..], |vpc| vpc.dns_upstreams.as_slice());
    let usable = configured.iter().filter_map(|&address| match state.caller_at(address.ip()) {
        Some(workload) => {
            let source = sources.borrow_mut().turn(address.ip());
            Some(Upstream { address, workload: Some((workload.generation, source)) })
        }
        None if is_own(&state.dns, address.ip()) => None,
        None => Some(Upstream { address, workload: None }),
    });
    usable.take(MOST_UPSTREAMS).collect()
}

/// Waits a little longer for the answer of a resolver that was asked only to see whether it answers again.
pub type Trial = LocalBoxFuture<'static, ()>;

/// A question for resolvers.
pub struct Inquiry {
    /// As it came.
    pub question: Rc<Question>,
    /// The resolvers to ask.
    pub upstreams: Vec<Upstream>,
    /// The question came over TCP.
    pub over_tcp: bool,
    /// The workload that asks, and the resolvers that are workloads.
    pub parties: Parties,
    /// Which resolvers answer.
    pub health: Rc<RefCell<Health>>,
    /// For asking several at once.
    pub spares: Rc<Spares>,
}

/// Sockets of questions beyond the one that each has: as many as there may be questions, over all of them. Where none is
/// left, a question lets go of the resolver that it asked first when it asks another.
#[derive(Debug)]
pub struct Spares(Cell<u32>);

impl Spares {
    /// With `count` permits.
    pub fn new(count: u32) -> Rc<Self> {
        Rc::new(Self(Cell::new(count)))
    }

    fn take(self: &Rc<Self>) -> Option<Spare> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(Spare(Rc::clone(self)))
    }
}

/// One of the [`Spares`], until it is dropped.
struct Spare(Rc<Spares>);

impl Drop for Spare {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() + 1);
    }
}

/// An attempt at one resolver, its number in the race, and what has it ask again.
struct Attempt {
    number: usize,
    spare: Option<Spare>,
    work: LocalBoxFuture<'static, io::Result<Message>>,
    again: Rc<Notify>,
}

impl Inquiry {
    /// Asks until one answers, and makes the answer the client's: its id, its question, nothing in our ranges.
    pub async fn ask(self, dns: &Dns) -> (Message, Option<Trial>) {
        let now = Instant::now();
        let Order { places, trial } = self.health.borrow_mut().order(self.addresses(), now);
        let asked: Vec<Upstream> = places.iter().filter_map(|place| self.upstreams.get(*place).copied()).collect();
        let mut race = Race::new(asked.len(), if trial { 2 } else { 1 }, now);
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut code = ResponseCode::ServFail;
        let answer = loop {
            let until = match race.step(Instant::now()) {
                Step::Ask(number) => {
                    // A resolver on trial may still be waited for after the question is
                    // answered.
                    let more = trial || !attempts.is_empty();
                    let spare = if more { self.spares.take() } else { None };
                    if more && spare.is_none() && !attempts.is_empty() {
                        race.forget(attempts.remove(0).number);
                    }
                    attempts.push(self.attempt(number, asked[number], spare));
                    continue;
                }
                Step::AskAgain(number) => {
                    attempts.iter().filter(|one| one.number == number).for_each(|one| one.again.notify_one());
                    continue;
                }
                Step::Wait(until) => until,
                Step::GiveUp => break None,
            };
            let Ok((number, result)) = timeout_at(until, first(&mut attempts)).await else { continue };
            let address = asked[number].address;
            match result {
                Ok(response) => {
                    self.health.borrow_mut().answered(address);
                    if !is_failure(response.metadata.response_code) {
                        break Some(response);
                    }
                    // Broken or unwilling: perhaps the next one is not.
                    code = response.metadata.response_code;
                }
                Err(error) => {
                    self.health.borrow_mut().silent(address, Instant::now());
                    tracing::debug!(%error, upstream = %address, name = self.question.name, "a resolver does not answer");
                }
            }
            race.failed(number, Instant::now());
        };
        for number in race.silent(Instant::now()) {
            self.health.borrow_mut().silent(asked[number].address, Instant::now());
        }
        let trial = attempts.into_iter().find(|attempt| trial && attempt.number == 0 && attempt.spare.is_some());
        let trial = trial.map(|attempt| self.watch(attempt, asked[0].address));
        let answer = match answer {
            Some(answer) => adopt(&self.question, answer, dns),
            None => self.question.answer(code),
        };
        (answer, trial)
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.upstreams.iter().map(|upstream| upstream.address)
    }

    fn attempt(&self, number: usize, upstream: Upstream, spare: Option<Spare>) -> Attempt {
        if let Some((generation, _)) = upstream.workload {
            self.parties.add(upstream.address.ip(), generation);
        }
        let again = Rc::new(Notify::new());
        let (question, over_tcp, notified) = (Rc::clone(&self.question), self.over_tcp, Rc::clone(&again));
        let work = async move { exchange(&question, upstream, over_tcp, &notified).await };
        Attempt { number, spare, work: Box::pin(work), again }
    }

    /// It counts as one that answers if it would have been in time by itself.
    fn watch(&self, attempt: Attempt, address: SocketAddr) -> Trial {
        let health = Rc::clone(&self.health);
        Box::pin(async move {
            let Attempt { work, spare, .. } = attempt;
            if let Ok(Ok(_)) = timeout(HEAD_START, work).await {
                health.borrow_mut().answered(address);
            }
            drop(spare);
        })
    }
}

/// The first attempt that comes to its end, which is taken out; never, where there is none.
async fn first(attempts: &mut Vec<Attempt>) -> (usize, io::Result<Message>) {
    poll_fn(|cx| {
        for place in 0..attempts.len() {
            if let Poll::Ready(result) = attempts[place].work.poll_unpin(cx) {
                return Poll::Ready((attempts.remove(place).number, result));
            }
        }
        Poll::Pending
    })
    .await
}

fn is_failure(code: ResponseCode) -> bool {
    !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::YXDomain)
}

async fn exchange(question: &Question, upstream: Upstream, over_tcp: bool, again: &Notify) -> io::Result<Message> {
    if !over_tcp {
        let answer = over_datagrams(question, upstream, again).await?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
    }
    over_stream(question, upstream).await
}

/// The question as we ask it.
fn query(question: &Question) -> io::Result<(u16, Vec<u8>)> {
    let mut message = Message::query();
    message.metadata.recursion_desired = question.recursion_desired;
    message.metadata.checking_disabled = question.checking_disabled;
    message.add_query(question.query.clone());
    message.set_edns(edns(question.edns.is_some_and(|offer| offer.dnssec)));
    let bytes = message.to_vec().map_err(io::Error::other)?;
    Ok((message.metadata.id, bytes))
}

async fn over_datagrams(question: &Question, upstream: Upstream, again: &Notify) -> io::Result<Message> {
    let socket = dial::datagrams(upstream.workload.and_then(|(_, source)| source), upstream.address)?;
    let (id, bytes) = query(question)?;
    socket.send(&bytes).await?;
    let mut buffer = [0; UDP_BUFFER];
    let mut stray = 0;
    while stray < MOST_STRAY {
        let length = tokio::select! {
            received = socket.recv(&mut buffer) => received?,
            () = again.notified() => {
                socket.send(&bytes).await?;
                continue;
            }
        };
        match accept(question, id, &buffer[..length]) {
            Some(answer) => return Ok(answer),
            None => stray += 1,
        }
    }
    Err(io::Error::other("too many datagrams that are no answer"))
}

async fn over_stream(question: &Question, upstream: Upstream) -> io::Result<Message> {
    let mut stream = match upstream.workload {
        Some((_, source)) => dial::workload(source, upstream.address, PATIENCE).await?,
        None => dial::outside(upstream.address, PATIENCE).await?,
    };
    let (id, bytes) = query(question)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(bytes);
    stream.write_all(&frame).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    accept(question, id, &answer).ok_or_else(|| io::Error::other("what came is no answer to the question"))
}

/// The answer, if it is one to this question.
fn accept(question: &Question, id: u16, bytes: &[u8]) -> Option<Message> {
    if bytes.get(..2)? != id.to_be_bytes() {
        return None;
    }
    let answer = Message::from_vec(bytes).ok()?;
    let kind = answer.metadata.message_type == MessageType::Response && answer.metadata.op_code == OpCode::Query;
    let repeated = match answer.queries.as_slice() {
        // `Name` compares without regard to case.
        [query] => {
            query.name == question.query.name
                && query.query_type == question.query.query_type
                && query.query_class == question.query.query_class
        }
        // Some servers refuse with a header only.
        [] => is_failure(answer.metadata.response_code),
        _ => false,
    };
    (kind && repeated).then_some(answer)
}

/// Our answer out of a resolver's.
fn adopt(question: &Question, answer: Message, dns: &Dns) -> Message {
    let mut ours = question.answer(answer.metadata.response_code);
    let before = answer.answers.len() + answer.authorities.len() + answer.additionals.len();
    let keep = |records: Vec<Record>| records.into_iter().filter(|record| !points_at_us(dns, &record.data)).collect();
    ours.answers = keep(answer.answers);
    ours.authorities = keep(answer.authorities);
    ours.additionals = keep(answer.additionals);
    let removed = before - ours.answers.len() - ours.authorities.len() - ours.additionals.len();
    if removed > 0 {
        tracing::debug!(name = question.name, removed, "a resolver's answer pointed into our ranges; removed");
    } else {
        ours.metadata.authentic_data = answer.metadata.authentic_data;
    }
    ours
}

/// Whether a record holds an address in our ranges: a name outside our zones must not lead to a VIP or an alias.
fn points_at_us(dns: &Dns, data: &RData) -> bool {
    let hints = |record: &SVCB| {
        record.svc_params.iter().any(|(_, value)| match value {
            SvcParamValue::Ipv4Hint(hints) => hints.0.iter().any(|address| is_own(dns, address.0.into())),
            SvcParamValue::Ipv6Hint(hints) => hints.0.iter().any(|address| is_own(dns, address.0.into())),
            _ => false,
        })
    };
    match data {
        RData::A(address) => is_own(dns, address.0.into()),
        RData::AAAA(address) => is_own(dns, address.0.into()),
        RData::SVCB(record) => hints(record),
        RData::HTTPS(record) => hints(record),
        _ => false,
    }
}

/// Whether an address lies in our ranges, also when it is an IPv4 address spelled as IPv6 (mapped or compatible).
pub fn is_own(dns: &Dns, address: IpAddr) -> bool {
    let spelled = match address {
        IpAddr::V6(v6) => v6.to_ipv4().map(IpAddr::V4),
        IpAddr::V4(_) => None,
    };
    dns.own_ranges.iter().any(|&(network, prefix)| {
        [Some(address), spelled].into_iter().flatten().any(|ip| contains(network, prefix, ip))
    })
}

fn contains(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (network.to_canonical(), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::Query,
        rr::{Name, RecordType},
    };
    use proptest::prelude::*;

    use super::{
        super::question::{Triage, triage},
        *,
    };

    fn asked() -> Question {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("www.example.").unwrap(), RecordType::A));
        match triage(&message.to_vec().unwrap()) {
            Triage::Ask(question) => *question,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn hostile_resolvers_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 2..300),
            damage in proptest::collection::vec((0_usize..300, any::<u8>()), 0..8),
        ) {
            let question = asked();
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            accept(&question, id, &bytes);
            // An answer that is nearly right comes further.
            let mut message = Message::response(id, OpCode::Query);
            message.add_query(question.query.clone());
            for octet in 0..4 {
                let address = hickory_proto::rr::rdata::A::new(169, 254, 64, octet);
                message.add_answer(Record::from_rdata(question.query.name.clone(), 1, RData::A(address)));
            }
            let mut wire = message.to_vec().unwrap();
            for (place, byte) in damage {
                let length = wire.len();
                wire[2 + place % (length - 2)] = byte;
            }
            let dns = Dns { own_ranges: vec![("169.254.64.0".parse().unwrap(), 20)], ..Dns::default() };
            if let Some(answer) = accept(&question, id, &wire) {
                let ours = adopt(&question, answer, &dns);
                prop_assert!(ours.answers.iter().all(|record| !points_at_us(&dns, &record.data)));
                let encoded = question.encode(&ours, true).unwrap();
                prop_assert!(encoded.len() <= question.udp_limit());
            }
        }
    }

    #[test]
    fn ranges() {
        let dns = Dns {
            own_ranges: vec![("169.254.64.0".parse().unwrap(), 20), ("fd00::".parse().unwrap(), 64)],
            ..Dns::default()
        };
        for ours in ["169.254.64.0", "169.254.79.255", "::ffff:169.254.70.1", "::169.254.70.1", "fd00::1"] {
            assert!(is_own(&dns, ours.parse().unwrap()), "{ours}");
        }
        for foreign in ["169.254.80.0", "169.254.63.255", "fd00:0:0:1::1", "10.0.0.1"] {
            assert!(!is_own(&dns, foreign.parse().unwrap()), "{foreign}");
        }
        assert!(contains("0.0.0.0".parse().unwrap(), 0, "1.2.3.4".parse().unwrap()));
    }
}
