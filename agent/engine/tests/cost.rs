//! What a request costs in allocations, with policies, metrics and the log in force. A binary of its own, with one test, as
//! it replaces the allocator.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]

#[path = "cost/kept.rs"]
mod kept;
#[path = "auth/scene.rs"]
#[allow(dead_code, reason = "shared with the tests of policies, which need all of it")]
mod scene;
#[path = "http/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the L7 path, which need all of it")]
mod support;

use brattice_allocations::{Counting, of_thread};

use crate::kept::{Kept, REQUESTS, thread};

/// Allocations, growing included, of the worker's thread for a GET over kept HTTP/1.1 connections. It may only fall.
const ALLOCATIONS: u64 = 10;
/// Allocated by the worker's thread for a kept HTTP/1.1 connection after one GET, bytes: it has no buffer. It may only fall ...
const BYTES: i64 = 3 * 1_024;
/// ... by more than this.
const STEP: i64 = 1_024;
/// Connections of a set that is counted.
const CONNECTIONS: u64 = 200;
/// Sets, of which the least counts: by chance, a second connection to the target falls into some of them.
const SETS: u64 = 3;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::test]
async fn a_kept_get_allocates_no_more_than_it_did() {
    let mut kept = Kept::start().await;
    let worker = thread("worker-0");
    let (before, _) = of_thread(worker);
    kept.send(REQUESTS);
    let allocated = of_thread(worker).0 - before;
    println!("{allocated} allocations for {REQUESTS} requests");
    let each = (allocated + REQUESTS / 2) / REQUESTS;
    assert!(each <= ALLOCATIONS, "{each} allocations a request, and no more than {ALLOCATIONS} are allowed");
    assert!(each >= ALLOCATIONS, "{each} allocations a request: lower the budget of {ALLOCATIONS}");
    let mut more = Vec::new();
    let sets = (0..SETS).map(|_| {
        let (_, before) = of_thread(worker);
        more.push(kept.more(CONNECTIONS));
        (of_thread(worker).1 - before) / CONNECTIONS.cast_signed()
    });
    let bytes = sets.min().expect("there are sets");
    println!("{bytes} bytes for a kept connection");
    assert!(bytes <= BYTES, "{bytes} bytes a connection, and no more than {BYTES} are allowed");
    assert!(bytes > BYTES - STEP, "{bytes} bytes a connection: lower the budget of {BYTES}");
    drop(more);
    kept.check(SETS * CONNECTIONS).await;
}
