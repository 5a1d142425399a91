//! Requests without pause, on kept or fresh connections, counted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use super::Connection;
use crate::lab::Workload;

/// What a load saw.
#[derive(Default, Debug, Clone)]
pub struct Tally {
    /// Requests begun.
    pub sent: u64,
    /// Answers 200 with the right nonce.
    pub good: u64,
    /// Good answers by server.
    pub by_server: BTreeMap<String, u64>,
    /// What went wrong, at most 50 texts.
    pub errors: Vec<String>,
    /// How often something went wrong.
    pub failed: u64,
}

/// A thread in a workload's namespace that sends requests until stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts: on one kept connection, or with a fresh connection for every request; at most `limit` requests.
    ///
    /// # Panics
    /// When no thread can be made.
    pub fn start(from: &Workload, to: SocketAddr, kept: bool, limit: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (namespace, its_stop, its_done, its_tally) =
            (from.namespace.clone(), stop.clone(), done.clone(), tally.clone());
        let thread = std::thread::spawn(move || {
            namespace.enter_this_thread();
            let mut connection: Option<Connection> = None;
            for number in 0..limit {
                if its_stop.load(Ordering::SeqCst) {
                    return;
                }
                let nonce = format!("{:p}-{number}", Arc::as_ptr(&its_tally));
                let result = connection
                    .take()
                    .map_or_else(|| std::net::TcpStream::connect(to).map(Connection::new), Ok)
                    .and_then(|mut open| {
                        let answer = open.nonce(&nonce)?;
                        Ok((open, answer))
                    });
                let mut tally = its_tally.lock().expect("no holder of this lock panics");
                tally.sent += 1;
                match result {
                    Ok((open, answer)) => {
                        tally.good += 1;
                        *tally.by_server.entry(answer.server().to_owned()).or_default() += 1;
                        if kept {
                            connection = Some(open);
                        }
                    }
                    Err(error) => {
                        tally.failed += 1;
                        if tally.errors.len() < 50 {
                            tally.errors.push(format!("request {number}: {error}"));
                        }
                    }
                }
                its_done.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { stop, done, tally, thread: Some(thread) }
    }

    /// Requests answered or failed so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// The counts so far.
    ///
    /// # Panics
    /// When the load's thread did.
    pub fn tally(&self) -> Tally {
        self.tally.lock().expect("no holder of this lock panics").clone()
    }

    /// Stops after the present request; the counts.
    ///
    /// # Panics
    /// When the load's thread did.
    pub fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        self.join()
    }

    /// Waits until the limit is reached; the counts.
    ///
    /// # Panics
    /// When the load's thread did.
    pub fn wait(mut self) -> Tally {
        self.join()
    }

    fn join(&mut self) -> Tally {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load's thread did not panic");
        }
        self.tally()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
