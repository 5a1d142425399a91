//! Runs the commands that describe this host, each with a bound of time and length.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use brattice_wire::records::Flow;

/// Longest output of a command that is kept, bytes.
const MAX_OUTPUT: u64 = 2 * 1024 * 1024;
/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What a command printed, with its errors; `Err`: why there is nothing.
pub(super) fn output(program: &str, arguments: &[String], time: Duration) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program} cannot be started: {e}"))?;
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
                // What is too long is read on, so that the writer ends, and not kept.
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            }
            bytes
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < time => std::thread::sleep(LOOK),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} did not end within {} s", time.as_secs_f32()));
            }
        }
    };
    let text = |handle: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&handle.join().unwrap_or_default()).into_owned()
    };
    let (out, errors) = (text(stdout), text(stderr));
    if out.is_empty() && !status.success() {
        return Err(format!("{program}: {} ({status})", errors.trim()));
    }
    Ok(if errors.is_empty() { out } else { format!("{out}\n--- standard error\n{errors}") })
}

/// The number of connections by endpoints, without the names of workloads.
pub(super) fn flows(json: &str) -> Result<String, String> {
    let flows: Vec<Flow> = serde_json::from_str(json).map_err(|e| format!("flows cannot be read: {e}"))?;
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for flow in &flows {
        let to = flow.service.clone().unwrap_or_else(|| "(not known yet)".to_owned());
        *counts.entry((flow.source_vpc.clone(), to)).or_default() += 1;
    }
    let lines = counts.iter().map(|((from, to), count)| format!("{count} from {from} to {to}\n"));
    Ok(format!("{} connections\n{}", flows.len(), lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, time: Duration) -> Result<String, String> {
        output("sh", &["-c".to_owned(), script.to_owned()], time)
    }

    #[test]
    fn commands_are_bounded_in_time_and_length_and_failures_are_told() {
        let second = Duration::from_secs(5);
        assert_eq!(sh("echo a", second).unwrap(), "a\n");
        assert!(sh("echo no >&2; exit 3", second).unwrap_err().contains("no"));
        assert_eq!(sh("head -c 5000000 /dev/zero", second).unwrap().len() as u64, MAX_OUTPUT);
        assert!(output("/nonexistent", &[], second).is_err());
        let start = Instant::now();
        assert!(sh("exec sleep 30", Duration::from_millis(100)).unwrap_err().contains("did not end"));
        assert!(start.elapsed() < second);
    }
}
