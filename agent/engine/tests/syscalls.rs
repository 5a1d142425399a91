//! What a request costs in system calls, with policies, metrics and the log in force. Needs root: the kernel counts.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]
#![allow(unsafe_code, reason = "libc has no safe way to the kernel's counters")]

#[path = "cost/kept.rs"]
#[allow(dead_code, reason = "shared, and not all need all of it")]
mod kept;
#[path = "auth/scene.rs"]
#[allow(dead_code, reason = "shared with the tests of policies, which need all of it")]
mod scene;
#[path = "http/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the L7 path, which need all of it")]
mod support;
#[path = "cost/tracepoint.rs"]
mod tracepoint;

use crate::{
    kept::{Kept, REQUESTS, thread},
    tracepoint::Counter,
};

/// System calls of the worker's thread for a GET over kept HTTP/1.1 connections: it waits for either side, reads from either
/// and writes to either, once each. It may only fall.
const SYSTEM_CALLS: u64 = 6;
/// What else a worker calls: timers of its own, a request that came in two pieces. In 10,000 requests.
const MORE: u64 = REQUESTS / 10;

#[tokio::test]
async fn a_kept_get_calls_the_kernel_no_more_than_it_did() {
    let mut kept = Kept::start().await;
    let (worker, log) = (thread("worker-0"), thread("log"));
    let calls =
        [libc::SYS_epoll_wait, libc::SYS_recvfrom, libc::SYS_writev].map(|call| Counter::of(worker, Some(call)));
    let all = Counter::of(worker, None);
    let woken = [worker, log].map(|thread| Counter::of(thread, Some(libc::SYS_futex)));
    kept.send(REQUESTS);
    let all = all.count();
    let [waited, read, written] = calls.map(|counter| counter.count());
    let woken: u64 = woken.iter().map(Counter::count).sum();
    kept.check(0).await;
    println!("{all} system calls for {REQUESTS} requests: epoll_wait {waited}, recvfrom {read}, writev {written}");
    // They are counted at all.
    assert!(read >= 2 * REQUESTS && written >= 2 * REQUESTS, "{read} reads, {written} writes");
    assert!(all >= SYSTEM_CALLS * REQUESTS - MORE, "{all} system calls: lower the budget of {SYSTEM_CALLS} a request");
    assert!(
        all <= SYSTEM_CALLS * REQUESTS + MORE,
        "{all} system calls, and no more than {SYSTEM_CALLS} a request are allowed"
    );
    assert_eq!(woken, 0, "nobody waits for a thread, or has to be woken");
}
