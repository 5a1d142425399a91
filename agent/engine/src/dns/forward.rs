//! Questions about names that are not ours, to the resolvers of the asker's VPC.
//!
//! Every attempt has a socket of its own: a random port (the kernel's) and a random id, connected, so that a forged
//! answer must guess both. What comes back must repeat the question. Over UDP first; over TCP when the answer is cut, or
//! when the asker came over TCP.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use brattice_wire::snapshot::Dns;
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        RData, Record,
        rdata::svcb::{SVCB, SvcParamValue},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use crate::{
    dial::{self, Sources},
    state::State,
    tasks::Parties,
};

use super::question::{Question, edns};

/// How long one resolver has to answer over UDP.
const UDP_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long one resolver has to answer over TCP, connection included.
const TCP_PATIENCE: Duration = Duration::from_secs(3);
/// How long all of them together have: less than the five seconds after which a stub resolver asks again.
const PATIENCE: Duration = Duration::from_millis(4_500);
/// Resolvers of a VPC that are asked.
const MOST_UPSTREAMS: usize = 4;
/// Times the whole list is tried.
const ROUNDS: usize = 2;
/// Datagrams that are no answer to our question, before an attempt is given up.
const MOST_STRAY: usize = 16;
/// Larger than any answer to the payload that we offer.
const UDP_BUFFER: usize = 4096;

/// A resolver, and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    address: SocketAddr,
    /// Present when the resolver is a workload: its generation, and the engine source to ask from.
    workload: Option<(u32, Option<IpAddr>)>,
}

/// The resolvers of a VPC, in order. An address in our own ranges that is no workload is left out: it would be
/// ourselves.
pub fn upstreams(state: &State, vpc: u32, sources: &RefCell<Sources>) -> Vec<Upstream> {
    let configured = state.vpc(vpc).map_or(&[][..], |vpc| vpc.dns_upstreams.as_slice());
    let usable = configured.iter().filter_map(|&address| match state.caller(address.ip()) {
        Some(workload) => {
            let source = sources.borrow_mut().turn(address.ip());
            Some(Upstream { address, workload: Some((workload.generation, source)) })
        }
        None if is_own(&state.dns, address.ip()) => None,
        None => Some(Upstream { address, workload: None }),
    });
    usable.take(MOST_UPSTREAMS).collect()
}

/// Asks until one answers, and makes the answer the asker's: its id, its question, nothing in our ranges.
pub async fn ask(question: &Question, upstreams: &[Upstream], dns: &Dns, over_tcp: bool, parties: &Parties) -> Message {
    if upstreams.is_empty() {
        return question.answer(ResponseCode::Refused);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut code = ResponseCode::ServFail;
    for upstream in upstreams.iter().cycle().take(ROUNDS * upstreams.len()) {
        if Instant::now() >= deadline {
            break;
        }
        if let Some((generation, _)) = upstream.workload {
            parties.set(1, upstream.address.ip(), generation);
        }
        match exchange(question, upstream, over_tcp, deadline).await {
            // Broken or unwilling: perhaps the next one is not.
            Ok(answer) if is_failure(answer.metadata.response_code) => code = answer.metadata.response_code,
            Ok(answer) => return adopt(question, answer, dns),
            Err(error) => {
                tracing::debug!(%error, upstream = %upstream.address, name = question.name, "a resolver does not answer");
            }
        }
    }
    question.answer(code)
}

fn is_failure(code: ResponseCode) -> bool {
    !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::YXDomain)
}

async fn exchange(question: &Question, upstream: &Upstream, over_tcp: bool, deadline: Instant) -> io::Result<Message> {
    if !over_tcp {
        let answer = over_datagrams(question, upstream, deadline).await?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
    }
    over_stream(question, upstream, deadline).await
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

async fn over_datagrams(question: &Question, upstream: &Upstream, deadline: Instant) -> io::Result<Message> {
    let socket = dial::datagrams(upstream.workload.and_then(|(_, source)| source), upstream.address)?;
    let (id, bytes) = query(question)?;
    socket.send(&bytes).await?;
    let deadline = deadline.min(Instant::now() + UDP_PATIENCE);
    let mut buffer = [0; UDP_BUFFER];
    for _ in 0..MOST_STRAY {
        let length = timeout_at(deadline, socket.recv(&mut buffer)).await??;
        if let Some(answer) = accept(question, id, &buffer[..length]) {
            return Ok(answer);
        }
    }
    Err(io::Error::other("too many datagrams that are no answer"))
}

async fn over_stream(question: &Question, upstream: &Upstream, deadline: Instant) -> io::Result<Message> {
    let deadline = deadline.min(Instant::now() + TCP_PATIENCE);
    let left = deadline.saturating_duration_since(Instant::now());
    let mut stream = match upstream.workload {
        Some((_, source)) => dial::workload(source, upstream.address, left).await?,
        None => dial::outside(upstream.address, left).await?,
    };
    let (id, bytes) = query(question)?;
    let talk = async {
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(bytes);
        stream.write_all(&frame).await?;
        let mut answer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut answer).await?;
        accept(question, id, &answer).ok_or_else(|| io::Error::other("what came is no answer to the question"))
    };
    timeout_at(deadline, talk).await?
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

/// Whether a record holds an address in our ranges: a name of somebody else must not lead to a VIP or an alias.
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
