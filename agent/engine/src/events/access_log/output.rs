//! Where lines of the access log go: to the log thread, and to callers that follow the log.
//!
//! Nothing here blocks: where a queue is full, the chunk is dropped and its lines are counted.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use brattice_wire::engine::AccessLog;

/// A worker hands its lines on when it has this many bytes of them ...
pub const CHUNK_BYTES: usize = 64 * 1024;
/// ... and at least this often.
pub const CHUNK_TIME: Duration = Duration::from_millis(50);
/// Most chunks that wait for the log thread.
pub const LOG_CHUNKS: usize = 128;
/// Most chunks that wait for a follower.
pub const FOLLOWER_CHUNKS: usize = 64;
/// Most followers.
pub const FOLLOWERS: usize = 8;
/// Buffers that are kept for the next lines.
const SPARE: usize = 64;

/// Lines of one worker.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) worker: u32,
    /// Number of the worker's record before which the first line was written: a follower from that number on gets it.
    pub(crate) from: u64,
    pub(crate) lines: u64,
    pub(crate) bytes: Vec<u8>,
}

/// To the log thread.
#[derive(Debug)]
pub(crate) enum ToLog {
    Lines(Chunk),
    /// Look at the destination.
    Wake,
    /// Everything before this is to be written now.
    Drain(mpsc::Sender<()>),
}

/// A caller that follows the log.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) chunks: tokio::sync::mpsc::Sender<Arc<Chunk>>,
    /// Lines that there was no room for.
    pub(crate) lost: AtomicU64,
}

/// A new destination of the log, or none.
pub(crate) type Destination = Option<(AccessLog, OwnedFd)>;

/// Shared by all threads.
#[derive(Debug)]
pub struct LogOutput {
    /// Lines written, dropped, left out by sampling.
    pub(crate) lines: [AtomicU64; 3],
    pub(crate) followers: ArcSwap<Vec<Arc<Follower>>>,
    logging: AtomicBool,
    sample: AtomicU32,
    to_log: mpsc::SyncSender<ToLog>,
    log: Mutex<Option<mpsc::Receiver<ToLog>>>,
    destination: Mutex<Option<Destination>>,
    spare: Mutex<Vec<Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for LogOutput {
    fn default() -> Self {
        let (to_log, log) = mpsc::sync_channel(LOG_CHUNKS);
        Self {
            lines: Default::default(),
            followers: ArcSwap::default(),
            logging: AtomicBool::new(false),
            sample: AtomicU32::new(1),
            to_log,
            log: Mutex::new(Some(log)),
            destination: Mutex::default(),
            spare: Mutex::default(),
        }
    }
}

impl LogOutput {
    /// The log goes there from now on, as soon as the log thread is done with what it is writing.
    pub fn set_log(&self, destination: Option<(AccessLog, OwnedFd)>) {
        self.sample.store(destination.as_ref().map_or(1, |(log, _)| log.sample.max(1)), Relaxed);
        self.logging.store(destination.is_some(), Relaxed);
        *lock(&self.destination) = Some(destination);
        // A full queue wakes it as well.
        let _ = self.to_log.try_send(ToLog::Wake);
    }

    /// Lines written, dropped, left out by sampling.
    pub(crate) fn line_counts(&self) -> [u64; 3] {
        self.lines.each_ref().map(|count| count.load(Relaxed))
    }

    /// Waits until what was handed on so far is written, at most so long.
    pub fn drain(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (done, wait) = mpsc::channel();
        let mut message = ToLog::Drain(done);
        while let Err(mpsc::TrySendError::Full(back)) = self.to_log.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    /// Whether there is a log.
    pub(crate) fn logging(&self) -> bool {
        self.logging.load(Relaxed)
    }

    /// Of the requests that were served, one in this many is logged.
    pub(crate) fn sample(&self) -> u32 {
        self.sample.load(Relaxed)
    }

    /// The log thread's end; once.
    pub(crate) fn log_queue(&self) -> Option<mpsc::Receiver<ToLog>> {
        lock(&self.log).take()
    }

    /// A destination that was set since the last look.
    pub(crate) fn new_destination(&self) -> Option<Destination> {
        lock(&self.destination).take()
    }

    /// For the log.
    pub(crate) fn log_lines(&self, chunk: Chunk) {
        let lines = chunk.lines;
        if let Err(mpsc::TrySendError::Full(lost) | mpsc::TrySendError::Disconnected(lost)) =
            self.to_log.try_send(ToLog::Lines(chunk))
        {
            self.lines[1].fetch_add(lines, Relaxed);
            if let ToLog::Lines(lost) = lost {
                self.give_back(lost.bytes);
            }
        }
    }

    /// For all followers.
    pub(crate) fn send_to_followers(&self, chunk: Chunk) {
        let followers = self.followers.load();
        let chunk = Arc::new(chunk);
        for follower in followers.iter() {
            if let Err(tokio::sync::mpsc::error::TrySendError::Full(_)) = follower.chunks.try_send(Arc::clone(&chunk)) {
                follower.lost.fetch_add(chunk.lines, Relaxed);
            }
        }
    }

    /// An empty buffer, used before if possible, with room for a chunk and its last line.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        // A worker does not wait for the log thread.
        let spare = self.spare.try_lock().ok().and_then(|mut spare| spare.pop());
        spare.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4))
    }

    /// A buffer that is of no use any more.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= 4 * CHUNK_BYTES {
            buffer.clear();
            let mut spare = lock(&self.spare);
            if spare.len() < SPARE {
                spare.push(buffer);
            }
        }
    }

    /// Adds a follower, unless there are [`FOLLOWERS`].
    pub(crate) fn follow(&self, follower: &Arc<Follower>) -> bool {
        let mut added = false;
        self.followers.rcu(|followers| {
            let mut followers = Vec::clone(followers);
            added = followers.len() < FOLLOWERS;
            if added {
                followers.push(Arc::clone(follower));
            }
            followers
        });
        added
    }

    /// Takes a follower away.
    pub(crate) fn unfollow(&self, follower: &Arc<Follower>) {
        self.followers.rcu(|followers| {
            let mut followers = Vec::clone(followers);
            followers.retain(|other| !Arc::ptr_eq(other, follower));
            followers
        });
    }
}
