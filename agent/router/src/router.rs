//! The rules of a listener, compiled.

use brattice_wire::rules::{HostMatchKind, Match, Precedence, Rule};

use crate::{
    RequestHead,
    condition::{Condition, Source, Subject, place, sources},
    hash::FastMap,
    index::{Entry, Key, Rank, Search, Tally, Texts, Uncounted},
    limits::{MAX_REGEXES, MAX_RULES},
    order::order,
    pattern::{Pattern, RegexError},
    tree::Place,
    value::folded,
};

/// Why rules cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A regular expression is refused.
    #[error("rule {name} ({file}:{line}), {subject}: {error}")]
    Regex {
        /// Index of the rule.
        rule: usize,
        /// Its name.
        name: String,
        /// Where it was written.
        file: String,
        /// Where it was written.
        line: u32,
        /// Which of its conditions.
        subject: Subject,
        /// What is wrong.
        error: Box<RegexError>,
    },
    /// More than [`MAX_RULES`].
    #[error("{0} rules, and a listener has at most {MAX_RULES}; spread them over several services")]
    Rules(usize),
    /// More than [`MAX_REGEXES`].
    #[error(
        "{0} conditions are regular expressions, and a listener has at most {MAX_REGEXES}, as each keeps memory of its \
         own; match prefixes where they do"
    )]
    Regexes(usize),
}

/// What a look-up did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Tables asked, nodes of trees looked at, and conditions tried.
    pub comparisons: u64,
}

impl Tally for Count {
    fn add(&mut self, comparisons: u64) {
        self.comparisons += comparisons;
    }
}

/// The rules of one listener as an index: by host, then method, then path, then header fields and query parameters.
///
/// Hosts and methods are looked up by hash, paths and values by a walk along a radix tree: the cost grows with the length
/// of what is compared, never with the number of rules. One after another are tried only rules that differ in nothing but
/// conditions that no table can hold (regular expressions, `contains`, suffixes, ranges, inverted ones).
#[derive(Debug, Default)]
pub struct Router {
    any_host: Methods,
    hosts: FastMap<Box<str>, Methods>,
    suffixes: FastMap<Box<str>, Methods>,
    /// By rank: what the index leaves open.
    open: Vec<Box<[Condition]>>,
    /// By rank: index in the slice that was compiled.
    order: Vec<usize>,
}

#[derive(Debug, Default)]
struct Methods {
    any: Texts,
    methods: FastMap<Box<str>, Texts>,
}

impl Router {
    /// Compiles rules. Their order in the slice matters only between rules of equal precedence and priority, which a
    /// valid listener does not have: the first one wins.
    ///
    /// # Errors
    /// When there are too many, or a regular expression is refused.
    pub fn compile(precedence: Precedence, rules: &[Rule]) -> Result<Self, CompileError> {
        if rules.len() > MAX_RULES {
            return Err(CompileError::Rules(rules.len()));
        }
        let mut router = Self { order: order(precedence, rules), ..Self::default() };
        let mut regexes = 0;
        for (rank, index) in router.order.iter().enumerate() {
            let rule = &rules[*index];
            let mut open = Vec::new();
            for source in sources(&rule.matches) {
                regexes += usize::from(source.is_regex());
                if regexes > MAX_REGEXES {
                    let all = rules.iter().flat_map(|rule| sources(&rule.matches)).filter(Source::is_regex).count();
                    return Err(CompileError::Regexes(all));
                }
                if !source.is_indexed() {
                    open.push(Condition::new(source).map_err(|error| CompileError::Regex {
                        rule: *index,
                        name: rule.name.clone(),
                        file: rule.origin.file().to_owned(),
                        line: rule.origin.line(),
                        subject: source.subject(),
                        error: Box::new(error),
                    })?);
                }
            }
            let methods = match &rule.matches.host {
                None => &mut router.any_host,
                Some(host) => match host.kind {
                    HostMatchKind::Exact => &mut router.hosts,
                    HostMatchKind::Suffix => &mut router.suffixes,
                }
                .entry(host.value.as_str().into())
                .or_default(),
            };
            let paths = match method(&rule.matches) {
                Some(method) => methods.methods.entry(method.into()).or_default(),
                None => &mut methods.any,
            };
            let regex = open.iter().find_map(|condition| match condition {
                Condition::PathRegex(pattern) => Some(pattern),
                _ => None,
            });
            let (place, text, fold) = path(&rule.matches, regex);
            let keys: Vec<(Key, Entry)> = sources(&rule.matches).filter_map(|source| source.key()).collect();
            paths.insert(place, &text, fold, rank, &keys);
            router.open.push(open.into());
        }
        Ok(router)
    }

    /// The index, in the slice that was compiled, of the rule that is taken. `None`: the default action.
    pub fn find<R: RequestHead + ?Sized>(&self, request: &R) -> Option<usize> {
        self.search(request, &mut Uncounted)
    }

    /// The same, adding to `count` what it took.
    pub fn find_counted<R: RequestHead + ?Sized>(&self, request: &R, count: &mut Count) -> Option<usize> {
        self.search(request, count)
    }

    fn search<R: RequestHead + ?Sized>(&self, request: &R, tally: &mut impl Tally) -> Option<usize> {
        let search = Search { request, open: &self.open };
        let mut best = self.any_host.find(&search, Rank::MAX, tally);
        let host = request.host();
        if !self.hosts.is_empty() {
            tally.add(1);
            if let Some(methods) = self.hosts.get(host) {
                best = methods.find(&search, best, tally);
            }
        }
        if !self.suffixes.is_empty() {
            for (dot, _) in host.match_indices('.') {
                tally.add(1);
                if let Some(methods) = self.suffixes.get(&host[dot + 1..]) {
                    best = methods.find(&search, best, tally);
                }
            }
        }
        self.order.get(best).copied()
    }
}

impl Methods {
    fn find<R: RequestHead + ?Sized>(&self, search: &Search<'_, R>, best: Rank, tally: &mut impl Tally) -> Rank {
        let path = search.request.path().as_bytes();
        let best = self.any.find(path, search, best, tally);
        if self.methods.is_empty() {
            return best;
        }
        tally.add(1);
        match self.methods.get(search.request.method()) {
            Some(paths) => paths.find(path, search, best, tally),
            None => best,
        }
    }
}

/// The method that a rule asks for, said or meant.
pub(crate) fn method(matches: &Match) -> Option<&str> {
    matches.method.as_deref().or(matches.grpc.as_ref().map(|_| "POST"))
}

/// Where a rule stands in the tree of paths: the text, and whether in lower case. `regex` is its regular expression for the
/// path, of which the tree knows the literal beginning.
pub(crate) fn path(matches: &Match, regex: Option<&Pattern>) -> (Place, Box<[u8]>, bool) {
    if let Some(path) = &matches.path {
        return match place(path) {
            Some((place, text)) => (place, folded(text, !path.case_sensitive), !path.case_sensitive),
            None => (Place::Start, regex.map(Pattern::prefix).unwrap_or_default().into(), false),
        };
    }
    let grpc = matches.grpc.as_ref().and_then(|grpc| Some((grpc.service.as_deref()?, grpc.method.as_deref())));
    match grpc {
        Some((service, Some(method))) => (Place::All, format!("/{service}/{method}").into_bytes().into(), false),
        Some((service, None)) => (Place::Start, format!("/{service}/").into_bytes().into(), false),
        None => (Place::Start, Box::default(), false),
    }
}
