//! Numbers, times, truths and addresses: reading and comparing them. Exact, so that no policy depends on rounding.

use std::net::IpAddr;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, date};

/// Digits allowed on either side of the point.
const DIGITS: usize = 18;

/// A decimal number with up to 18 digits before and 18 behind the point, as units of 10⁻¹⁸.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(i128);

impl Number {
    const ONE: i128 = 10i128.pow(18);

    /// Reads `-12.5` and the like; no exponent, no bare point.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, part) = match digits.split_once('.') {
            Some((whole, part)) => (whole, Some(part)),
            None => (digits, None),
        };
        let all = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !all(whole) || !part.is_none_or(all) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let part = part.unwrap_or("").trim_end_matches('0');
        if whole.len() > DIGITS || part.len() > DIGITS {
            return None;
        }
        let padding = std::iter::repeat_n(b'0', DIGITS - part.len());
        let units = whole.bytes().chain(part.bytes()).chain(padding).fold(0i128, |n, d| n * 10 + i128::from(d - b'0'));
        Some(Self(if negative { -units } else { units }))
    }

    pub(crate) fn whole(number: i64) -> Self {
        Self(i128::from(number) * Self::ONE)
    }

    /// Itself, and what stands for all between it and the next numbers that are named: one just above and one just below;
    /// of whole numbers, those.
    pub(crate) fn around(self, whole: bool) -> [Self; 3] {
        if whole {
            let floor = self.0.div_euclid(Self::ONE) * Self::ONE;
            return [Self(floor - Self::ONE), Self(floor), Self(floor + Self::ONE)];
        }
        [Self(self.0 - 1), self, Self(self.0 + 1)]
    }
}

/// Where times are counted from.
const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// A point in time: seconds and nanoseconds since 1970 in UTC, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    seconds: i64,
    nanos: u32,
}

/// The seconds since 1970 of a time as policies write it (ISO 8601, or the seconds themselves); fractions are left out.
pub fn seconds(text: &str) -> Option<i64> {
    Time::parse(text).map(|time| time.seconds)
}

impl Time {
    /// The whole seconds beside it, and at it: a request's time has no fraction.
    pub(crate) fn around(self) -> [Self; 3] {
        [self.seconds.saturating_sub(1), self.seconds, self.seconds.saturating_add(1)].map(Self::epoch)
    }

    pub(crate) const fn epoch(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// Reads ISO 8601 as the W3C profiles it (`2026`, `2026-01`, `2026-01-31`, `2026-01-31T10:00Z`, seconds, fractions,
    /// `+02:00`), or seconds since 1970. Four digits are a year.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if text.len() != 4 && !digits.is_empty() && digits.len() <= 12 && digits.bytes().all(|b| b.is_ascii_digit()) {
            return Some(Self::epoch(text.parse().ok()?));
        }
        let (date, time) = match text.split_once(['T', 't']) {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year = number(parts.next()?, 4, 0..=9999)?;
        let month = parts.next().map(|text| number(text, 2, 1..=12));
        let day = parts.next().map(|text| number(text, 2, 1..=31));
        if parts.next().is_some() || month == Some(None) || day == Some(None) {
            return None;
        }
        let (month, day) = (month.flatten(), day.flatten());
        let [month, day_of_month] = [month, day].map(|part| i8::try_from(part.unwrap_or(1)));
        let date = Date::new(i16::try_from(year).ok()?, month.ok()?, day_of_month.ok()?).ok()?;
        let midnight = date.at(0, 0, 0, 0).duration_since(EPOCH).as_secs();
        match time {
            None => Some(Self::epoch(midnight)),
            Some(_) if day.is_none() => None,
            Some(time) => Self::of_day(time).map(|(seconds, nanos)| Self { seconds: midnight + seconds, nanos }),
        }
    }

