//! A DNS server that knows a few names: what a VPC's upstream is in the tests.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::lab::Namespace;

/// Most bytes of an answer over UDP, whatever the client takes: fits every path.
const DATAGRAM: usize = 1232;

/// Answers A and AAAA questions from a table (RFC 1035), NXDOMAIN otherwise, on UDP and TCP port 53 of all addresses. What is
/// too long for a datagram is cut to its question, with TC set.
///
/// Its threads wait until the test program ends.
pub struct Resolver {
    questions: Arc<AtomicU64>,
}

impl Resolver {
    /// Starts one in a namespace.
    ///
    /// # Panics
    /// When port 53 is taken.
    pub fn start(namespace: &Namespace, names: &[(&str, &[IpAddr])]) -> Self {
        let table: BTreeMap<String, Vec<IpAddr>> =
            names.iter().map(|(name, addresses)| ((*name).to_owned(), addresses.to_vec())).collect();
        let table = Arc::new(table);
        let questions = Arc::new(AtomicU64::new(0));
        let (udp, tcp) = namespace.enter(|| {
            (
                UdpSocket::bind("[::]:53").expect("UDP port 53 is free"),
                TcpListener::bind("[::]:53").expect("TCP port 53 is free"),
            )
        });
        let (names, count) = (table.clone(), questions.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer(&buffer[..length], &names, DATAGRAM) {
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        let count = questions.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                    if stream.read_exact(&mut question).is_err() {
                        break;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let Some(answer) = answer(&question, &table, usize::from(u16::MAX)) else { break };
                    let mut framed = u16::try_from(answer.len()).expect("a short answer").to_be_bytes().to_vec();
                    framed.extend_from_slice(&answer);
                    if stream.write_all(&framed).is_err() {
                        break;
                    }
                }
            }
        });
        Self { questions }
    }

    /// Questions asked so far.
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::SeqCst)
    }
}

/// The answer, if it is a question; one of more than `most` bytes is cut to its question with TC set.
fn answer(question: &[u8], names: &BTreeMap<String, Vec<IpAddr>>, most: usize) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]);
    let end = at + 4;
    let found = names.get(&labels.join("."));
    let mut records = Vec::new();
    let mut count: u16 = 0;
    for address in found.into_iter().flatten().filter(|address| kind == if address.is_ipv4() { 1 } else { 28 }) {
        count += 1;
        records.extend_from_slice(&[0xc0, 12]);
        records.extend_from_slice(&kind.to_be_bytes());
        records.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        match address {
            IpAddr::V4(address) => records.extend([&[0, 4][..], &address.octets()].concat()),
            IpAddr::V6(address) => records.extend([&[0, 16][..], &address.octets()].concat()),
        }
    }
    let cut = end + records.len() > most;
    if cut {
        (count, records) = (0, Vec::new());
    }
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x81 | if cut { 0x02 } else { 0 }, if found.is_some() { 0x80 } else { 0x83 }, 0, 1]);
    answer.extend(count.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend_from_slice(question.get(12..end)?);
    answer.extend(records);
    Some(answer)
}
