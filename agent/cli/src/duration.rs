//! Durations on the command line.

/// Seconds of `90s`, `15m`, `2h`, `1d`, `1h30m`; at least 1 s and at most a year.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    const YEAR: u64 = 365 * 86_400;
    let wrong = || format!("{text:?} is no time; write 90s, 15m, 2h, 1d or 1h30m");
    let mut total = 0u64;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        number.clear();
        total = count.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    if !number.is_empty() || total == 0 {
        return Err(wrong());
    }
    if total > YEAR {
        Err(format!("{text:?} is more than a year; leave --for out for a switch without end"))
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("1h30m"), Ok(5_400));
        for wrong in ["", "0s", "15", "m", "15 m", "-1m", "1.5h", "99999999999999999999s", "9999999d", "1y"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
