//! Rules that can never be taken, because an earlier one takes all that they could.

use brattice_wire::rules::{
    GrpcMatch, HeaderMatch, HostMatch, HostMatchKind, Match, PathMatch, Precedence, Rule, ValueMatch,
};

use crate::{
    condition::place,
    order::order,
    pattern::Pattern,
    router::{method, path},
    tree::{Place, Tree},
    value::{Value, folded},
};

/// A rule that can never be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Index of the rule.
    pub rule: usize,
    /// Index of a rule before it that matches whatever it matches.
    pub by: usize,
}

/// The rules that can never be taken, because one rule before each matches whatever it matches; in the order in which
/// rules are tried. Sound: every rule that is named is really never taken. Not complete: it finds rules whose every
/// condition is the same as or plainly broader than one of the later rule, not those that only several together cover.
pub fn shadowed(precedence: Precedence, rules: &[Rule]) -> Vec<Shadow> {
    let mut before = Before::default();
    let mut shadows = Vec::new();
    for index in order(precedence, rules) {
        let rule = Conditions::new(index, &rules[index].matches);
        match before.covering(&rule) {
            Some(by) => shadows.push(Shadow { rule: index, by }),
            // What is covered covers nothing that the other does not.
            None => before.add(rule),
        }
    }
    shadows
}

/// The conditions of a rule, with what takes long to compile.
#[derive(Debug)]
struct Conditions<'a> {
    index: usize,
    matches: &'a Match,
    path: Option<Pattern>,
    headers: Vec<Compared<'a>>,
    query: Vec<Compared<'a>>,
}

/// A condition on a value.
#[derive(Debug)]
struct Compared<'a> {
    name: &'a str,
    wanted: &'a ValueMatch,
    /// Without one (a regular expression that is refused) nothing is known to be covered.
    value: Option<Value>,
    case_sensitive: bool,
    invert: bool,
}

impl<'a> Conditions<'a> {
    fn new(index: usize, matches: &'a Match) -> Self {
        let regex = |path: &PathMatch| Pattern::new(&path.value, path.case_sensitive).ok();
        let header =
            |header: &'a HeaderMatch| Compared::new(&header.name, &header.value, header.case_sensitive, header.invert);
        Self {
            index,
            matches,
            path: matches.path.as_ref().filter(|path| place(path).is_none()).and_then(regex),
            headers: matches.headers.iter().map(header).collect(),
            query: matches.query.iter().map(|query| Compared::new(&query.name, &query.value, true, false)).collect(),
        }
    }

    /// Whether the path is compared with a regular expression.
    fn has_regex(&self) -> bool {
        self.matches.path.as_ref().is_some_and(|path| place(path).is_none())
    }

    /// Whether every request that fits `narrow` fits here, too, the path aside where it is text.
    fn cover(&self, narrow: &Self) -> bool {
        let (wide, slim) = (self.matches, narrow.matches);
        wide.method.as_deref().is_none_or(|wanted| method(slim) == Some(wanted))
            && wide.host.as_ref().is_none_or(|wanted| slim.host.as_ref().is_some_and(|host| host_covers(wanted, host)))
            && wide.port.is_none_or(|wanted| slim.port == Some(wanted))
            && wide.grpc.as_ref().is_none_or(|wanted| slim.grpc.as_ref().is_some_and(|call| grpc_covers(wanted, call)))
            && wide.source_vpcs.as_ref().is_none_or(|wanted| {
                slim.source_vpcs.as_ref().is_some_and(|vpcs| vpcs.iter().all(|vpc| wanted.contains(vpc)))
            })
            && self.headers.iter().all(|wanted| narrow.headers.iter().any(|header| wanted.cover(header)))
            && self.query.iter().all(|wanted| narrow.query.iter().any(|query| wanted.cover(query)))
            && (!self.has_regex() || self.regex_covers(narrow))
    }

    /// Whether the regular expression for the path matches whatever path `narrow` lets through.
    fn regex_covers(&self, narrow: &Self) -> bool {
        if self.matches.path == narrow.matches.path {
            return self.path.is_some();
        }
        let (place, text, fold) = narrow.text();
        place == Place::All && !fold && self.path.as_ref().is_some_and(|pattern| pattern.matches(&text))
    }

    /// Of which text the path is or begins; of a regular expression, of its literal beginning.
    fn text(&self) -> (Place, Box<[u8]>, bool) {
        path(self.matches, self.path.as_ref())
    }
}

impl<'a> Compared<'a> {
    fn new(name: &'a str, wanted: &'a ValueMatch, case_sensitive: bool, invert: bool) -> Self {
        Self { name, wanted, value: Value::new(wanted, case_sensitive).ok(), case_sensitive, invert }
    }

    /// Whether what fits `narrow` fits here, too.
    fn cover(&self, narrow: &Self) -> bool {
        self.name == narrow.name
            && match (self.invert, narrow.invert) {
                (false, false) => self.covers_value(narrow),
                (true, true) => narrow.covers_value(self),
                (true, false) => {
                    narrow.only().zip(self.value.as_ref()).is_some_and(|(only, value)| !value.matches(only))
                }
                // An absent field fits an inverted condition alone.
                (false, true) => false,
            }
    }

