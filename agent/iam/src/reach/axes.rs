//! What a request may choose by itself: method, path, fields, query, time, address. For each a few values that tell apart
//! what the statements ask about: all that they name, and one that they don't.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Someone;
use super::meet::{Meeting, cost, meet};
use crate::condition::{Condition, Test};
use crate::glob::ANY;
use crate::key::Key;
use crate::policy::Statement;
use crate::request::{Facts, Work};
use crate::value::{self, Block};

/// A value that no policy names.
const OTHER: &str = "zq-other";
/// Most patterns of a key that are put together in pairs.
const MAX_PATTERNS: usize = 24;

/// Values of a field or query parameter; several: it comes as often; none: it is not there.
type Choices = Vec<Vec<String>>;

#[derive(Debug, Default)]
pub(super) struct Axes<'w> {
    pub(super) methods: Vec<String>,
    pub(super) paths: Vec<String>,
    pub(super) fields: Vec<(String, Choices)>,
    pub(super) query: Vec<(String, Choices)>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) times: Vec<i64>,
    pub(super) evidence: Vec<&'w [&'w str]>,
    /// Whether what none of these is, no request is.
    pub(super) exact: bool,
    /// What it cost to find them, in decisions.
    pub(super) cost: u32,
}

impl<'w> Axes<'w> {
    pub(super) fn new(
        statements: &[&Statement],
        someone: &Someone<'w>,
        arn: &str,
        now: i64,
        facts: &Facts<'_>,
        work: &mut Work,
    ) -> Self {
        let mut own = Self { exact: true, evidence: someone.evidence.to_vec(), ..Self::default() };
        let mut by_key: BTreeMap<Key, Vec<&Condition>> = BTreeMap::new();
        for condition in statements.iter().flat_map(|statement| &statement.conditions) {
            let key = if condition.key == Key::UserAgent {
                Key::RequestHeader("user-agent".into())
            } else {
                condition.key.clone()
            };
            by_key.entry(key).or_default().push(condition);
        }
        own.methods = vec!["GET".into(), "POST".into(), OTHER.into()];
        own.addresses = someone.addresses.iter().map(|(address, _)| *address).collect();
        own.times = vec![now, i64::MAX / 2];
        let mut wanted_paths = Vec::new();
        for (key, conditions) in &by_key {
            match key {
                Key::RequestMethod => {
                    own.methods.extend(own_texts(conditions, facts, work, &mut own.exact, &mut own.cost));
                }
                Key::RequestPath => wanted_paths = globs(conditions, facts, work),
                Key::RequestHeader(name) => {
                    let texts = own_texts(conditions, facts, work, &mut own.exact, &mut own.cost);
                    own.fields.push((name.to_string(), choices(texts)));
                }
                Key::RequestQueryString(name) => {
                    let texts = own_texts(conditions, facts, work, &mut own.exact, &mut own.cost);
                    own.query.push((name.to_string(), choices(texts)));
                }
                Key::SourceIp => own.addresses.extend(addresses(conditions, someone)),
                Key::CurrentTime | Key::EpochTime => own.times.extend(times(conditions, now)),
                _ => {}
            }
        }
        own.paths(statements, &wanted_paths, arn, facts, work);
        own.methods.dedup();
        if own.addresses.is_empty() {
            own.addresses.push(IpAddr::from([10, 0, 0, 1]));
        }
        if own.evidence.is_empty() {
            own.evidence.push(&[]);
        }
        own
    }

    /// Paths that fit what resources and conditions want, both together where both do.
    fn paths(&mut self, statements: &[&Statement], wanted: &[Vec<u8>], arn: &str, facts: &Facts<'_>, work: &mut Work) {
        self.paths.extend(["/".to_owned(), format!("/{OTHER}")]);
        let any = [vec![b'/', ANY]];
        let patterns: Vec<Vec<u8>> = statements
            .iter()
            .flat_map(|statement| &statement.resources.patterns)
            .filter_map(|pattern| pattern.filled(facts, work))
            .collect();
        self.exact &= patterns.len() <= MAX_PATTERNS && wanted.len() <= MAX_PATTERNS;
        for resource in patterns.iter().take(MAX_PATTERNS) {
            for path in any.iter().chain(wanted.iter().take(MAX_PATTERNS)) {
                let path = [arn.as_bytes(), path.as_slice()].concat();
                self.cost = self.cost.saturating_add(cost(resource, &path));
                match meet(resource, &path) {
                    Meeting::At(text) => self.paths.extend(text.strip_prefix(arn).map(str::to_owned)),
                    Meeting::Never => {}
                    Meeting::Unknown => self.exact = false,
                }
            }
        }
        for (index, path) in wanted.iter().take(MAX_PATTERNS).enumerate() {
            self.paths.extend(instance(path));
            for other in wanted.iter().take(index) {
                self.cost = self.cost.saturating_add(cost(path, other));
                self.paths.extend(both(path, other));
            }
        }
        self.exact &= wanted.len() <= 2 || wanted.iter().filter(|path| path.contains(&ANY)).count() <= 2;
        self.paths.retain(|path| path.starts_with('/'));
        self.paths.sort();
        self.paths.dedup();
    }

