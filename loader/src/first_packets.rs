//! Keeps what a new workload sends to VIPs before `workload_ingress` is attached to its interface, and lets it arrive once more then.
//!
//! Until then such packets are the stack's, which refuses them. Where the refusal does not arrive, a SYN is sent again after a second, a
//! DNS question after five: where the host has no route back to the workload (the addresses of its VPC are those of another one, say),
//! or while the kernel has not brought the host's end of a new link into use.
//! What is kept is not read here: the kernel chooses it by its destination, and it arrives unchanged at the interface that
//! it came by. So the programs attest who sent it as they do for any packet.

mod capture;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::capture::Capture;
use crate::netlink::link::{self, Event};
use crate::netlink::{Family, Socket};
use crate::options::Options;
use crate::sys::Arrival;
use crate::{Error, Result};

/// Most interfaces whose packets are kept at a time.
const MAX_INTERFACES: usize = 64;
/// What an interface receives is kept this long after it appeared, unless it is attached before.
const KEPT: Duration = Duration::from_secs(5);
/// How often it is looked whether that is over, while anything is kept.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How often it is looked whether anybody needs this, while nothing is kept.
const LOOK_IDLE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Multicast group of links (`RTNLGRP_LINK`).
const LINKS: u32 = 1;

/// The first packets of new interfaces in the network namespace in which it was made.
#[derive(Debug)]
pub struct FirstPackets {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    arrival: Arrival,
    vips: Vec<IpNet>,
    kept: Mutex<BTreeMap<u32, (Instant, Capture)>>,
}

impl FirstPackets {
    /// Begins, on a thread of its own, with the interfaces that appear from now on.
    ///
    /// # Errors
    /// When the kernel refuses the program or the socket of changes; no thread.
    pub fn keep(options: &Options) -> Result<Self> {
        let mut vips = vec![IpNet::V4(options.vip)];
        vips.extend(options.ipv6.map(|ranges| IpNet::V6(ranges.vip)));
        let arrival = Arrival::load().map_err(Error::bpf("loading the program that lets frames arrive"))?;
        let changes =
            Socket::listen(Family::Route, &[LINKS], false).map_err(Error::netlink("listening for new interfaces"))?;
        let shared = Arc::new(Shared { arrival, vips, kept: Mutex::default() });
        let mut watch = Watch { shared: Arc::downgrade(&shared), changes, known: BTreeSet::new() };
        watch.list().map_err(Error::netlink("listing interfaces"))?;
        std::thread::Builder::new()
            .name("first-packets".to_owned())
            .spawn(move || watch.run())
            .map_err(Error::io("starting a thread for the first packets of new interfaces"))?;
        Ok(Self { shared })
    }

    /// Lets what an interface received before its program was attached arrive once more; how many packets. Nothing is kept of the
    /// interface afterwards. (Whether a refusal reached the workload is not known: it is lost also while the kernel brings a new link into
    /// use. What was refused is answered with a SYN-ACK or a response that the workload's stack has no use for.)
    ///
    /// # Errors
    /// When the kernel refuses; what is lost then is sent again by the workload's own stack.
    pub fn release(&self, ifindex: u32) -> Result<usize> {
        let Some((_, capture)) = self.shared.kept().remove(&ifindex) else { return Ok(0) };
        let frames = capture.take();
        close(vec![capture]);
        // The interface went down: nothing is known of what came before.
        let Ok(frames) = frames else { return Ok(0) };
        for frame in &frames {
            self.shared
                .arrival
                .arrive(ifindex, frame)
                .map_err(Error::bpf(format!("letting packets arrive at interface {ifindex} again")))?;
        }
        Ok(frames.len())
    }
}

/// Closes sockets on a thread of its own: the kernel waits a grace period of RCU for each.
fn close(captures: Vec<Capture>) {
    if !captures.is_empty() {
        // Without a thread they are closed here.
        let _ = std::thread::Builder::new().name("close-captures".to_owned()).spawn(move || drop(captures));
    }
}

impl Shared {
    /// A poisoned lock only means that a thread panicked with a whole map.
    fn kept(&self) -> MutexGuard<'_, BTreeMap<u32, (Instant, Capture)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn appeared(&self, ifindex: u32) {
        let mut kept = self.kept();
        if kept.len() >= MAX_INTERFACES {
            tracing::debug!(
                ifindex,
                most = MAX_INTERFACES,
                "too many new interfaces: the first packets of this one are not kept"
            );
            return;
        }
        match Capture::open(ifindex, &self.vips) {
            Ok(capture) => drop(kept.insert(ifindex, (Instant::now(), capture))),
            // It is gone again, or there are no descriptors: the workload's stack sends again.
            Err(error) => tracing::debug!(ifindex, %error, "the first packets of an interface are not kept"),
        }
    }

    /// Closes what is kept and `unwanted`.
    fn forget(&self, unwanted: impl Fn(u32, Instant) -> bool) {
        let mut kept = self.kept();
        let old: Vec<u32> =
            kept.iter().filter(|(index, (since, _))| unwanted(**index, *since)).map(|(index, _)| *index).collect();
        close(old.into_iter().filter_map(|index| kept.remove(&index)).map(|(_, capture)| capture).collect());
    }
}

/// What the thread owns.
struct Watch {
    shared: Weak<Shared>,
    changes: Socket,
    /// Interfaces that exist.
    known: BTreeSet<u32>,
}

impl Watch {
    /// Takes the interfaces that exist as known.
    fn list(&mut self) -> io::Result<()> {
        let mut socket = Socket::open(Family::Route)?;
        self.known = link::list(&mut socket, None)?.into_iter().map(|link| link.ifindex).collect();
        Ok(())
    }

    fn run(mut self) {
        while let Some(shared) = self.shared.upgrade() {
            if let Err(error) = self.take(&shared) {
                tracing::debug!(%error, "changes of interfaces were lost");
                // Those that appeared meanwhile are not new any more.
                if self.list().is_err() {
                    return;
                }
            }
            shared.forget(|_, since| since.elapsed() >= KEPT);
            let timeout = if shared.kept().is_empty() { LOOK_IDLE } else { LOOK };
            drop(shared);
            let _ = poll(&mut [PollFd::new(&self.changes, PollFlags::IN)], Some(&timeout));
        }
    }

    /// Takes in the changes that there are.
    fn take(&mut self, shared: &Shared) -> io::Result<()> {
        loop {
            let known = &mut self.known;
            let received = self.changes.receive(|kind, payload| match Event::parse(kind, payload) {
                // Only these kinds can be a workload's.
                Some(Event::Is(link)) if known.insert(link.ifindex) && matches!(link.kind.as_str(), "veth" | "tap") => {
                    shared.appeared(link.ifindex);
                }
                Some(Event::Gone(ifindex)) => {
                    known.remove(&ifindex);
                    shared.forget(|index, _| index == ifindex);
                }
                _ => {}
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            }
        }
    }
}
