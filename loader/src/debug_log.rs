//! Debug lines of the programs about single packets (`aya-log`).

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::str::{FromStr, SplitWhitespace};
use std::sync::{Mutex, PoisonError};

use aya_log::EbpfLogger;
use brattice_abi::DropEvent;
use log::{Log, Metadata, Record};
use tokio::io::unix::AsyncFd;

use crate::readiness::{Owned, readable};
use crate::{Error, Result, events};

/// Most lines that wait to be taken; the ring buffer has room for about as many.
const WAITING: usize = 1024;

/// Where aya-log puts lines.
#[derive(Debug, Default)]
struct Waiting(Mutex<VecDeque<String>>);

impl Log for &Waiting {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < WAITING {
            let line = record.args().to_string();
            lines.push_back(drop_event(&line).map_or(line, |event| events::describe_drop(&event)));
        }
    }

    fn flush(&self) {}
}

/// The drop in a line, as `ebpf/src/report.rs` writes it: numbers, as programs can have no table of names.
fn drop_event(line: &str) -> Option<DropEvent> {
    fn next<T: FromStr>(parts: &mut SplitWhitespace<'_>) -> Option<T> {
        parts.next()?.parse().ok()
    }
    let parts = &mut line.split_whitespace();
    Some(DropEvent {
        at_ns: 0,
        program: next(parts)?,
        reason: next(parts)?,
        ifindex: next(parts)?,
        protocol: next(parts)?,
        source: next::<Ipv6Addr>(parts)?.into(),
        source_port: next(parts)?,
        destination: next::<Ipv6Addr>(parts)?.into(),
        destination_port: next(parts)?,
        pad: [0; 2],
    })
}

/// The reader of the programs' lines. There is one at a time: the ring buffer has one read position.
pub struct DebugLog {
    logger: AsyncFd<Owned<EbpfLogger<&'static Waiting>>>,
    waiting: &'static Waiting,
}

impl std::fmt::Debug for DebugLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DebugLog").finish_non_exhaustive()
    }
}

impl DebugLog {
    /// Of the programs that share their ring buffer with this one.
    pub(crate) fn open(program: u32) -> Result<Self> {
        // Once for the life of an agent that was asked for lines.
        let waiting: &'static Waiting = Box::leak(Box::default());
        let logger =
            EbpfLogger::init_from_id_with_logger(program, waiting).map_err(|e| Error::DebugLog(Box::new(e)))?;
        let logger = readable(logger).map_err(Error::io("waiting for lines of the programs"))?;
        Ok(Self { logger, waiting })
    }

    /// The next line; waits for one. Lines that come faster than they are read are lost.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn next(&mut self) -> Result<String> {
        loop {
            if let Some(line) = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return Ok(line);
            }
            let mut ready = self.logger.readable_mut().await.map_err(Error::io("waiting for lines of the programs"))?;
            ready.get_inner_mut().0.flush();
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_numbers_is_told_by_names() {
        let event = drop_event("3 15 4 6 ::ffff:10.0.0.10 4000 ::ffff:169.254.64.32 80").unwrap();
        assert_eq!(
            events::describe_drop(&event),
            "NoListener by vip_listener on interface 4: TCP 10.0.0.10:4000 → 169.254.64.32:80 (no service listens on this VIP and port)"
        );
        assert!(drop_event("3 15 4 6").is_none());
        assert!(drop_event("anything else that a program may say").is_none());
    }
}