    /// `hh:mm[:ss[.s…]]` and a zone: seconds from midnight UTC, which may lie outside the day.
    fn of_day(text: &str) -> Option<(i64, u32)> {
        let zone_at = text.find(['Z', 'z', '+', '-'])?;
        let (clock, zone) = text.split_at(zone_at);
        let offset = match zone.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign, rest @ ..] if *sign != b'Z' && *sign != b'z' => {
                let (hours, minutes) = std::str::from_utf8(rest).ok()?.split_once(':')?;
                let seconds = number(hours, 2, 0..=23)? * 3600 + number(minutes, 2, 0..=59)? * 60;
                if *sign == b'+' { seconds } else { -seconds }
            }
            _ => return None,
        };
        let mut parts = clock.split(':');
        let (hours, minutes) = (number(parts.next()?, 2, 0..=23)?, number(parts.next()?, 2, 0..=59)?);
        let (mut seconds, mut nanos) = (0, 0);
        if let Some(text) = parts.next() {
            let (whole, part) = match text.split_once('.') {
                Some((whole, part)) => (whole, Some(part)),
                None => (text, None),
            };
            seconds = number(whole, 2, 0..=59)?;
            if let Some(part) = part {
                let length = u32::try_from(part.len()).ok().filter(|length| (1..=9).contains(length))?;
                let value = number(part, part.len(), 0..=999_999_999)?;
                nanos = u32::try_from(value * 10i64.pow(9 - length)).ok()?;
            }
        }
        if parts.next().is_some() {
            return None;
        }
        Some((hours * 3600 + minutes * 60 + seconds - offset, nanos))
    }

    /// As `2026-01-31T10:00:00Z`; years 0 to 9999.
    pub(crate) fn write(seconds: i64, out: &mut String) {
        use std::fmt::Write as _;
        let time = EPOCH.saturating_add(SignedDuration::from_secs(seconds)).max(date(0, 1, 1).at(0, 0, 0, 0));
        // To the second; writing to a String does not fail.
        let _ = write!(out, "{time:.0}Z");
    }
}

/// A number of exactly this many digits.
fn number(text: &str, digits: usize, bounds: std::ops::RangeInclusive<i64>) -> Option<i64> {
    if text.len() != digits || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| bounds.contains(number))
}

/// Reads `true` or `false`, in any case.
pub(crate) fn truth(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    address: IpAddr,
    length: u32,
}

