//! The documentation, word by word: every rule is tried, nothing is compiled, everything is allocated.

use brattice_wire::rules::{
    HeaderMatch, HostMatch, HostMatchKind, Match, PathMatch, PathMatchKind, Precedence, Rule, ValueMatch,
};

use crate::{common::Asked, generate::REGEXES};

/// The rule that is taken.
pub(crate) fn find(precedence: Precedence, rules: &[Rule], asked: &Asked) -> Option<usize> {
    let mut taken: Option<usize> = None;
    for (index, rule) in rules.iter().enumerate() {
        if matches(&rule.matches, asked) && taken.is_none_or(|taken| before(precedence, rule, &rules[taken])) {
            taken = Some(index);
        }
    }
    taken
}

/// Whether a rule is tried before another, one of the two that is written later.
pub(crate) fn before(precedence: Precedence, later: &Rule, earlier: &Rule) -> bool {
    if precedence == Precedence::MostSpecific {
        let (a, b) = (&later.matches, &earlier.matches);
        let criteria = [
            [host_exact(a), host_exact(b)],
            [host_suffix(a), host_suffix(b)],
            [path_exact(a), path_exact(b)],
            [path_regex(a), path_regex(b)],
            [path_prefix(a), path_prefix(b)],
            [has_method(a), has_method(b)],
            [a.headers.len(), b.headers.len()],
            [a.query.len(), b.query.len()],
        ];
        if let Some([a, b]) = criteria.into_iter().find(|[a, b]| a != b) {
            return a > b;
        }
    }
    later.priority < earlier.priority
}

fn host_exact(matches: &Match) -> usize {
    usize::from(matches.host.as_ref().is_some_and(|host| host.kind == HostMatchKind::Exact))
}

fn host_suffix(matches: &Match) -> usize {
    if host_exact(matches) == 1 { 0 } else { matches.host.as_ref().map_or(0, |host| host.value.len()) }
}

fn path_exact(matches: &Match) -> usize {
    let by_grpc = matches.grpc.as_ref().is_some_and(|grpc| grpc.service.is_some() && grpc.method.is_some());
    usize::from(matches.path.as_ref().is_some_and(|path| path.kind == PathMatchKind::Exact) || by_grpc)
}

fn path_regex(matches: &Match) -> usize {
    if path_exact(matches) == 1 {
        return 0;
    }
    usize::from(matches.path.as_ref().is_some_and(|path| path.kind == PathMatchKind::Regex))
}

fn path_prefix(matches: &Match) -> usize {
    if path_exact(matches) == 1 || path_regex(matches) == 1 {
        return 0;
    }
    let by_path = matches.path.as_ref().map_or(0, |path| path.value.trim_end_matches('/').len());
    let by_grpc = matches.grpc.as_ref().and_then(|grpc| grpc.service.as_ref()).map_or(0, |service| service.len() + 1);
    by_path.max(by_grpc)
}

fn has_method(matches: &Match) -> usize {
    usize::from(matches.method.is_some() || matches.grpc.is_some())
}

/// Whether a request meets all conditions.
pub(crate) fn matches(matches: &Match, asked: &Asked) -> bool {
    if let Some(method) = &matches.method
        && *method != asked.method
    {
        return false;
    }
    if let Some(HostMatch { kind, value }) = &matches.host {
        let met = match kind {
            HostMatchKind::Exact => asked.host == *value,
            HostMatchKind::Suffix => asked.host.ends_with(&format!(".{value}")),
        };
        if !met {
            return false;
        }
    }
    if let Some(path) = &matches.path
        && !path_matches(path, &asked.path)
    {
        return false;
    }
    if let Some(grpc) = &matches.grpc {
        let parts: Vec<&str> = asked.path.split('/').collect();
        let ["", service, method] = parts[..] else { return false };
        let kind = field(asked, "content-type").unwrap_or_default().to_lowercase();
        let is_grpc = kind == "application/grpc"
            || ["+", ";", " "].iter().any(|next| kind.starts_with(&format!("application/grpc{next}")));
        if asked.method != "POST"
            || !is_grpc
            || service.is_empty()
            || method.is_empty()
            || grpc.service.as_ref().is_some_and(|wanted| wanted != service)
            || grpc.method.as_ref().is_some_and(|wanted| wanted != method)
        {
            return false;
        }
    }
    matches.port.is_none_or(|port| port == asked.port)
        && matches.source_vpcs.as_ref().is_none_or(|vpcs| vpcs.contains(&asked.vpc))
        && matches.headers.iter().all(|header| header_matches(header, asked))
        && matches.query.iter().all(|query| {
            parameter(&asked.query, &query.name).is_some_and(|found| value_matches(&query.value, &found, true))
        })
}

