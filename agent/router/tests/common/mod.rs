//! Rules and requests for tests, built or written in a line. The head of `golden.txt` says how.

#![allow(dead_code)] // No test uses all of it.
#![allow(clippy::unwrap_used)] // A panic in a test is the report.

use brattice_router::{RequestHead, path};
use brattice_wire::index::VpcIndex;
use brattice_wire::rules::{
    Action, Filters, FixedResponse, GrpcMatch, HeaderMatch, HostMatch, HostMatchKind, Match, PathMatch, PathMatchKind,
    QueryMatch, Rule, ValueMatch,
};
use brattice_wire::snapshot::Origin;

/// A request that was made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) port: u16,
    pub(crate) vpc: VpcIndex,
}

impl RequestHead for Asked {
    fn method(&self) -> &str {
        &self.method
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> &str {
        &self.query
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(own, _)| own == name).for_each(|(_, value)| each(value));
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn source_vpc(&self) -> VpcIndex {
        self.vpc
    }
}

/// A request to `h` on port 80 from VPC 0.
pub(crate) fn asked(method: &str, path: &str) -> Asked {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Asked {
        method: method.into(),
        host: "h".into(),
        path: path.into(),
        query: query.into(),
        headers: Vec::new(),
        port: 80,
        vpc: VpcIndex::new(0),
    }
}

impl Asked {
    pub(crate) fn host(self, host: &str) -> Self {
        Self { host: host.into(), ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// From a line, its path normalised.
    pub(crate) fn parse(line: &str) -> Result<Self, path::Refused> {
        let mut words = line.split_ascii_whitespace();
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let mut asked = asked(method, target);
        asked.path = path::normalize(&asked.path)?.into_owned();
        for word in words {
            let (key, value) = word.split_once('=').unwrap();
            match key {
                "host" => asked.host = value.into(),
                "port" => asked.port = value.parse().unwrap(),
                "vpc" => asked.vpc = VpcIndex::new(value.parse().unwrap()),
                _ => {
                    let name = key.strip_prefix("h.").unwrap_or_else(|| panic!("{line}: what is {key}?"));
                    asked.headers.push((name.into(), value.replace('␣', " ").into_bytes()));
                }
            }
        }
        Ok(asked)
    }
}

/// A rule that answers 404.
pub(crate) fn rule(name: &str, priority: u16, matches: Match) -> Rule {
    Rule {
        name: name.into(),
        id: format!("rule-{priority:017}"),
        priority,
        matches,
        filters: Filters::default(),
        action: Action::FixedResponse(FixedResponse { status: 404, content_type: None, body: String::new() }),
        origin: Origin::File { path: "rules.yaml".into(), line: u32::from(priority) },
    }
}

/// A condition on the path.
pub(crate) fn path_match(kind: PathMatchKind, value: &str, case_sensitive: bool) -> PathMatch {
    PathMatch { kind, value: value.into(), case_sensitive }
}

/// What a rule's line asks for, without name and priority.
pub(crate) fn matches(line: &str) -> Match {
    let mut matches = Match::default();
    for word in line.split_ascii_whitespace() {
        let (invert, rest) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
        let (other_case, rest) = match rest.split_once(':') {
            Some(("i" | "s", rest)) => (true, rest),
            _ => (false, rest),
        };
        let end = rest.find(['=', '^', '$', '*', '~', '#']).unwrap_or(rest.len());
        let (key, text) = rest.split_at(end);
        if let Some(name) = key.strip_prefix("h.") {
            let (name, value) = (name.to_owned(), value(text));
            matches.headers.push(HeaderMatch { name, value, case_sensitive: other_case, invert });
            continue;
        }
        if let Some(name) = key.strip_prefix("q.") {
            matches.query.push(QueryMatch { name: name.replace('␣', " "), value: value(text) });
            continue;
        }
        let given = || text[1..].to_owned();
        match key {
            "method" => matches.method = Some(given()),
            "host" => {
                let kind = if text.starts_with('$') { HostMatchKind::Suffix } else { HostMatchKind::Exact };
                matches.host = Some(HostMatch { kind, value: given() });
            }
            "path" => {
                let (kind, value) = match text.split_at(1) {
                    ("=", value) => (PathMatchKind::Exact, value),
                    ("^", value) => match value.strip_prefix('^') {
                        Some(value) => (PathMatchKind::StringPrefix, value),
                        None => (PathMatchKind::Prefix, value),
                    },
                    ("~", value) => (PathMatchKind::Regex, value),
                    _ => panic!("{word}"),
                };
                matches.path = Some(path_match(kind, value, !other_case));
            }
            "grpc" => {
                let (service, method) = match text.strip_prefix('=').map(|name| name.split_once('/').ok_or(name)) {
                    None => (None, None),
                    Some(Ok((service, method))) => (Some(service.into()), Some(method.into())),
                    Some(Err(service)) => (Some(service.into()), None),
                };
                matches.grpc = Some(GrpcMatch { service, method });
            }
            "port" => matches.port = Some(given().parse().unwrap()),
            "vpc" => {
                let vpc = |text: &str| VpcIndex::new(text.parse().unwrap());
                matches.source_vpcs = Some(given().split(',').map(vpc).collect());
            }
            _ => panic!("what is {word}?"),
        }
    }
    matches
}

fn value(text: &str) -> ValueMatch {
    let Some(kind) = text.chars().next() else { return ValueMatch::Present };
    let value = text[1..].replace('␣', " ");
    match kind {
        '=' => ValueMatch::Exact(value),
        '^' => ValueMatch::Prefix(value),
        '$' => ValueMatch::Suffix(value),
        '*' => ValueMatch::Contains(value),
        '~' => ValueMatch::Regex(value),
        '#' => {
            let (start, end) = value.split_once("..").unwrap();
            ValueMatch::Range { start: start.parse().unwrap(), end: end.parse().unwrap() }
        }
        _ => panic!("{text}"),
    }
}

/// Rules by their lines: priorities in tens, names `r10`, `r20`, ...
pub(crate) fn rules(lines: &[&str]) -> Vec<Rule> {
    let numbered = lines.iter().zip(1_u16..);
    numbered.map(|(line, n)| rule(&format!("r{}", n * 10), n * 10, matches(line))).collect()
}
