//! wrk: HTTP/1.1, as fast as answers come back.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

use super::{Seen, microseconds, run};
use crate::{
    peers::Peer,
    site::{LARGE, LARGE_PATH, UPLOAD_PATH},
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A small answer.
    Small,
    /// A small answer, on a connection of its own.
    NewConnection,
    /// 1 MiB.
    Download,
    /// Sends 1 MiB.
    Upload,
}

/// From `connections` connections, on the site's core.
///
/// # Errors
/// When wrk is missing or cannot be understood.
pub(crate) fn load(peer: &Peer, ask: Ask, connections: usize, length: Duration) -> Result<Seen> {
    let script = peer.site.folder("wrk")?.join(format!("{ask:?}.lua"));
    fs::write(
        &script,
        match ask {
            Ask::Upload => format!("wrk.method = 'POST'; wrk.body = string.rep('x', {LARGE})"),
            _ => String::new(),
        },
    )?;
    let path = match ask {
        Ask::Small | Ask::NewConnection => "/",
        Ask::Download => LARGE_PATH,
        Ask::Upload => UPLOAD_PATH,
    };
    let mut command = peer.client().command("taskset");
    command.args(["-c", &peer.site.core.to_string(), "wrk", "-t1", "--latency", "--timeout", "10s"]);
    command.args([format!("-c{connections}"), format!("-d{}s", length.as_secs().max(1))]);
    command.arg("-s").arg(&script).args(["-H", &format!("Host: {}", peer.host)]);
    if ask == Ask::NewConnection {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(format!("http://{}{path}", peer.http1));
    let text = run(&mut command)?;
    read(&text).with_context(|| format!("cannot read what wrk printed: {text}"))
}

fn read(text: &str) -> Option<Seen> {
    let (mut seen, mut total, mut other) = (Seen::default(), None, 0.0);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["50%", value] => seen.p50 = microseconds(value),
            ["99%", value] => seen.p99 = microseconds(value),
            [count, "requests", "in", time, ..] => {
                total = count.parse::<f64>().ok();
                seen.seconds = microseconds(time.trim_end_matches(','))? / 1e6;
            }
            ["Socket", "errors:", "connect", connect, "read", read, "write", write, "timeout", timeout] => {
                for count in [connect, read, write, timeout] {
                    seen.failed += count.trim_end_matches(',').parse::<f64>().ok()?;
                }
            }
            ["Non-2xx", "or", "3xx", "responses:", count] => other = count.parse::<f64>().ok()?,
            _ => {}
        }
    }
    seen.requests = total? - other;
    seen.failed += other;
    Some(seen)
}

#[cfg(test)]
mod tests {
    #[test]
    fn its_report_is_read() {
        let text = "Running 2s test @ http://10.0.0.1/
  1 threads and 32 connections
  Latency Distribution
     50%  399.00us
     75%  420.00us
     90%    1.02ms
     99%    2.50ms
  118830 requests in 2.00s, 140.00MB read
  Socket errors: connect 0, read 1, write 2, timeout 3
  Non-2xx or 3xx responses: 7
Requests/sec:  59415.00
Transfer/sec:     70.00MB
";
        let seen = super::read(text).unwrap();
        assert_eq!((seen.requests, seen.failed, seen.seconds), (118_823.0, 13.0, 2.0));
        assert_eq!((seen.p50, seen.p99), (Some(399.0), Some(2_500.0)));
        assert!(super::read("unable to connect").is_none());
    }
}
