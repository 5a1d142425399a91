//! What a request costs in allocations, with policies, metrics and the log in force. A binary of its own, with one test, as
//! it replaces the allocator.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]
#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

#[path = "cost/kept.rs"]
mod kept;
#[path = "auth/scene.rs"]
#[allow(dead_code, reason = "shared with the tests of policies, which need all of it")]
mod scene;
#[path = "http/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the L7 path, which need all of it")]
mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::kept::{Kept, REQUESTS, thread};

/// Allocations, growing included, of the worker's thread for a GET over kept HTTP/1.1 connections. It may only fall.
const ALLOCATIONS: u64 = 15;
/// Allocated by the worker's thread for a kept HTTP/1.1 connection after one GET, bytes; 16 KiB of it are two buffers of hyper's,
/// of which hardly a page is touched. It may only fall ...
const BYTES: i64 = 22 * 1_024;
/// ... by more than this.
const STEP: i64 = 1_024;
/// Connections that are counted.
const CONNECTIONS: u64 = 200;

/// Allocates with the system's allocator and counts by thread.
struct Counting;

/// Threads that are counted; what comes later is not.
const THREADS: usize = 64;

/// What a thread did.
struct Count {
    thread: AtomicU32,
    allocations: AtomicU64,
    /// Bytes allocated and not given back.
    bytes: AtomicI64,
}

static COUNTS: [Count; THREADS] =
    [const { Count { thread: AtomicU32::new(0), allocations: AtomicU64::new(0), bytes: AtomicI64::new(0) } }; THREADS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Counting {
    fn count(allocations: u64, bytes: i64) {
        PLACE.with(|place| {
            let at = place.get().unwrap_or_else(|| {
                let at = NEXT.fetch_add(1, Relaxed);
                place.set(Some(at));
                if let Some(count) = COUNTS.get(at) {
                    // SAFETY: gettid(2) has no conditions.
                    count.thread.store(unsafe { libc::gettid() }.cast_unsigned(), Relaxed);
                }
                at
            });
            if let Some(count) = COUNTS.get(at) {
                count.allocations.fetch_add(allocations, Relaxed);
                count.bytes.fetch_add(bytes, Relaxed);
            }
        });
    }

    /// Allocations and bytes of a thread, so far.
    fn of(thread: u32) -> (u64, i64) {
        let known = COUNTS.iter().find(|count| count.thread.load(Relaxed) == thread);
        let known = known.expect("the thread is one of those that are counted");
        (known.allocations.load(Relaxed), known.bytes.load(Relaxed))
    }
}

/// As glibc's allocator takes them: with a word for itself, and in steps of two.
fn size(layout: Layout) -> i64 {
    i64::try_from((layout.size() + 8).next_multiple_of(16).max(32)).unwrap_or(i64::MAX)
}

// SAFETY: all is left to the system's allocator; counting allocates nothing (a thread-local without destructor, statics).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(1, size(layout));
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::count(0, -size(layout));
        // SAFETY: as above; the pointer is from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        let grown = Layout::from_size_align(new, layout.align()).map_or(0, size) - size(layout);
        Self::count(1, grown);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::test]
async fn a_kept_get_allocates_no_more_than_it_did() {
    let mut kept = Kept::start().await;
    let worker = thread("worker-0");
    let (before, _) = Counting::of(worker);
    kept.send(REQUESTS);
    let allocated = Counting::of(worker).0 - before;
    println!("{allocated} allocations for {REQUESTS} requests");
    let each = (allocated + REQUESTS / 2) / REQUESTS;
    assert!(each <= ALLOCATIONS, "{each} allocations a request, and no more than {ALLOCATIONS} are allowed");
    assert!(each >= ALLOCATIONS, "{each} allocations a request: lower the budget of {ALLOCATIONS}");
    let (_, before) = Counting::of(worker);
    let more = kept.more(CONNECTIONS);
    let bytes = (Counting::of(worker).1 - before) / CONNECTIONS.cast_signed();
    println!("{bytes} bytes for a kept connection");
    assert!(bytes <= BYTES, "{bytes} bytes a connection, and no more than {BYTES} are allowed");
    assert!(bytes > BYTES - STEP, "{bytes} bytes a connection: lower the budget of {BYTES}");
    drop(more);
    kept.check(CONNECTIONS).await;
}
