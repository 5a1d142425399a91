//! A DNS server that knows a few names: what a VPC's upstream is in the tests.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::lab::Namespace;

/// Answers A questions from a table (RFC 1035), NXDOMAIN otherwise, on UDP and TCP port 53 of all addresses.
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
    pub fn start(namespace: &Namespace, names: &[(&str, &[Ipv4Addr])]) -> Self {
        let table: BTreeMap<String, Vec<Ipv4Addr>> =
            names.iter().map(|(name, addresses)| ((*name).to_owned(), addresses.to_vec())).collect();
        let table = Arc::new(table);
        let questions = Arc::new(AtomicU64::new(0));
        let (udp, tcp) = namespace.enter(|| {
            (
                UdpSocket::bind("0.0.0.0:53").expect("UDP port 53 is free"),
                TcpListener::bind("0.0.0.0:53").expect("TCP port 53 is free"),
            )
        });
        let (names, count) = (table.clone(), questions.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer(&buffer[..length], &names) {
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
                    let Some(answer) = answer(&question, &table) else { break };
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

fn answer(question: &[u8], names: &BTreeMap<String, Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
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
    let addresses: &[Ipv4Addr] = if kind == 1 { found.map_or(&[], Vec::as_slice) } else { &[] };
    let mut answer = question.get(..2)?.to_vec();
    answer.extend_from_slice(&[
        0x81,
        if found.is_some() { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::try_from(addresses.len()).ok()?,
        0,
        0,
        0,
        0,
    ]);
    answer.extend_from_slice(question.get(12..end)?);
    for address in addresses {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    Some(answer)
}
