//! Buffers for values that have to be put together before they can be compared, kept from request to request.

use std::cell::RefCell;

/// Most buffers that a thread keeps; one is in use for each level of conditions that are being compared.
const MAX_KEPT: usize = 16;
/// A larger buffer is given back after use.
const MAX_KEPT_BYTES: usize = 64 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with an empty buffer. Calls may be nested: each has its own.
pub(crate) fn with<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.clear();
    let outcome = work(&mut buffer);
    if buffer.capacity() <= MAX_KEPT_BYTES {
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < MAX_KEPT {
                kept.push(buffer);
            }
        });
    }
    outcome
}
