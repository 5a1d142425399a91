//! The name that was probably meant.

/// Longest name compared, characters: the work is quadratic in it.
const LONGEST: usize = 128;

/// The candidate with the smallest edit distance to `name`, if it is small for the name's length. Of equals, the first.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(LONGEST + 1).map(|c| c.to_ascii_lowercase()).collect();
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let bound = (name.len() / 3).clamp(1, 4);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let limit = best.map_or(bound, |(d, _)| d.saturating_sub(1));
        if let Some(d) = distance(&name, candidate, limit) {
            best = Some((d, candidate));
            if d == 0 {
                break;
            }
        }
    }
    best.map(|(_, c)| c)
}

/// Edits (insert, delete, replace, swap neighbours) between two names, if at most `limit`; case does not count.
fn distance(a: &[char], b: &str, limit: usize) -> Option<usize> {
    let b: Vec<char> = b.chars().take(LONGEST + 1).map(|c| c.to_ascii_lowercase()).collect();
    if b.len() > LONGEST || a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        if row.iter().all(|&d| d > limit) {
            return None;
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|&d| d <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["weight", "name", "targetGroupIdentifier"];
        assert_eq!(nearest("weigth", names), Some("weight"));
        assert_eq!(nearest("nmae", names), Some("name"));
        assert_eq!(nearest("TargetGroupidentifer", names), Some("targetGroupIdentifier"));
        assert_eq!(nearest("priority", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest(&"x".repeat(1000), names), None);
    }
}