impl Block {
    /// Reads `10.0.0.0/8`, or an address alone. Bits behind the prefix do not count.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(digits) if !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|length| *length <= most)?
            }
            Some(_) => return None,
        };
        Some(Self { address, length })
    }

    /// The addresses that share the first `length` bits with one.
    pub(crate) const fn new(address: IpAddr, length: u32) -> Self {
        Self { address, length }
    }

    /// An address in it.
    pub(crate) const fn first(&self) -> IpAddr {
        self.address
    }

    /// The addresses in both: of two blocks one lies in the other, or they have none in common.
    pub(crate) fn common(&self, other: &Self) -> Option<Self> {
        let (wide, narrow) = if self.length < other.length { (self, other) } else { (other, self) };
        wide.contains(narrow.address).then_some(*narrow)
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.checked_shr(32 - self.length).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.checked_shr(128 - self.length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        let n = |text: &str| Number::parse(text).unwrap();
        assert_eq!(n("5"), n("5.000"));
        assert_eq!(n("005"), n("+5"));
        assert_eq!(n("-0"), n("0"));
        assert_eq!(n("443"), Number::whole(443));
        assert!(n("0.1") < n("0.10000001") && n("-2") < n("-1") && n("-1") < n("0") && n("9") < n("10"));
        assert!(n("9007199254740993") > n("9007199254740992"));
        assert!(Number::parse(&"9".repeat(18)).is_some() && Number::parse(&"9".repeat(19)).is_none());
        assert!(Number::parse(&format!("0.{}1", "0".repeat(17))).is_some());
        assert!(Number::parse(&format!("0.{}1", "0".repeat(18))).is_none());
        assert_eq!(n(&"0".repeat(100)), Number::whole(0));
        assert_eq!(n(&format!("-{}.{}", "9".repeat(18), "9".repeat(18))).0, 1 - 10i128.pow(36));
        for bad in ["", "-", "+", ".", "1.", ".5", "1e3", "0x1", "1,5", " 1", "1 ", "--1", "1.2.3", "１"] {
            assert_eq!(Number::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_read_as_the_w3c_writes_them() {
        let at = |text: &str| Time::parse(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(at("1970-01-01"), Time::epoch(0));
        assert_eq!((seconds("1970-01-01T00:01:00.9Z"), seconds("77777"), seconds("x")), (Some(60), Some(77_777), None));
        assert_eq!(at("2026"), at("2026-01-01T00:00:00Z"));
        assert_eq!(at("2026-03"), at("2026-03-01T00:00Z"));
        assert_eq!(at("2026-01-31T10:20:30Z"), Time::epoch(1_769_854_830));
        assert_eq!(at("2026-01-31T12:20:30+02:00"), Time::epoch(1_769_854_830));
        assert_eq!(at("2026-01-31T08:50:30-01:30"), Time::epoch(1_769_854_830));
        assert_eq!(at("1769854830"), Time::epoch(1_769_854_830));
        assert_eq!(at("-1"), at("1969-12-31T23:59:59Z"));
        assert_eq!(at("2000-02-29T00:00Z"), Time::epoch(951_782_400));
        assert_eq!(at("2026-01-31T10:20:30.5Z"), Time { seconds: 1_769_854_830, nanos: 500_000_000 });
        assert_eq!(at("1970-01-01t00:00:00.000000001z"), Time { seconds: 0, nanos: 1 });
        assert_eq!(at("0001-01-01"), Time::epoch(-719_162 * 86_400));
        assert_eq!(at("12345"), Time::epoch(12345));
        assert_eq!(at("999999999999"), Time::epoch(999_999_999_999));
        for bad in [
            "",
            "-",
            "20260131T10",
            "2026-13",
            "2026-00-01",
            "2026-02-29",
            "1900-02-29",
            "2026-04-31",
            "2026-1-1",
            "2026-01-00",
            "2026-01-01T",
            "2026-01-01T10:00",
            "2026-01-01T24:00Z",
            "2026-01-01T10:60Z",
            "2026-01-01T10Z",
            "2026-01-01T10:00:60Z",
            "2026-01-01T10:00:00.Z",
            "2026-01-01T10:00:00.1234567890Z",
            "2026-01-01T10:00+2",
            "2026-01-01T10:00+24:00",
            "2026-01-01T10:00+02:60",
            "2026-01-01T10:00ZZ",
            "2026-01-01T10:00:00:00Z",
            "2026-01-01-01",
            "2026-01T10:00Z",
            "2026-01-01T10:00Z01:00",
            "2026-01-01T10:00z01:00",
            "9999999999999",
            "2026-01T10:00:00.5",
            "yesterday",
            "2026-01-01T10:00Z+01:00",
        ] {
            assert_eq!(Time::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        let days = [-719_162, -1, 0, 58, 59, 60, 364, 365, 366, 789, 790, 11_016, 11_017, 18_261, 20_000, 2_932_896];
        for (index, day) in days.into_iter().enumerate() {
            let seconds = day * 86_400 + i64::try_from(index).unwrap() * 5_000;
            let mut text = String::new();
            Time::write(seconds, &mut text);
            assert_eq!(Time::parse(&text), Some(Time::epoch(seconds)), "{text}");
        }
        for far in [i64::MIN, i64::MAX] {
            let mut text = String::new();
            Time::write(far, &mut text);
            assert!(Time::parse(&text).is_some(), "{text}");
        }
        let mut text = String::new();
        Time::write(1_769_854_830, &mut text);
        assert_eq!(text, "2026-01-31T10:20:30Z");
    }

    #[test]
    fn blocks_hold_their_addresses() {
        let holds = |block: &str, address: &str| Block::parse(block).unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("10.1.2.3/8", "10.9.9.9") && holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("10.0.0.1", "10.0.0.1") && !holds("10.0.0.1", "10.0.0.2") && holds("10.0.0.2/31", "10.0.0.3"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("::/0", "::1") && !holds("::/0", "10.0.0.1") && holds("::1", "::1") && !holds("::1", "::2"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"));
        for bad in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "x", "10.0.0.0/8/8", "::/0000"] {
            assert_eq!(Block::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn truths_are_words() {
        assert_eq!((truth("True"), truth("FALSE"), truth("yes"), truth("")), (Some(true), Some(false), None, None));
    }
}
