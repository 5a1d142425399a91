//! The name that was probably meant.

/// Longest name compared, bytes: the work is quadratic in it.
const LONGEST: usize = 128;

/// The candidate with the smallest edit distance to `name` (insert, delete, replace, swap neighbours; case does not count), if
/// it is small for the name's length. Of equals, the first.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let bound = (name.chars().count() / 3).clamp(1, 4);
    // A difference in characters is one in bytes of four times as many at most.
    let alike = |candidate: &&str| candidate.len() <= LONGEST && candidate.len().abs_diff(name.len()) <= bound * 4;
    candidates
        .into_iter()
        .filter(alike)
        .map(|candidate| (strsim::osa_distance(&name, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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