    /// How many requests these are.
    pub(super) fn count(&self) -> usize {
        self.sizes().into_iter().fold(1, usize::saturating_mul)
    }

    /// How many values each has.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let mut sizes =
            vec![self.methods.len(), self.paths.len(), self.addresses.len(), self.times.len(), self.evidence.len()];
        sizes.extend(self.fields.iter().chain(&self.query).map(|(_, choices)| choices.len()));
        sizes
    }
}

/// Absent, each alone, all together, another one.
fn choices(mut texts: Vec<String>) -> Choices {
    texts.sort();
    texts.dedup();
    let mut choices: Choices = texts.iter().map(|text| vec![text.clone()]).collect();
    choices.push(Vec::new());
    choices.push(vec![OTHER.into()]);
    if texts.len() > 1 {
        choices.push(texts);
    }
    choices
}

/// Texts that fit the values of conditions on one key.
fn own_texts(
    conditions: &[&Condition],
    facts: &Facts<'_>,
    work: &mut Work,
    exact: &mut bool,
    spent: &mut u32,
) -> Vec<String> {
    let mut texts = Vec::new();
    for condition in conditions {
        let each = condition.values.iter();
        match &condition.test {
            Test::Numbers(..) => {
                for value in each.filter_map(|text| text.parse::<f64>().ok()) {
                    texts.extend([value - 1.0, value - 0.5, value + 0.5, value + 1.0].map(|near| format!("{near}")));
                }
                texts.extend(condition.values.iter().map(ToString::to_string));
            }
            Test::Times(..) => {
                for seconds in each.filter_map(|text| value::seconds(text)) {
                    for near in [seconds - 1, seconds, seconds + 1] {
                        let mut text = String::new();
                        value::Time::write(near, &mut text);
                        texts.push(text);
                    }
                }
            }
            Test::Truths(_) => texts.extend(["true".into(), "false".into()]),
            Test::Blocks(blocks) => texts.extend(blocks.iter().map(|block| block.first().to_string())),
            Test::Lowered(literals, _) => texts.extend(literals.iter().map(|text| text.to_uppercase())),
            _ => {}
        }
    }
    let globs = globs(conditions, facts, work);
    let wild = conditions
        .iter()
        .filter(|condition| match &condition.test {
            Test::Strings(_, patterns) | Test::Lowered(_, patterns) => !patterns.is_empty(),
            Test::Arns(_) => true,
            _ => false,
        })
        .count();
    *exact &= wild <= 2 && globs.len() <= MAX_PATTERNS;
    for (index, glob) in globs.iter().take(MAX_PATTERNS).enumerate() {
        texts.extend(instance(glob));
        if wild > 0 {
            for other in globs.iter().take(index) {
                *spent = spent.saturating_add(cost(glob, other));
                texts.extend(both(glob, other));
            }
        }
    }
    texts
}

/// What the values of conditions on one key stand for.
fn globs(conditions: &[&Condition], facts: &Facts<'_>, work: &mut Work) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for condition in conditions {
        match &condition.test {
            Test::Strings(literals, patterns) | Test::Lowered(literals, patterns) => {
                out.extend(literals.iter().map(|literal| literal.as_bytes().to_vec()));
                out.extend(patterns.iter().filter_map(|pattern| pattern.filled(facts, work)));
            }
            Test::Arns(arns) => {
                for parts in arns {
                    let parts: Option<Vec<Vec<u8>>> = parts.iter().map(|part| part.filled(facts, work)).collect();
                    out.extend(parts.map(|parts| parts.join(&b':')));
                }
            }
            _ => {}
        }
    }
    out.sort();
    out.dedup();
    out
}

/// A short text and a longer one that fit.
fn instance(glob: &[u8]) -> Vec<String> {
    let longer: Vec<u8> =
        glob.iter().flat_map(|byte| if *byte == ANY { OTHER.as_bytes().to_vec() } else { vec![*byte] }).collect();
    [glob, longer.as_slice()].into_iter().flat_map(|glob| both(glob, &[ANY])).collect()
}

fn both(a: &[u8], b: &[u8]) -> Option<String> {
    if let Meeting::At(text) = meet(a, b) { Some(text) } else { None }
}

/// Addresses of the caller in the blocks that are asked about.
fn addresses(conditions: &[&Condition], someone: &Someone<'_>) -> Vec<IpAddr> {
    let blocks = conditions
        .iter()
        .filter_map(|condition| if let Test::Blocks(blocks) = &condition.test { Some(blocks) } else { None });
    let own = |address: &IpAddr| {
        someone.addresses.iter().any(|(own, length)| Block::new(*own, (*length).into()).contains(*address))
    };
    blocks.flatten().map(Block::first).filter(own).collect()
}

fn times(conditions: &[&Condition], now: i64) -> Vec<i64> {
    let seconds = conditions.iter().flat_map(|condition| &condition.values).filter_map(|text| value::seconds(text));
    seconds.flat_map(|at| [at.saturating_sub(1), at, at.saturating_add(1)]).filter(|at| *at >= now).collect()
}
