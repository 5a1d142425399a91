//! DNS answers about our own names.

use std::net::IpAddr;

use brattice_wire::index::VpcIndex;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, SOA},
    },
};

use crate::state::State;

use super::question::Question;

/// Longest TTL of anything we say ourselves, seconds: how long a workload may believe in a service that is gone.
pub const MAX_TTL: u32 = 30;

/// The kind of a name for the VPC that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A service that it may see, with its VIPs of the families that the VPC has.
    Service(Option<IpAddr>, Option<IpAddr>),
    /// A name of a service that does not exist for it: no service has it, or one that the caller may not see.
    Hidden,
    /// A name of Brattice without records: the suffix, and `svc.` below it.
    Empty,
    /// Another name: for the VPC's resolvers.
    Foreign,
}

/// The kind of a name (as [`super::question::key`] writes it).
pub fn classify(state: &State, vpc: VpcIndex, name: &str) -> Kind {
    if let Some((ipv4, ipv6)) = state.resolve(vpc, name) {
        return Kind::Service(ipv4, ipv6);
    }
    if state.is_claimed(name) {
        return Kind::Hidden;
    }
    match below(name, &suffix(state)) {
        Some("" | "svc") => Kind::Empty,
        Some(_) => Kind::Hidden,
        None => Kind::Foreign,
    }
}

/// The part before a suffix, without the dot between; `None` for a name that is not in it.
fn below<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    if suffix.is_empty() {
        return None;
    }
    match name.strip_suffix(suffix)? {
        "" => Some(""),
        rest => rest.strip_suffix('.'),
    }
}

/// The answer to a question about a name of a service; `None` for another name.
pub fn answer(state: &State, vpc: VpcIndex, question: &Question) -> Option<Message> {
    let kind = classify(state, vpc, &question.name);
    let code = match kind {
        Kind::Foreign => return None,
        Kind::Hidden => ResponseCode::NXDomain,
        Kind::Service(..) | Kind::Empty => ResponseCode::NoError,
    };
    let mut message = question.answer(code);
    message.metadata.authoritative = true;
    let ttl = state.dns.ttl_seconds.min(MAX_TTL);
    let name = &question.query.name;
    let asked = question.query.query_type;
    let wanted = |vip: &IpAddr| match vip {
        IpAddr::V4(_) => matches!(asked, RecordType::A | RecordType::ANY),
        IpAddr::V6(_) => matches!(asked, RecordType::AAAA | RecordType::ANY),
    };
    let vips = match kind {
        Kind::Service(ipv4, ipv6) => [ipv4, ipv6],
        _ => [None, None],
    };
    for vip in vips.into_iter().flatten().filter(wanted) {
        let data = match vip {
            IpAddr::V4(vip) => RData::A(A(vip)),
            IpAddr::V6(vip) => RData::AAAA(AAAA(vip)),
        };
        message.add_answer(Record::from_rdata(name.clone(), ttl, data));
    }
    match (message.answers.first(), authority(state, question, ttl)) {
        (Some(_), _) => {}
        (None, Some(soa)) if question.query.query_type == RecordType::SOA && soa.name == *name => {
            message.add_answer(soa);
        }
        (None, Some(soa)) => {
            message.add_authority(soa);
        }
        (None, None) => {}
    }
    Some(message)
}

/// The SOA record that says how long a "no" may be kept: of our suffix, or of the custom domain itself.
fn authority(state: &State, question: &Question, ttl: u32) -> Option<Record> {
    let suffix = suffix(state);
    let zone = match below(&question.name, &suffix) {
        Some(_) => Name::from_ascii(format!("{suffix}.")).ok()?,
        None => question.query.name.clone(),
    };
    let server = zone.prepend_label("ns").unwrap_or_else(|_| zone.clone());
    let mailbox = zone.prepend_label("hostmaster").unwrap_or_else(|_| zone.clone());
    #[allow(clippy::cast_possible_truncation, reason = "serial numbers wrap (RFC 1982)")]
    let serial = state.revision as u32;
    let retry = i32::try_from(MAX_TTL).expect("a TTL of seconds or minutes");
    let soa = SOA::new(server, mailbox, serial, retry, retry, retry, ttl);
    Some(Record::from_rdata(zone, ttl, RData::SOA(soa)))
}

fn suffix(state: &State) -> String {
    state.dns.suffix.trim_matches('.').to_ascii_lowercase()
}
