//! Time for what a worker does again and again. Not a timer of the runtime: where that has one, every wait for sockets sets a
//! timer of the kernel's and takes it back, and at small load that costs more than the wait.
#![allow(unsafe_code, reason = "the runtime takes a promise about each descriptor")]

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::read,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Ticks at a fixed period. Missed ticks count as one.
#[derive(Debug)]
pub(crate) struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    /// Ticks for the first time after one period.
    ///
    /// # Errors
    /// When there is no descriptor left, or no runtime to wait in.
    pub(crate) fn every(period: Duration) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let period = Timespec::try_from(period).map_err(io::Error::other)?;
        let ticks = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &ticks)?;
        // SAFETY: the owned descriptor stays open, and the same, for as long as this holds it.
        let registered = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Waits for the next tick.
    pub(crate) async fn tick(&self) {
        loop {
            // Neither fails while the runtime runs, but for a timer that has not expired.
            let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
            let read = ready.try_io(|timer| Ok(read(timer.get_ref(), &mut [0; 8])?));
            if matches!(read, Ok(Ok(_))) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_ticks_at_its_period_and_once_for_what_was_missed() {
        const PERIOD: Duration = Duration::from_millis(20);
        let begun = Instant::now();
        let ticker = Ticker::every(PERIOD).unwrap();
        for _ in 0..5 {
            ticker.tick().await;
        }
        assert!(begun.elapsed() >= PERIOD * 5, "{:?}", begun.elapsed());
        std::thread::sleep(PERIOD * 10);
        ticker.tick().await;
        let missed = Instant::now();
        ticker.tick().await;
        ticker.tick().await;
        assert!(missed.elapsed() > PERIOD / 2, "missed ticks are one: {:?}", missed.elapsed());
    }
}
