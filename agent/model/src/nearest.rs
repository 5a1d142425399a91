//! Nearest names: what was probably meant.

use std::collections::BTreeSet;

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

/// The same; else the candidate that says the same in more words, or in fewer: `action` for `defaultAction`, `domains` for
/// `customDomainNames`, `IAM` for `AWS_IAM`.
pub(crate) fn meant<'a>(name: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    nearest(name, candidates.clone()).or_else(|| {
        if name.len() > LONGEST {
            return None;
        }
        let own = words(name);
        let difference = |candidate: &&str| {
            let other = words(candidate);
            let related = !own.is_empty() && (own.is_subset(&other) || other.is_subset(&own)) && !other.is_empty();
            related.then(|| own.symmetric_difference(&other).count())
        };
        let mut found: Vec<(usize, bool, &str)> = candidates
            .filter_map(|candidate| {
                Some((difference(&candidate)?, candidate.ends_with('s') != name.ends_with('s'), candidate))
            })
            .collect();
        found.sort_unstable();
        let (first, second) = (found.first()?, found.get(1));
        // Of several that are as near none is named.
        second.is_none_or(|second| (second.0, second.1) != (first.0, first.1)).then_some(first.2)
    })
}

/// The words of `camelCase`, `SNAKE_CASE` or `kebab-case` in lower case, without the `s` of a plural.
fn words(name: &str) -> BTreeSet<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = None::<char>;
    for c in name.chars() {
        let begins = match before {
            None => true,
            Some(before) => !before.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase()),
        };
        if c.is_alphanumeric() {
            if begins {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        before = Some(c);
    }
    let singular = |word: String| word.strip_suffix('s').map(str::to_owned).unwrap_or(word);
    words.into_iter().map(singular).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_more_or_fewer_words_is_found() {
        let fields = ["customDomainName", "customDomainNames", "serviceNetworks", "listeners", "idleTimeoutSeconds"];
        for (name, expected) in [
            ("domains", Some("customDomainNames")),
            ("domain", Some("customDomainName")),
            ("serviceNetworkIdentifier", Some("serviceNetworks")),
            ("timeout", Some("idleTimeoutSeconds")),
            ("customDomanNames", Some("customDomainNames")),
            ("hosts", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(meant(name, fields.into_iter()), expected, "{name}");
        }
        assert_eq!(meant("IAM", ["NONE", "AWS_IAM"].into_iter()), Some("AWS_IAM"));
        assert_eq!(meant("action", ["defaultAction", "port"].into_iter()), Some("defaultAction"));
        assert_eq!(meant("action", ["defaultAction", "ruleAction"].into_iter()), None);
    }

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
