//! Rules of names: entities, domains, accounts, glob patterns.

use std::fmt;

/// Shortest and longest name of each kind, and the prefix that a name may not begin with because ids do (Lattice's
/// rules; Brattice's own for kinds that Lattice has not).
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameRule {
    /// With its article.
    pub(crate) what: &'static str,
    min: usize,
    max: usize,
    banned: &'static str,
}

impl NameRule {
    const fn new(what: &'static str, min: usize, max: usize, banned: &'static str) -> Self {
        Self { what, min, max, banned }
    }

    /// What it is without the article.
    pub(crate) fn noun(self) -> &'static str {
        self.what.split_once(' ').map_or(self.what, |(_, noun)| noun)
    }
}

pub(crate) const ACCOUNT: NameRule = NameRule::new("an account", 1, 63, "");
pub(crate) const VPC: NameRule = NameRule::new("a VPC", 1, 63, "vpc-");
pub(crate) const WORKLOAD: NameRule = NameRule::new("a workload", 1, 63, "");
pub(crate) const SERVICE_NETWORK: NameRule = NameRule::new("a service network", 3, 63, "");
pub(crate) const SERVICE: NameRule = NameRule::new("a service", 3, 40, "svc-");
pub(crate) const ROLE: NameRule = NameRule::new("a role", 1, 63, "");
pub(crate) const LISTENER: NameRule = NameRule::new("a listener", 3, 63, "listener-");
pub(crate) const RULE: NameRule = NameRule::new("a rule", 3, 63, "rule-");
pub(crate) const TARGET_GROUP: NameRule = NameRule::new("a target group", 3, 128, "tg-");
pub(crate) const ASSOCIATION: NameRule = NameRule::new("an association", 1, 128, "");

/// Why a name is not allowed.
pub(crate) fn check(name: &str, rule: NameRule) -> Result<(), String> {
    let length = name.chars().count();
    if length < rule.min || length > rule.max {
        return Err(format!(
            "the name of {} has {} to {} characters, this one {length}",
            rule.what, rule.min, rule.max
        ));
    }
    if let Some(c) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(format!(
            "the name of {} has only lower-case letters, digits and hyphens, not {}",
            rule.what,
            crate::diagnostic::quote(&c.to_string())
        ));
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err(format!("the name of {} has no hyphen at an end and no two in a row", rule.what));
    }
    if !rule.banned.is_empty() && name.starts_with(rule.banned) {
        return Err(format!("the name of {} does not begin with `{}`: ids do", rule.what, rule.banned));
    }
    Ok(())
}

/// A domain name in lower case without a trailing dot. A wildcard's `*.` is left to the caller.
///
/// # Errors
/// Says why it is none, for people.
pub fn domain(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() || name.len() > 253 {
        return Err("a domain name has 1 to 253 characters".into());
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err("the parts of a domain name between dots have 1 to 63 characters".into());
        }
        if !label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')) {
            return Err("a domain name has only letters, digits, hyphens, underscores and dots".into());
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a part of a domain name does not begin or end with a hyphen".into());
        }
    }
    // An address is no name: a Host header with it would match, DNS never.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("the last part of a domain name is not a number: is this an address?".into());
    }
    Ok(name)
}

/// Whether a domain granted to an account covers a custom domain. `shop.internal` covers itself and all beneath it,
/// `*.shop.internal` only what is beneath it.
pub(crate) fn covers(granted: &str, name: &str) -> bool {
    let (parent, itself) = match granted.strip_prefix("*.") {
        Some(parent) => (parent, false),
        None => (granted, true),
    };
    match name.strip_suffix(parent) {
        Some("") => itself,
        Some(rest) => rest.ends_with('.'),
        None => false,
    }
}

/// A pattern for names of interfaces and namespaces: `*` stands for any characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(String);

