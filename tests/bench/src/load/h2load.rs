//! h2load: HTTP/2 with prior knowledge.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Seen, microseconds, run};
use crate::peers::Peer;

/// From `connections` connections with `streams` streams each, on the site's core.
///
/// # Errors
/// When h2load is missing or cannot be understood, or the peer has no HTTP/2.
pub(crate) fn load(peer: &Peer, connections: usize, streams: usize, length: Duration) -> Result<Seen> {
    let to = peer.http2.with_context(|| format!("{} has no HTTP/2", peer.name))?;
    let mut command = peer.client().command("taskset");
    command.args([
        "-c",
        &peer.site.core.to_string(),
        "h2load",
        "-t1",
        &format!("-c{connections}"),
        &format!("-m{streams}"),
    ]);
    command.args([&format!("-D{}", length.as_secs().max(1)), &format!("--connect-to={to}")]);
    command.arg(format!("http://{}/", peer.host));
    let text = run(&mut command)?;
    read(&text).with_context(|| format!("cannot read what h2load printed: {text}"))
}

fn read(text: &str) -> Option<Seen> {
    let mut seen = Seen::default();
    let mut done = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["finished", "in", time, ..] => seen.seconds = microseconds(time.trim_end_matches(','))? / 1e6,
            ["status", "codes:", served, "2xx,", redirected, "3xx,", ..] => {
                done = Some(served.parse::<f64>().ok()? + redirected.parse::<f64>().ok()?);
            }
            ["requests:", .., failed, "failed,", errored, "errored,", timeout, "timeout"] => {
                for count in [failed, errored, timeout] {
                    seen.failed += count.parse::<f64>().ok()?;
                }
            }
            _ => {}
        }
    }
    seen.requests = done?;
    Some(seen)
}

#[cfg(test)]
mod tests {
    #[test]
    fn its_report_is_read() {
        let text = "finished in 2.00s, 40507.00 req/s, 45.00MB/s
requests: 81014 total, 81142 started, 81014 done, 81000 succeeded, 14 failed, 1 errored, 2 timeout
status codes: 81000 2xx, 0 3xx, 0 4xx, 14 5xx
";
        let seen = super::read(text).unwrap();
        assert_eq!((seen.requests, seen.failed, seen.seconds), (81_000.0, 17.0, 2.0));
        assert!(super::read("").is_none());
    }
}
