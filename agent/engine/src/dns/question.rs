//! An incoming DNS message: a question that can be answered, or one to refuse or to ignore.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};

/// Bytes of a DNS header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// Largest UDP answer, also when the client would take more: fits every path without fragments.
pub const UDP_PAYLOAD: u16 = 1232;
/// Largest UDP answer to a client without EDNS (RFC 1035, 4.2.1).
const PLAIN_PAYLOAD: u16 = 512;

/// A well-formed question of class IN.
#[derive(Clone, Debug)]
pub struct Question {
    /// Of the client's choice.
    pub id: u16,
    /// RD.
    pub recursion_desired: bool,
    /// CD.
    pub checking_disabled: bool,
    /// As asked, also in its case.
    pub query: Query,
    /// The name in lower case, without a trailing dot; `\.` for a dot within a label.
    pub name: String,
    /// The client's EDNS.
    pub edns: Option<Offer>,
}

/// The client's OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Bytes that it takes over UDP.
    pub payload: u16,
    /// DO.
    pub dnssec: bool,
}

/// The result of reading bytes from a workload.
#[derive(Debug)]
pub enum Triage {
    /// No answer: it is no question, or too short to answer.
    Drop,
    /// Refused with this answer.
    Refuse(Vec<u8>),
    /// A question.
    Ask(Box<Question>),
}

/// Looks at a message.
pub fn triage(bytes: &[u8]) -> Triage {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Triage::Drop };
    // QR: an answer is never answered, or two servers could talk forever.
    if header[2] & 0x80 != 0 {
        return Triage::Drop;
    }
    if header[2] & 0x78 != 0 {
        return Triage::Refuse(bare(header, ResponseCode::NotImp));
    }
    let Ok(message) = Message::from_vec(bytes) else { return Triage::Refuse(bare(header, ResponseCode::FormErr)) };
    let [query] = message.queries.as_slice() else { return Triage::Refuse(bare(header, ResponseCode::FormErr)) };
    let question = Box::new(Question {
        id: message.metadata.id,
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        name: key(&query.name),
        query: query.clone(),
        edns: message.edns.as_ref().map(|edns| Offer { payload: edns.max_payload(), dnssec: edns.flags().dnssec_ok }),
    });
    if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return refuse(&question, ResponseCode::BADVERS);
    }
    match (query.query_class, query.query_type) {
        (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => refuse(&question, ResponseCode::Refused),
        (DNSClass::IN, _) => Triage::Ask(question),
        _ => refuse(&question, ResponseCode::Refused),
    }
}

fn refuse(question: &Question, code: ResponseCode) -> Triage {
    match question.answer(code).to_vec() {
        Ok(bytes) => Triage::Refuse(bytes),
        Err(_) => Triage::Drop,
    }
}

