//! An allocator that counts, for tests of what something costs. A test program that counts says
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//! ```
//!
//! and asks [`counted`] what a piece of work on its own thread allocated, or [`of_thread`] what another thread did.
#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Allocates with the system's allocator and counts by thread.
#[derive(Debug)]
pub struct Counting;

/// Threads that [`of_thread`] knows; those that begin later are not among them.
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
    // Without destructors, so that counting allocates nothing and works in every phase of a thread.
    static OWN: Cell<u64> = const { Cell::new(0) };
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Allocations of the calling thread so far, growing included.
pub fn allocations() -> u64 {
    OWN.with(Cell::get)
}

/// Allocations of some work on the calling thread, growing included.
pub fn counted<R>(work: impl FnOnce() -> R) -> u64 {
    let before = allocations();
    std::hint::black_box(work());
    allocations() - before
}

/// Allocations of a thread so far, and bytes that it allocated and that were not freed on it, as glibc takes them.
///
/// # Panics
/// When the thread is none of the first 64 that allocated something.
pub fn of_thread(thread: u32) -> (u64, i64) {
    let known = COUNTS.iter().find(|count| count.thread.load(Relaxed) == thread);
    let known = known.expect("the thread is one of those that are counted");
    (known.allocations.load(Relaxed), known.bytes.load(Relaxed))
}

fn count(allocations: u64, bytes: i64) {
    OWN.with(|own| own.set(own.get() + allocations));
    PLACE.with(|place| {
        let at = place.get().unwrap_or_else(|| {
            let at = NEXT.fetch_add(1, Relaxed);
            place.set(Some(at));
            if let Some(count) = COUNTS.get(at) {
                count.thread.store(nix::unistd::gettid().as_raw().cast_unsigned(), Relaxed);
            }
            at
        });
        if let Some(count) = COUNTS.get(at) {
            count.allocations.fetch_add(allocations, Relaxed);
            count.bytes.fetch_add(bytes, Relaxed);
        }
    });
}

/// As glibc's allocator takes them: with a word for itself, and in steps of two.
fn size(layout: Layout) -> i64 {
    i64::try_from((layout.size() + 8).next_multiple_of(16).max(32)).unwrap_or(i64::MAX)
}

// SAFETY: all is left to the system's allocator; counting allocates nothing (thread-locals without destructor, statics).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, size(layout));
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -size(layout));
        // SAFETY: as above; the pointer is from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        let grown = Layout::from_size_align(new, layout.align()).map_or(0, size) - size(layout);
        count(1, grown);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new) }
    }
}