    /// The only value that it lets through.
    fn only(&self) -> Option<&'a [u8]> {
        match self.wanted {
            ValueMatch::Exact(value) if self.case_sensitive => Some(value.as_bytes()),
            _ => None,
        }
    }

    /// The same for the values themselves, inverted or not.
    fn covers_value(&self, narrow: &Self) -> bool {
        use ValueMatch::{Contains, Exact, Prefix, Present, Range, Regex, Suffix};
        let Some(value) = &self.value else { return false };
        if let Some(only) = narrow.only() {
            return value.matches(only);
        }
        if let (Range { start, end }, Range { start: from, end: to }) = (self.wanted, narrow.wanted) {
            return start <= from && to <= end;
        }
        // A text in any case of letters is more than one in a certain one. A regular expression is neither more nor
        // less: `[^a]` excludes `A` only where case does not count.
        if let (Regex(own), Regex(other)) = (self.wanted, narrow.wanted) {
            return own == other && self.case_sensitive == narrow.case_sensitive;
        }
        if *self.wanted == Present {
            return true;
        }
        if self.case_sensitive && !narrow.case_sensitive {
            return false;
        }
        let lower = |text: &str| if self.case_sensitive { text.to_owned() } else { text.to_ascii_lowercase() };
        match (self.wanted, narrow.wanted) {
            (Exact(own), Exact(other)) => lower(own) == lower(other),
            (Prefix(own), Exact(other) | Prefix(other)) => lower(other).starts_with(&lower(own)),
            (Suffix(own), Exact(other) | Suffix(other)) => lower(other).ends_with(&lower(own)),
            (Contains(own), Exact(other) | Prefix(other) | Suffix(other) | Contains(other)) => {
                lower(other).contains(&lower(own))
            }
            _ => false,
        }
    }
}

fn host_covers(wide: &HostMatch, narrow: &HostMatch) -> bool {
    let below = || narrow.value.strip_suffix(&wide.value).is_some_and(|before| before.ends_with('.'));
    match (wide.kind, narrow.kind) {
        (HostMatchKind::Exact, HostMatchKind::Suffix) => false,
        (HostMatchKind::Exact, HostMatchKind::Exact) => wide.value == narrow.value,
        (HostMatchKind::Suffix, HostMatchKind::Exact) => below(),
        (HostMatchKind::Suffix, HostMatchKind::Suffix) => wide.value == narrow.value || below(),
    }
}

fn grpc_covers(wide: &GrpcMatch, narrow: &GrpcMatch) -> bool {
    (wide.service.is_none() || wide.service == narrow.service)
        && (wide.method.is_none() || wide.method == narrow.method)
}

/// Rules that come before others, by their paths.
#[derive(Default)]
struct Before<'a> {
    rules: Vec<Conditions<'a>>,
    exactly: Tree<Vec<usize>>,
    folded: Tree<Vec<usize>>,
    /// Those with a regular expression for the path.
    regexes: Vec<usize>,
}

impl<'a> Before<'a> {
    fn add(&mut self, rule: Conditions<'a>) {
        let rank = self.rules.len();
        if rule.has_regex() {
            self.regexes.push(rank);
        } else {
            let own = Match { path: rule.matches.path.clone(), ..Match::default() };
            let (place, text, fold) = path(&own, None);
            let tree = if fold { &mut self.folded } else { &mut self.exactly };
            tree.entry(place, &text).push(rank);
        }
        self.rules.push(rule);
    }

    /// The first rule that covers another.
    fn covering(&self, narrow: &Conditions<'_>) -> Option<usize> {
        let (mut place, mut text, fold) = narrow.text();
        if place == Place::Segments && text.is_empty() {
            // The prefix `/` is every path that begins with `/`.
            (place, text) = (Place::Start, folded("/", false));
        }
        let mut first = usize::MAX;
        let mut look = |ranks: &[usize]| {
            let covering = ranks.iter().take_while(|rank| **rank < first).find(|rank| self.rules[**rank].cover(narrow));
            first = covering.copied().unwrap_or(first);
        };
        // Of a text in any case of letters, only what comes before the first letter is in a certain one.
        let letter = text.iter().position(u8::is_ascii_alphabetic).filter(|_| fold);
        for (tree, folds) in [(&self.exactly, false), (&self.folded, true)] {
            let (place, text) = match letter.filter(|_| !folds) {
                Some(letter) => (Place::Start, &text[..letter]),
                None => (place, &text[..]),
            };
            tree.walk(text, folds, |at, end, ranks: &Vec<usize>| {
                let covers = match at {
                    Place::Start => true,
                    // `/a` as a segment does not cover all that begins with `/a`.
                    Place::Segments => !(end && place == Place::Start),
                    Place::All => place == Place::All,
                };
                if covers {
                    look(ranks);
                }
            });
        }
        look(&self.regexes);
        self.rules.get(first).map(|rule| rule.index)
    }
}
