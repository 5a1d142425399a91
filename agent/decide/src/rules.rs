//! The rules of a listener, compiled: nothing is parsed when a request matches one.

use std::{hash::Hasher, sync::Arc};

use brattice_router::{hash::FastHasher, rewrite::Redirector};
use brattice_wire::{
    index::TargetGroupIndex,
    snapshot::{self, PathMatch, TargetGroup},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::{
    error::CompileError,
    filters::Filters,
    text::{field_name, field_value},
};

/// What happens to the requests that match a rule.
#[derive(Debug)]
pub struct Rule {
    /// `rule-` + 17 characters; `default` where no rule matched.
    pub id: Box<str>,
    /// What is changed on the way; none: nothing.
    pub filters: Option<Arc<Filters>>,
    /// What is done.
    pub action: Action,
}

/// What is done with a request.
#[derive(Debug)]
pub enum Action {
    /// To a target.
    Forward(Forward),
    /// Our own answer.
    Fixed(Fixed),
    /// Elsewhere.
    Redirect(Redirect),
}

/// To one of several target groups, by weight.
#[derive(Debug)]
pub struct Forward {
    /// Its position among all forwards of the state, for each worker's own counters.
    pub index: ForwardIndex,
    /// Service, listener, rule: the same in every revision.
    pub key: String,
    /// Its target groups, see [`crate::Compiled::group`].
    pub groups: Vec<TargetGroupIndex>,
    /// Their weights.
    pub weights: Vec<u16>,
    /// How a caller gets the same group again.
    pub stickiness: Option<Stickiness>,
}

/// The position of a forward in [`crate::Compiled::forwards`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardIndex(usize);

impl ForwardIndex {
    /// The position, from 0.
    pub const fn position(self) -> usize {
        self.0
    }
}

/// What keeps a caller at a target group.
#[derive(Debug)]
pub enum Stickiness {
    /// One of our cookies.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// For each group, what the cookie says and the `Set-Cookie` that says it.
        marks: Vec<(Box<str>, HeaderValue)>,
    },
    /// The value of this field.
    Header(HeaderName, Shares),
    /// The caller's address in its VPC.
    Source(Shares),
}

/// Each group's id, which is the same in every revision, and its weight.
pub type Shares = Vec<(String, u16)>;

/// Our own response.
#[derive(Debug)]
pub struct Fixed {
    /// 200 to 599.
    pub status: StatusCode,
    /// `content-type`.
    pub content_type: Option<HeaderValue>,
    /// Empty for a status that has none.
    pub body: Bytes,
}

/// An answer that sends the client elsewhere.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Where to.
    pub to: Redirector,
}

/// Compiles the rules of one state.
pub(crate) struct Compiler<'a> {
    pub(crate) groups: &'a [TargetGroup],
    /// Forwards so far.
    pub(crate) forwards: usize,
}

impl Compiler<'_> {
    /// A rule. `place` says service, listener and rule.
    pub(crate) fn rule(&mut self, rule: &snapshot::Rule, place: String) -> Result<Rule, CompileError> {
        self.compile(&rule.id, rule.matches.path.as_ref(), &rule.filters, &rule.action, place)
    }

    /// What is done when no rule matches.
    pub(crate) fn default(&mut self, listener: &snapshot::Listener, place: String) -> Result<Rule, CompileError> {
        self.compile("default", None, &listener.default_filters, &listener.default_action, place)
    }

    fn compile(
        &mut self,
        id: &str,
        path: Option<&PathMatch>,
        filters: &snapshot::Filters,
        action: &snapshot::Action,
        place: String,
    ) -> Result<Rule, CompileError> {
        let filters = (*filters != snapshot::Filters::default())
            .then(|| Filters::compile(filters, path, &place).map(Arc::new))
            .transpose()?;
        Ok(Rule { id: id.into(), filters, action: self.action(action, path, place)? })
    }

    fn action(
        &mut self,
        action: &snapshot::Action,
        path: Option<&PathMatch>,
        place: String,
    ) -> Result<Action, CompileError> {
        match action {
            snapshot::Action::FixedResponse(fixed) => Ok(Action::Fixed(Fixed {
                status: status(fixed.status, &place, 200..=599)?,
                content_type: fixed.content_type.as_deref().map(|value| field_value(value, &place)).transpose()?,
                body: match fixed.status {
                    204 | 205 | 304 => Bytes::new(),
                    _ => Bytes::from(fixed.body.clone()),
                },
            })),
            snapshot::Action::Redirect(to) => {
                let status = status(to.status, &place, 300..=399)?;
                let to = Redirector::compile(to, path)
                    .map_err(|error| CompileError::Regex { place, error: error.into() })?;
                Ok(Action::Redirect(Redirect { status, to }))
            }
            snapshot::Action::Forward(forward) => self.forward(forward, place).map(Action::Forward),
        }
    }

    fn forward(&mut self, forward: &snapshot::Forward, key: String) -> Result<Forward, CompileError> {
        let count = self.groups.len();
        let mut shares = Shares::with_capacity(forward.groups.len());
        for share in &forward.groups {
            let position = share.target_group.position();
            CompileError::check(&key, "target group", position, count)?;
            let group = self.groups.get(position);
            shares.push((group.map_or_else(String::new, |group| group.id.clone()), share.weight));
        }
        let stickiness = match &forward.stickiness {
            None => None,
            Some(snapshot::Stickiness::Source) => Some(Stickiness::Source(shares)),
            Some(snapshot::Stickiness::Header(name)) => Some(Stickiness::Header(field_name(name, &key)?, shares)),
            Some(snapshot::Stickiness::Cookie { name, max_age_seconds }) => {
                let age = max_age_seconds.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
                let mut marks = Vec::with_capacity(shares.len());
                for (group, _) in shares {
                    let mark = mark(&group);
                    let cookie = format!("{name}={mark}; Path=/; HttpOnly; SameSite=Lax{age}");
                    marks.push((mark.into(), field_value(&cookie, &key)?));
                }
                Some(Stickiness::Cookie { name: name.as_str().into(), marks })
            }
        };
        let index = ForwardIndex(self.forwards);
        self.forwards += 1;
        Ok(Forward {
            index,
            key,
            groups: forward.groups.iter().map(|share| share.target_group).collect(),
            weights: forward.groups.iter().map(|share| share.weight).collect(),
            stickiness,
        })
    }
}

/// What a cookie says of a target group: the same on every node and in every revision, and nothing to people.
fn mark(group: &str) -> String {
    let mut hasher = FastHasher::default();
    hasher.write(group.as_bytes());
    format!("{:016x}", hasher.finish())
}

fn status(status: u16, place: &str, range: std::ops::RangeInclusive<u16>) -> Result<StatusCode, CompileError> {
    match StatusCode::from_u16(status) {
        Ok(code) if range.contains(&status) => Ok(code),
        _ => Err(CompileError::Status { place: place.into(), status }),
    }
}