/// An answer of a header only, to what cannot be read: id, opcode and RD as they came.
fn bare(header: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    vec![header[0], header[1], 0x80 | header[2] & 0x79, 0x80 | code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A name as the tables of the state have it.
pub fn key(name: &Name) -> String {
    let mut key = String::with_capacity(name.len());
    for label in name.iter() {
        if !key.is_empty() {
            key.push('.');
        }
        for &byte in label {
            if byte == b'.' || byte == b'\\' {
                key.push('\\');
            }
            key.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    key
}

impl Question {
    /// An answer to it, without records yet.
    pub fn answer(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        message.edns = self.edns.map(|offer| edns(offer.dnssec));
        message
    }

    /// Most bytes of an answer over UDP.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_PAYLOAD, |offer| offer.payload.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD)).into()
    }

    /// An answer as bytes; over UDP one that is too long is cut to its question with TC set. `None` if it cannot be
    /// written at all.
    pub fn encode(&self, message: &Message, over_udp: bool) -> Option<Vec<u8>> {
        let limit = if over_udp { self.udp_limit() } else { usize::from(u16::MAX) };
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= limit => Some(bytes),
            Ok(_) => message.truncate().to_vec().ok().filter(|bytes| bytes.len() <= limit),
            Err(_) => self.answer(ResponseCode::ServFail).to_vec().ok(),
        }
    }
}

/// Our OPT record. The client's options (client subnet, cookies) concern its own path and are not passed on.
pub fn edns(dnssec: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(dnssec);
    edns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str) -> Message {
        let mut message = Message::new(77, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message
    }

    fn code(triage: &Triage) -> ResponseCode {
        match triage {
            Triage::Refuse(bytes) => {
                let message = Message::from_vec(bytes).unwrap();
                assert_eq!((message.metadata.id, message.metadata.message_type), (77, MessageType::Response));
                message.metadata.response_code
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusals() {
        let good = question("a.example.");
        let Triage::Ask(asked) = triage(&good.to_vec().unwrap()) else { panic!("refused") };
        assert_eq!((asked.name.as_str(), asked.udp_limit()), ("a.example", 512));

        let mut answer = good.clone();
        answer.metadata.message_type = MessageType::Response;
        assert!(matches!(triage(&answer.to_vec().unwrap()), Triage::Drop));
        assert!(matches!(triage(&[0; 11]), Triage::Drop));

        let mut update = good.clone();
        update.metadata.op_code = OpCode::Update;
        assert_eq!(code(&triage(&update.to_vec().unwrap())), ResponseCode::NotImp);
        let mut two = good.clone();
        two.add_query(good.queries[0].clone());
        assert_eq!(code(&triage(&two.to_vec().unwrap())), ResponseCode::FormErr);
        let whole = good.to_vec().unwrap();
        assert_eq!(code(&triage(&whole[..whole.len() - 1])), ResponseCode::FormErr);
        let mut chaos = good.clone();
        chaos.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(code(&triage(&chaos.to_vec().unwrap())), ResponseCode::Refused);
        let mut transfer = good.clone();
        transfer.queries[0].set_query_type(RecordType::AXFR);
        assert_eq!(code(&triage(&transfer.to_vec().unwrap())), ResponseCode::Refused);
        let mut newer = good.clone();
        newer.set_edns(edns(false).set_version(1).clone());
        // 16 has two names; which one the library reads does not matter.
        assert_eq!(u16::from(code(&triage(&newer.to_vec().unwrap()))), u16::from(ResponseCode::BADVERS));
    }

    #[test]
    fn a_dot_in_a_label_is_no_separator() {
        let tricky = Name::from_labels([&b"orders.shop"[..], b"Internal"]).unwrap();
        assert_eq!(key(&tricky), "orders\\.shop.internal");
        assert_eq!(key(&Name::root()), "");
    }

    #[test]
    fn long_answers_are_cut() {
        let Triage::Ask(asked) = triage(&question("a.example.").to_vec().unwrap()) else { panic!("refused") };
        let mut answer = asked.answer(ResponseCode::NoError);
        for n in 0..100 {
            let record = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A::new(10, 0, 0, n));
            answer.add_answer(hickory_proto::rr::Record::from_rdata(asked.query.name.clone(), 5, record));
        }
        let cut = Message::from_vec(&asked.encode(&answer, true).unwrap()).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        let whole = Message::from_vec(&asked.encode(&answer, false).unwrap()).unwrap();
        assert!(!whole.metadata.truncation && whole.answers.len() == 100);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            triage(&bytes);
        }

        #[test]
        fn damaged_questions_never_panic(
            damage in proptest::collection::vec((0_usize..200, any::<u8>()), 1..12),
            cut in 0_usize..200,
        ) {
            let mut message = question("some.long.name.with.labels.example.");
            message.set_edns(edns(true));
            message.add_answer(hickory_proto::rr::Record::from_rdata(
                Name::from_ascii("x.example.").unwrap(), 5, hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A::new(1, 2, 3, 4))));
            let mut bytes = message.to_vec().unwrap();
            for (place, byte) in damage {
                let length = bytes.len();
                bytes[place % length] = byte;
            }
            bytes.truncate(cut.max(HEADER));
            if let Triage::Ask(question) = triage(&bytes) {
                let answer = question.answer(ResponseCode::NXDomain);
                let encoded = question.encode(&answer, true);
                prop_assert!(encoded.is_none_or(|bytes| bytes.len() <= question.udp_limit()));
            }
        }
    }
}
