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
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::kept::{Kept, REQUESTS, thread};

/// Allocations, growing included, of the worker's thread for a GET over kept HTTP/1.1 connections. It may only fall.
const ALLOCATIONS: u64 = 15;

/// Allocates with the system's allocator and counts by thread.
struct Counting;

/// Threads that are counted; what comes later is not.
const THREADS: usize = 64;
/// Thread ids, and how often each allocated.
static COUNTS: [(AtomicU32, AtomicU64); THREADS] = [const { (AtomicU32::new(0), AtomicU64::new(0)) }; THREADS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Counting {
    fn count() {
        PLACE.with(|place| {
            let at = place.get().unwrap_or_else(|| {
                let at = NEXT.fetch_add(1, Relaxed);
                place.set(Some(at));
                if let Some((thread, _)) = COUNTS.get(at) {
                    // SAFETY: gettid(2) has no conditions.
                    thread.store(unsafe { libc::gettid() }.cast_unsigned(), Relaxed);
                }
                at
            });
            if let Some((_, count)) = COUNTS.get(at) {
                count.fetch_add(1, Relaxed);
            }
        });
    }

    /// Of a thread, so far.
    fn of(thread: u32) -> u64 {
        let known = COUNTS.iter().find(|(id, _)| id.load(Relaxed) == thread);
        known.expect("the thread is one of those that are counted").1.load(Relaxed)
    }
}

// SAFETY: all is left to the system's allocator; counting allocates nothing (a thread-local without destructor, statics).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer is from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::test]
async fn a_kept_get_allocates_no_more_than_it_did() {
    let mut kept = Kept::start().await;
    let worker = thread("worker-0");
    let before = Counting::of(worker);
    kept.send(REQUESTS);
    let allocated = Counting::of(worker) - before;
    kept.check().await;
    println!("{allocated} allocations for {REQUESTS} requests");
    let each = (allocated + REQUESTS / 2) / REQUESTS;
    assert!(each <= ALLOCATIONS, "{each} allocations a request, and no more than {ALLOCATIONS} are allowed");
    assert!(each >= ALLOCATIONS, "{each} allocations a request: lower the budget of {ALLOCATIONS}");
}