/// Longest pattern, characters.
const LONGEST_GLOB: usize = 255;

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it, for people.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() || pattern.chars().count() > LONGEST_GLOB {
            return Err(format!("a pattern has 1 to {LONGEST_GLOB} characters"));
        }
        let bad = |c: &char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '[' | ']' | '{' | '}' | '\\');
        if let Some(c) = pattern.chars().find(bad) {
            let c = crate::diagnostic::quote(&c.to_string());
            return Err(format!("a pattern knows `*` and `?` only; {c} has no meaning in it"));
        }
        Ok(Self(pattern.to_owned()))
    }

    /// Reads a pattern for cgroup paths below the root of the hierarchy: `*` stands for slashes, too. A leading slash, as
    /// `/proc/PID/cgroup` has it, means nothing.
    ///
    /// # Errors
    /// Says what is wrong with it, for people.
    pub fn path(pattern: &str) -> Result<Self, String> {
        // Where version 2 is mounted beside version 1, and where it is alone.
        for root in ["/sys/fs/cgroup/unified/", "/sys/fs/cgroup/"] {
            if let Some(below) = pattern.strip_prefix(root) {
                let root = root.trim_end_matches('/');
                return Err(format!("a path begins below the root of the hierarchy: write `{below}`, without {root}"));
            }
        }
        let pattern = pattern.trim_start_matches('/');
        if pattern.is_empty() || pattern.chars().count() > LONGEST_GLOB {
            return Err(format!("a pattern has 1 to {LONGEST_GLOB} characters below the root"));
        }
        if pattern.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '{' | '}')) {
            return Err("a pattern knows `*` and `?` only, and has no spaces".to_owned());
        }
        if pattern.split('/').any(|step| matches!(step, "" | "." | "..")) {
            return Err("a path has neither empty steps nor `.` and `..`".to_owned());
        }
        Ok(Self(pattern.to_owned()))
    }

    /// What every name that fits begins with.
    pub fn prefix(&self) -> &str {
        self.0.find(['*', '?']).map_or(&self.0, |end| &self.0[..end])
    }

    /// Whether this path, or one above it, fits.
    pub fn covers(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        ends.into_iter().any(|end| self.matches(&path[..end]))
    }

    /// Whether the whole name fits.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) = (self.0.chars().collect(), name.chars().collect());
        let (mut p, mut n) = (0, 0);
        // Where to go on when what follows the last `*` does not fit: the star takes one character more.
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some('*') => {
                    retry = Some((p, n));
                    p += 1;
                }
                Some(&c) if c == '?' || c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((star, taken)) => {
                        retry = Some((star, taken + 1));
                        p = star + 1;
                        n = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == '*')
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_lattice() {
        assert!(check("orders-v1", SERVICE).is_ok());
        for bad in ["ab", "-abc", "abc-", "a--b", "Abc", "a_b", "svc-abc", &"a".repeat(41)] {
            assert!(check(bad, SERVICE).is_err(), "{bad}");
        }
        assert!(check("svc-abc", SERVICE_NETWORK).is_ok());
    }

    #[test]
    fn domains_are_normalized() {
        assert_eq!(domain("Orders.Shop.Internal."), Ok("orders.shop.internal".into()));
        for bad in ["", ".", "a..b", "-a.b", "a b", "10.0.0.1", "a.1", "*.a.b", "ü.b", &"a.".repeat(200)] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn grants_cover_what_is_beneath() {
        assert!(covers("shop.internal", "shop.internal") && covers("shop.internal", "a.b.shop.internal"));
        assert!(covers("*.shop.internal", "a.shop.internal") && !covers("*.shop.internal", "shop.internal"));
        assert!(!covers("shop.internal", "workshop.internal") && !covers("shop.internal", "internal"));
    }

    #[test]
    fn globs_of_paths_cover_what_is_below() {
        let covers = |pattern: &str, path: &str| Glob::path(pattern).unwrap().covers(path);
        assert!(covers("/system.slice/pay.service", "system.slice/pay.service/worker"));
        assert!(covers("system.slice/docker-*.scope", "system.slice/docker-0a1b.scope"));
        let why = Glob::path("/sys/fs/cgroup/system.slice/pay.service").unwrap_err();
        assert!(why.contains("write `system.slice/pay.service`"), "{why}");
        assert!(covers("kubepods*/pod7", "kubepods.slice/burstable/pod7/app"));
        assert!(!covers("system.slice/pay.service", "system.slice/pay.service-2"));
        assert!(
            !covers("system.slice/pay.service", "system.slice") && !covers("pay.service", "system.slice/pay.service")
        );
        assert_eq!(Glob::path("/a/b*/c").unwrap().prefix(), "a/b");
        for bad in ["", "/", "a//b", "a/../b", "a b", "[ab]", "a\n", "a/"] {
            assert!(Glob::path(bad).is_err(), "{bad}");
        }
        let why = Glob::path("/sys/fs/cgroup/unified/system.slice").unwrap_err();
        assert!(why.contains("write `system.slice`, without /sys/fs/cgroup/unified"), "{why}");
    }

    #[test]
    fn globs_match_whole_names() {
        let fits = |pattern: &str, name: &str| Glob::new(pattern).unwrap().matches(name);
        assert!(fits("blue*", "blue") && fits("blue*", "blue-12") && !fits("blue*", "my-blue"));
        assert!(fits("*a*b*c", "xxaybbzbc") && !fits("*a*b*c", "xxaybbzb"));
        assert!(fits("v?th", "veth") && !fits("v?th", "vth") && fits("*", "") && fits("***", "x"));
        for bad in ["", "a b", "a/b", "[ab]", "a\n"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }
}
