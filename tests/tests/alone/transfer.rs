//! Big bodies: hashes, back-pressure, offloads.

use std::{
    fs,
    io::{BufRead, Read, Write},
    time::{Duration, Instant},
};

use brattice_tests::{
    client::{Connection, HOST},
    lab::{Retail, Workload},
    server::{fill, hex, pattern_hash},
};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Downloads `length` bytes of the pattern, at most `rate` bytes a second, until `enough`; SHA-256 and count.
fn download(open: &mut Connection, length: u64, rate: Option<u64>, enough: u64) -> (String, u64) {
    open.send(format!("GET /bytes/{length} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    let reader = open.reader();
    let mut chunked = false;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        chunked |= line.to_lowercase().starts_with("transfer-encoding: chunked");
        if line == "\r\n" {
            break;
        }
    }
    assert!(chunked, "an unknown length is chunked");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut got = 0_u64;
    let start = Instant::now();
    while got < enough {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let mut left = usize::from_str_radix(size.trim(), 16).unwrap();
        if left == 0 {
            break;
        }
        while left > 0 {
            let count = left.min(buffer.len());
            reader.read_exact(&mut buffer[..count]).unwrap();
            hash.update(&buffer[..count]);
            left -= count;
            got += count as u64;
            if let Some(rate) = rate {
                std::thread::sleep(Duration::from_secs_f64(got as f64 / rate as f64).saturating_sub(start.elapsed()));
            }
        }
        reader.read_line(&mut size).unwrap();
    }
    (hex(&hash.finalize()), got)
}

/// Uploads `length` bytes of the pattern to `/hash`; the server's SHA-256 and count.
fn upload(open: &mut Connection, path: &str, length: u64) -> (String, u64) {
    open.send(format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {length}\r\n\r\n").as_bytes()).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    while at < length {
        let count = usize::try_from(length - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        fill(at, &mut buffer[..count]);
        open.stream().write_all(&buffer[..count]).unwrap();
        at += count as u64;
    }
    let answer = open.answer().unwrap().json();
    (answer["sha256"].as_str().unwrap_or_default().to_owned(), answer["length"].as_u64().unwrap_or_default())
}

/// Resident memory of a process, bytes.
fn memory(pid: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn one_gibibyte_each_way_arrives_whole() {
    let retail = Retail::start();
    let vip = retail.orders();
    let expected = pattern_hash(GIB);
    let mut open = retail.blue.http(vip).unwrap();
    let before = memory(retail.lab.engine_pid());
    assert_eq!(download(&mut open, GIB, None, GIB), (expected.clone(), GIB));
    let mut open = retail.blue.http(vip).unwrap();
    assert_eq!(upload(&mut open, "/hash", GIB), (expected, GIB));
    let grown = memory(retail.lab.engine_pid()).saturating_sub(before);
    assert!(grown < 16 * MIB, "the engine grew by {grown} bytes");
}

#[test]
fn a_slow_receiver_holds_the_sender_back_and_not_the_memory() {
    let retail = Retail::start();
    let vip = retail.orders();
    let engine = retail.lab.engine_pid();
    // A few requests first: what the engine keeps for good is no growth.
    for number in 0..100 {
        retail.blue.http(vip).unwrap().nonce(&format!("{number}")).unwrap();
    }
    let before = memory(engine);
    let rate = 10 * MIB;
    let mut most = 0;
    std::thread::scope(|scope| {
        let down = scope.spawn(|| {
            let mut open = retail.blue.http(vip).unwrap();
            // The server would send a GiB; the client takes 120 MiB of it, slowly, and leaves.
            let (_, got) = download(&mut open, GIB, Some(rate), 120 * MIB);
            got
        });
        let up = scope.spawn(|| {
            let mut open = retail.blue.http(vip).unwrap();
            open.stream().set_write_timeout(Some(Duration::from_secs(60))).unwrap();
            open.stream().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            upload(&mut open, &format!("/hash?rate={rate}"), 120 * MIB)
        });
        while !(down.is_finished() && up.is_finished()) {
            most = most.max(memory(engine));
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(down.join().unwrap() >= 120 * MIB);
        assert_eq!(up.join().unwrap(), (pattern_hash(120 * MIB), 120 * MIB));
    });
    let grown = most.saturating_sub(before);
    assert!(grown < 16 * MIB, "the engine grew by {grown} bytes");
}

fn set_offloads(retail: &Retail, on: bool) {
    let state = if on { "on" } else { "off" };
    let ethtool = |workload: &Workload| {
        for (namespace, interface) in [(&retail.lab.node, workload.interface.as_str()), (&workload.namespace, "eth0")] {
            namespace.sh(&format!("ethtool -K {interface} tx {state} tso {state} gso {state} gro {state}"));
        }
    };
    ethtool(&retail.blue);
    ethtool(&retail.green);
    for interface in ["brattice0", "brattice1"] {
        retail.lab.node.sh(&format!("ethtool -K {interface} tx {state} tso {state} gso {state} gro {state}"));
    }
}

#[test]
fn checksums_are_right_with_offloads_on_and_off() {
    let retail = Retail::start();
    let vip = retail.orders();
    let length = 48 * MIB;
    let expected = pattern_hash(length);
    for on in [false, true] {
        set_offloads(&retail, on);
        let mut open = retail.blue.http(vip).unwrap();
        assert_eq!(download(&mut open, length, None, length), (expected.clone(), length), "offloads {on}");
        let mut open = retail.blue.http(vip).unwrap();
        assert_eq!(upload(&mut open, "/hash", length), (expected.clone(), length), "offloads {on}");
        for transport in ["+notcp", "+tcp"] {
            assert_eq!(
                retail.blue.dig(&["orders.shop.internal", "A", transport]).0,
                "NOERROR",
                "offloads {on} {transport}"
            );
        }
    }
    // Jumbo frames on one side, small ones on the other.
    retail.lab.node.ip("link set blue1 mtu 9000");
    retail.blue.namespace.ip("link set eth0 mtu 9000");
    retail.green.namespace.ip("link set eth0 mtu 1400");
    let mut open = retail.blue.http(vip).unwrap();
    assert_eq!(upload(&mut open, "/hash", length), (expected.clone(), length), "jumbo to small");
    assert_eq!(download(&mut open, length, None, length), (expected, length), "small to jumbo");
}
