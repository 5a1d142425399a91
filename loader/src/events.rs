//! Sampled drops, from the ring buffer.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::maps::{Map, MapData, RingBuf};
use brattice_abi::{self as abi, DropEvent, DropReason};
use tokio::io::unix::AsyncFd;

use crate::readiness::{Owned, readable};
use crate::{Error, Result, sys};

/// What a program dropped, and why.
#[must_use]
pub fn describe_drop(event: &DropEvent) -> String {
    let reason = DropReason::from_u32(event.reason);
    let protocol = match event.protocol {
        abi::IPPROTO_TCP => "TCP".to_owned(),
        abi::IPPROTO_UDP => "UDP".to_owned(),
        other => format!("protocol {other}"),
    };
    let program = match event.program {
        1 => abi::WORKLOAD_INGRESS,
        2 => abi::WORKLOAD_EGRESS,
        3 => abi::VIP_LISTENER,
        4 => "the programs of sockets",
        _ => "?",
    };
    format!(
        "{} by {program} on interface {}: {protocol} {}:{} → {}:{} ({})",
        reason.map_or("?", DropReason::name),
        event.ifindex,
        IpAddr::from(event.source),
        event.source_port,
        IpAddr::from(event.destination),
        event.destination_port,
        reason.map_or("a reason this version does not know", DropReason::text),
    )
}

/// The reader of drop events. There is one at a time: the ring buffer has one read position.
pub struct Events {
    ring: AsyncFd<Owned<RingBuf<MapData>>>,
    taken: Arc<AtomicBool>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn open(map: OwnedFd, taken: &Arc<AtomicBool>) -> Result<Self> {
        if taken.swap(true, Ordering::AcqRel) {
            return Err(Error::EventsTaken);
        }
        let opened = (|| {
            let data = MapData::from_fd(map).map_err(|e| Error::Object(Box::new(e)))?;
            let map = Map::from_map_data(data).map_err(|e| Error::Object(Box::new(e)))?;
            let ring = RingBuf::try_from(map).map_err(|e| Error::Object(Box::new(e)))?;
            readable(ring).map_err(Error::io("waiting for drop events"))
        })();
        match opened {
            Ok(ring) => Ok(Self { ring, taken: Arc::clone(taken) }),
            Err(error) => {
                taken.store(false, Ordering::Release);
                Err(error)
            }
        }
    }

    /// The next event; waits for one. Events that came without a reader and found the buffer full are counted by the
    /// programs (`EventsLost`).
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn next(&mut self) -> Result<DropEvent> {
        loop {
            let mut ready = self.ring.readable_mut().await.map_err(Error::io("waiting for drop events"))?;
            while let Some(item) = ready.get_inner_mut().0.next() {
                // One of another length is not of these programs.
                if let Some(event) = sys::from_bytes(&item) {
                    return Ok(event);
                }
            }
            ready.clear_ready();
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.taken.store(false, Ordering::Release);
    }
}
