//! Times: a clock that is read once per event, and its text form.

use std::{
    cell::Cell,
    io::Write as _,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::{SignedDuration, civil::date};

/// How long the wall clock is counted on from one reading of it: a clock that was set shows after this long.
const ANCHOR: Duration = Duration::from_secs(1);

/// Wall-clock times of [`Instant`]s, without asking the system for both.
#[derive(Debug)]
pub(crate) struct WallClock {
    anchor: Cell<(Instant, Duration)>,
    /// The second that was written last.
    text: Cell<(u64, [u8; 20])>,
}

impl Default for WallClock {
    fn default() -> Self {
        Self { anchor: Cell::new((Instant::now(), wall())), text: Cell::new((0, iso(0))) }
    }
}

impl WallClock {
    /// Since 1970, at a moment of about now.
    pub(crate) fn at(&self, moment: Instant) -> Duration {
        let (anchor, since) = self.anchor.get();
        let elapsed = moment.saturating_duration_since(anchor);
        if elapsed < ANCHOR {
            return since + elapsed;
        }
        let now = (Instant::now(), wall());
        self.anchor.set(now);
        now.1.saturating_sub(now.0.saturating_duration_since(moment))
    }

    /// As [`iso`], of what [`WallClock::at`] said.
    pub(crate) fn text(&self, since: Duration) -> [u8; 20] {
        let (known, text) = self.text.get();
        if known == since.as_secs() {
            return text;
        }
        let text = iso(since.as_secs());
        self.text.set((since.as_secs(), text));
        text
    }
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `YYYY-MM-DDTHH:MM:SSZ` of seconds since 1970; beyond the year 9999 its last second.
pub(crate) fn iso(seconds: u64) -> [u8; 20] {
    // saturates: what is later than the calendar is shown as its end.
    let since = SignedDuration::from_secs(seconds.try_into().unwrap_or(i64::MAX));
    let time = date(1970, 1, 1).at(0, 0, 0, 0).saturating_add(since);
    let mut text = *b"0000-00-00T00:00:00Z";
    write!(&mut text[..19], "{time:.0}").expect("a time of years 0 to 9999 without a fraction has 19 bytes");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_078_012_800, "2004-02-29T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (1_795_478_461, "2026-11-24T00:01:01Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(std::str::from_utf8(&iso(seconds)).unwrap(), text);
        }
    }

    #[test]
    fn the_wall_clock_follows() {
        let clock = WallClock::default();
        let begun = Instant::now();
        let first = clock.at(begun);
        assert!(first.abs_diff(wall()) < Duration::from_millis(200));
        assert_eq!(clock.at(begun + Duration::from_millis(300)), first + Duration::from_millis(300));
        let earlier = begun.checked_sub(Duration::from_millis(100)).unwrap_or(begun);
        assert!(clock.at(earlier) <= first);
        for seconds in [7, 7, 1_795_478_461, 0] {
            assert_eq!(clock.text(Duration::from_millis(seconds * 1_000 + 999)), iso(seconds));
        }
    }
}
