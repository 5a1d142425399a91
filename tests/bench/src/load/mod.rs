//! Load, and what its sender saw.

pub(crate) mod h2load;
pub(crate) mod held;
pub(crate) mod open_loop;
pub(crate) mod wrk;

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// What a generator saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Requests that were answered as they should be.
    pub(crate) requests: f64,
    /// Requests that were not.
    pub(crate) failed: f64,
    /// How long it sent, seconds.
    pub(crate) seconds: f64,
    /// Median latency, µs.
    pub(crate) p50: Option<f64>,
    /// Of a hundred, all but one were faster, µs.
    pub(crate) p99: Option<f64>,
    /// Of a thousand, all but one were faster, µs.
    pub(crate) p999: Option<f64>,
}

/// Runs a generator to its end; what it printed.
fn run(command: &mut Command) -> Result<String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn();
    let output = child.with_context(|| format!("cannot start {command:?}"))?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// `250us`, `1.20ms`, `3.4s`, `2m` as µs.
fn microseconds(text: &str) -> Option<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..split].parse().ok()?;
    let unit = match &text[split..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        _ => return None,
    };
    Some(number * unit)
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_read() {
        for (text, us) in [("250us", 250.0), ("250.00us", 250.0), ("1.20ms", 1_200.0), ("3s", 3e6), ("2.00m", 120e6)] {
            assert_eq!(super::microseconds(text), Some(us), "{text}");
        }
        assert_eq!(super::microseconds("12"), None);
    }
}
