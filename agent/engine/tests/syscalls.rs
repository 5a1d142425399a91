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

const CALLS: &str = "raw_syscalls/sys_enter";
/// How the runtime waits for sockets.
const WAITS: &str =
    if cfg!(target_arch = "x86_64") { "syscalls/sys_enter_epoll_wait" } else { "syscalls/sys_enter_epoll_pwait" };

#[tokio::test]
async fn a_kept_get_calls_the_kernel_no_more_than_it_did() {
    let mut kept = Kept::start().await;
    let (worker, log) = (thread("worker-0"), thread("log"));
    let of = |thread, call: libc::c_long| Counter::of(thread, CALLS, Some(format!("id == {call}")));
    let all = Counter::of(worker, CALLS, None);
    let [read, written] = [libc::SYS_recvfrom, libc::SYS_writev].map(|call| of(worker, call));
    let woken = [worker, log].map(|thread| of(thread, libc::SYS_futex));
    let waits = Counter::of(worker, WAITS, None);
    // Neither without end (-1) nor not at all.
    let timed = Counter::of(worker, WAITS, Some("timeout > 0 && timeout <= 2147483647".into()));
    kept.send(REQUESTS);
    let [all, read, written, waits, timed] = [all, read, written, waits, timed].map(|counter| counter.count());
    let woken: u64 = woken.iter().map(Counter::count).sum();
    kept.check(0).await;
    println!("{all} system calls for {REQUESTS} requests: waits {waits}, recvfrom {read}, writev {written}");
    // They are counted at all.
    let least = read.min(written).min(waits);
    assert!(least >= 2 * REQUESTS, "{read} reads, {written} writes, {waits} waits");
    assert!(all >= SYSTEM_CALLS * REQUESTS - MORE, "{all} system calls: lower the budget of {SYSTEM_CALLS} a request");
    assert!(
        all <= SYSTEM_CALLS * REQUESTS + MORE,
        "{all} system calls, and no more than {SYSTEM_CALLS} a request are allowed"
    );
    assert_eq!(woken, 0, "nobody waits for a thread, or has to be woken");
    assert_eq!(timed, 0, "no wait sets a timer");
}