fn path_matches(path: &PathMatch, found: &str) -> bool {
    let (value, text) = in_case(&path.value, found, path.case_sensitive);
    match path.kind {
        PathMatchKind::Exact => text == value,
        PathMatchKind::StringPrefix => text.starts_with(&value),
        PathMatchKind::Prefix => {
            let value = value.strip_suffix('/').unwrap_or(&value);
            (text == value && !value.is_empty()) || text.starts_with(&format!("{value}/"))
        }
        PathMatchKind::Regex => regex_matches(&path.value, &text, path.case_sensitive),
    }
}

/// Several fields of a name are their list.
fn field(asked: &Asked, name: &str) -> Option<String> {
    let values: Vec<String> = asked
        .headers
        .iter()
        .filter(|(own, _)| own == name)
        .map(|(_, value)| String::from_utf8(value.clone()).unwrap())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn header_matches(header: &HeaderMatch, asked: &Asked) -> bool {
    let met =
        field(asked, &header.name).is_some_and(|found| value_matches(&header.value, &found, header.case_sensitive));
    met != header.invert
}

fn value_matches(wanted: &ValueMatch, found: &str, case_sensitive: bool) -> bool {
    let test = |wanted: &str, test: fn(&str, &str) -> bool| {
        let (wanted, found) = in_case(wanted, found, case_sensitive);
        test(&found, &wanted)
    };
    match wanted {
        ValueMatch::Present => true,
        ValueMatch::Exact(wanted) => test(wanted, |found, wanted| found == wanted),
        ValueMatch::Prefix(wanted) => test(wanted, |found, wanted| found.starts_with(wanted)),
        ValueMatch::Suffix(wanted) => test(wanted, |found, wanted| found.ends_with(wanted)),
        ValueMatch::Contains(wanted) => test(wanted, |found, wanted| found.contains(wanted)),
        ValueMatch::Regex(pattern) => regex_matches(pattern, found, case_sensitive),
        ValueMatch::Range { start, end } => {
            let digits = found.strip_prefix('-').unwrap_or(found);
            !digits.is_empty()
                && digits.bytes().all(|digit| digit.is_ascii_digit())
                && found.parse::<i64>().is_ok_and(|number| *start <= number && number < *end)
        }
    }
}

fn regex_matches(pattern: &str, text: &str, case_sensitive: bool) -> bool {
    let (_, test) = REGEXES.iter().find(|(own, _)| *own == pattern).unwrap();
    // Those that are generated mean the same in any case if text and letters of the pattern are put in lower case.
    if case_sensitive { test(text) } else { test(&text.to_lowercase()) }
}

fn in_case(wanted: &str, found: &str, case_sensitive: bool) -> (String, String) {
    if case_sensitive {
        (wanted.to_owned(), found.to_owned())
    } else {
        (wanted.to_ascii_lowercase(), found.to_ascii_lowercase())
    }
}

/// The first query parameter of a name.
fn parameter(query: &str, name: &str) -> Option<String> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (own, value) = match pair.find('=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, ""),
        };
        if decoded(own) == name {
            return Some(decoded(value));
        }
    }
    None
}

fn decoded(text: &str) -> String {
    let mut out = text.replace('+', " ");
    // Those that the generator writes.
    for (escape, byte) in
        [("%61", "a"), ("%41", "A"), ("%20", " "), ("%2B", "+"), ("%2b", "+"), ("%26", "&"), ("%3D", "=")]
    {
        out = out.replace(escape, byte);
    }
    out
}
