//! A place for the waker of the one task that waits for something, within a thread.

use std::{
    cell::RefCell,
    task::{Context, Waker},
};

/// The task of `cx` is woken by the next [`wake`]; the one that waited here before is not.
pub(crate) fn park(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut waker = place.borrow_mut();
    match waker.as_mut() {
        Some(known) => known.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

/// Wakes the task that waits here, if there is one.
pub(crate) fn wake(place: &RefCell<Option<Waker>>) {
    let waker = place.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}
