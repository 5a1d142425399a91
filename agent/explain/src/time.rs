//! Times as RFC 3339 writes them.

use jiff::SignedDuration;
use jiff::civil::date;

/// `2026-01-31T10:00:00Z` of seconds since 1970.
pub(crate) fn rfc3339(seconds: i64) -> String {
    format!("{:.0}Z", date(1970, 1, 1).at(0, 0, 0, 0).saturating_add(SignedDuration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn agrees_with_the_reader_of_policies() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        for seconds in (-62_000_000_000..253_000_000_000).step_by(123_456_789) {
            let text = rfc3339(seconds);
            assert_eq!(brattice_iam::seconds(&text), Some(seconds), "{text}");
        }
    }
}
