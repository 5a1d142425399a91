//! The field `date` of responses that have none (RFC 9110, 6.6.1), written once a second.

use std::{
    cell::{Cell, RefCell},
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::{
    Timestamp,
    fmt::{StdFmtWrite, rfc2822::DateTimePrinter},
};

/// Bytes of a date, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) const LENGTH: usize = 29;

/// The latest second that was asked for, in words.
#[derive(Debug, Default)]
pub(super) struct Date {
    second: Cell<Option<i64>>,
    text: Cell<[u8; LENGTH]>,
    room: RefCell<String>,
}

impl Date {
    /// The present second.
    pub(super) fn now(&self) -> [u8; LENGTH] {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // saturates: such a moment is beyond every calendar.
        self.at(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    fn at(&self, second: i64) -> [u8; LENGTH] {
        if self.second.get() != Some(second) {
            self.second.set(Some(second));
            let room = &mut *self.room.borrow_mut();
            room.clear();
            let timestamp = Timestamp::from_second(second).unwrap_or_default();
            // Fails for years of five digits; then the text is the one before.
            if DateTimePrinter::new().print_timestamp_rfc9110(&timestamp, StdFmtWrite(&mut *room)).is_ok()
                && let Ok(text) = room.as_bytes().try_into()
            {
                self.text.set(text);
            }
        }
        self.text.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_the_second() {
        let date = Date::default();
        for (second, text) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            assert_eq!(date.at(second), text.as_bytes());
        }
    }
}
