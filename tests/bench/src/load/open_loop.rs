//! Requests at a fixed rate, whatever the answers do. A request's latency counts from when it was due, so that one slow answer
//! is seen in all that waited for it (no coordinated omission).

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Seen, held};
use crate::{daemon, peers::Peer};

struct Lane {
    stream: TcpStream,
    /// When the request in flight was due.
    due: Option<Instant>,
    text: Vec<u8>,
}

/// `rate` requests a second over `connections` connections. Runs on the calling thread, which polls all the time so that no
/// wake-up is measured: it must have a core of its own.
///
/// # Errors
/// When a connection is refused or breaks.
pub(crate) fn load(peer: &Peer, connections: usize, rate: f64, length: Duration) -> Result<Seen> {
    ensure!(rate >= 1.0, "a rate of {rate} is none");
    let mut lanes = Vec::new();
    for _ in 0..connections {
        let mut stream = daemon::connect(peer.client(), peer.http1, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        held::get(&mut stream, peer.host, "/")?;
        stream.set_nonblocking(true)?;
        lanes.push(Lane { stream, due: None, text: Vec::with_capacity(4_096) });
    }
    let request = held::request(peer.host, "/");
    let interval = Duration::from_secs_f64(1.0 / rate);
    let (begin, mut next, mut waiting) = (Instant::now(), Instant::now(), VecDeque::new());
    let mut latencies: Vec<f64> = Vec::with_capacity((rate * length.as_secs_f64()) as usize + 1);
    let mut late = 0.0;
    // What is late at the end is waited for, but not forever.
    let deadline = begin + length + Duration::from_secs(5);
    loop {
        let now = Instant::now();
        while next <= now && next < begin + length {
            waiting.push_back(next);
            next += interval;
        }
        let mut busy = false;
        for lane in &mut lanes {
            if lane.due.is_some() && lane.answered().with_context(|| format!("a connection to {}", peer.name))? {
                let due = lane.due.take().unwrap_or(now);
                latencies.push(due.elapsed().as_secs_f64() * 1e6);
            }
            if lane.due.is_none()
                && let Some(due) = waiting.pop_front()
            {
                lane.stream.write_all(request.as_bytes())?;
                lane.due = Some(due);
            }
            busy |= lane.due.is_some();
        }
        if now >= begin + length && !busy && waiting.is_empty() {
            break;
        }
        if now > deadline {
            late = waiting.len() as f64 + lanes.iter().filter(|lane| lane.due.is_some()).count() as f64;
            break;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| {
        latencies.get(((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1))).copied()
    };
    Ok(Seen { requests: latencies.len() as f64, failed: late, seconds, p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}

impl Lane {
    /// Reads what there is; whether the answer is whole.
    fn answered(&mut self) -> Result<bool> {
        let mut piece = [0; 4_096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => anyhow::bail!("closed by the other side"),
                Ok(read) => self.text.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if held::whole(&self.text).is_some_and(|length| self.text.len() >= length) {
                ensure!(self.text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.text));
                self.text.clear();
                return Ok(true);
            }
        }
    }
}
