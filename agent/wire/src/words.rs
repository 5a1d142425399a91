//! How agent and CLI name and count things for people.

/// A number with its noun: `1 error`, `2 errors`.
pub fn counted(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        several => format!("{several} {noun}s"),
    }
}

/// Whether a workload of this name in a VPC (`account/name`, or `name` for the operator's) is meant: by its name, or by VPC,
/// VPC's short name or account and its name.
pub fn is_workload(asked: &str, vpc: &str, name: &str) -> bool {
    if asked == name {
        return true;
    }
    let Some(place) = asked.strip_suffix(name).and_then(|rest| rest.strip_suffix('/')) else { return false };
    let (account, short) = vpc.split_once('/').unwrap_or(("", vpc));
    place == vpc || place == short || (!account.is_empty() && place == account)
}

/// The same of an address of a workload: alone, or behind its VPC as a workload's name is.
pub fn is_address(asked: &str, vpc: &str, address: &str) -> bool {
    is_workload(asked, vpc, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_others_are_several() {
        assert_eq!([0u64, 1, 2].map(|n| counted(n, "error")), ["0 errors", "1 error", "2 errors"]);
    }

    #[test]
    fn a_workload_has_these_names_and_no_others() {
        for asked in ["web", "platform/blue/web", "blue/web", "platform/web"] {
            assert!(is_workload(asked, "platform/blue", "web"), "{asked}");
        }
        for asked in ["eb", "/web", "green/web", "platform/blue/webs", "platform/green/web", "platform/blue", ""] {
            assert!(!is_workload(asked, "platform/blue", "web"), "{asked}");
        }
        assert!(is_workload("blue/web", "blue", "web") && !is_workload("/web", "blue", "web"));
        assert!(is_address("platform/blue/10.0.0.10", "platform/blue", "10.0.0.10"));
        assert!(!is_address("10.0.0.1", "platform/blue", "10.0.0.10"));
    }
}
