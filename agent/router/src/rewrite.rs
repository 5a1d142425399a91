//! Path rewrites, and the `location` of redirects.

use std::{borrow::Cow, fmt::Write as _};

use brattice_wire::rules::{PathMatch, PathMatchKind, PathRewrite, Redirect};
use regex::bytes::Regex;

use crate::{
    RegexError,
    limits::{MAX_LOCATION, MAX_REWRITTEN},
    path::{self, Refused},
    pattern,
};

/// Why a request cannot be changed as its rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// A path of more than [`MAX_REWRITTEN`] bytes.
    #[error("the rewritten path would have more than {MAX_REWRITTEN} bytes")]
    LongPath,
    /// A `location` of more than [`MAX_LOCATION`] bytes.
    #[error("the location of the redirect would have more than {MAX_LOCATION} bytes")]
    LongLocation,
    /// No normal path.
    #[error("the rewritten path would be refused: {0}")]
    Refused(#[from] Refused),
}

/// Why a rewrite by regular expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The regular expression.
    #[error(transparent)]
    Pattern(#[from] RegexError),
    /// A group that the regular expression does not have.
    #[error(
        "`${{{0}}}` stands for a group that the pattern does not have; write `${{name}}` where letters or digits follow a \
         group, and `$$` for a `$`"
    )]
    Group(String),
}

impl CheckError {
    /// Whether the substitution has to be changed, not the pattern.
    pub fn is_about_substitution(&self) -> bool {
        matches!(self, Self::Group(_))
    }
}

/// Whether a rewrite by regular expression can be carried out: the pattern compiles, and has the groups that the
/// substitution names (`$1`, `$name`, `${name}`; `$$` is a `$`).
///
/// # Errors
/// When it cannot.
pub fn check(pattern: &str, substitution: &str) -> Result<(), CheckError> {
    let pattern = pattern::anywhere(pattern)?;
    let mut rest = substitution;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|name| name.split_once('}'));
        let (name, behind) = braced.unwrap_or_else(|| {
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            after.split_at(after.bytes().take_while(is_name).count())
        });
        let known = match name.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            // A `$` before anything else stands for itself.
            Err(_) if name.is_empty() && braced.is_none() => true,
            Err(_) => pattern.capture_names().flatten().any(|group| group == name),
        };
        if !known {
            return Err(CheckError::Group(name.into()));
        }
        rest = behind;
    }
    Ok(())
}

/// A [`PathRewrite`], compiled.
#[derive(Clone, Debug)]
pub struct Rewriter(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Full(Box<str>),
    Prefix {
        /// How many bytes of the path go.
        matched: usize,
        new: Box<str>,
    },
    /// The whole path was what matched.
    Regex(Regex, Box<[u8]>),
}

impl Rewriter {
    /// Compiles a rewrite of the paths that `matched`, the path condition of the same rule, lets through. Without a
    /// condition the prefix is `/`; of an exact path or a regular expression it is all of the path.
    ///
    /// # Errors
    /// When a regular expression is refused.
    pub fn compile(rewrite: &PathRewrite, matched: Option<&PathMatch>) -> Result<Self, RegexError> {
        Ok(Self(match rewrite {
            PathRewrite::Full(new) => Kind::Full(new.as_str().into()),
            PathRewrite::Prefix(new) => match matched.map(|path| (path.kind, path.value.as_str())) {
                Some((PathMatchKind::Exact | PathMatchKind::Regex, _)) => Kind::Full(new.as_str().into()),
                Some((PathMatchKind::StringPrefix, value)) => {
                    Kind::Prefix { matched: value.len(), new: new.as_str().into() }
                }
                prefix => {
                    let value = prefix.map_or("/", |(_, value)| value);
                    let matched = value.strip_suffix('/').unwrap_or(value).len();
                    Kind::Prefix { matched, new: new.as_str().into() }
                }
            },
            PathRewrite::Regex { pattern, substitution } => {
                Kind::Regex(pattern::anywhere(pattern)?, substitution.as_bytes().into())
            }
        }))
    }

    /// The new path of a normal path, normal too. `*` stays `*`.
    ///
    /// # Errors
    /// When the new path is too long or not acceptable.
    pub fn apply<'a>(&'a self, path: &'a str) -> Result<Cow<'a, str>, RewriteError> {
        if path == "*" {
            return Ok(Cow::Borrowed(path));
        }
        let new = match &self.0 {
            Kind::Full(new) => Cow::Borrowed(&**new),
            Kind::Prefix { matched, new } => match path.get(*matched..) {
                Some("") | None => Cow::Borrowed(&**new),
                // Where both have a slash, normalising leaves one.
                Some(rest) => Cow::Owned(format!("{new}{rest}")),
            },
            Kind::Regex(pattern, substitution) => match pattern.replace(path.as_bytes(), &**substitution) {
                Cow::Borrowed(_) => Cow::Borrowed(path),
                // Of ASCII; the substitution was text, too, but a class may have split its characters.
                Cow::Owned(new) => Cow::Owned(String::from_utf8(new).map_err(|_| Refused::NonAscii)?),
            },
        };
        let new = if new.starts_with('/') { new } else { Cow::Owned(format!("/{new}")) };
        let new = match new {
            Cow::Borrowed(new) => path::normalize(new)?,
            Cow::Owned(new) => Cow::Owned(path::normalize(&new)?.into_owned()),
        };
        if new.len() > MAX_REWRITTEN { Err(RewriteError::LongPath) } else { Ok(new) }
    }
}

/// Where a request was sent to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host without port; of IPv6 in brackets. Empty where the request has none.
    pub host: &'a str,
    /// The listener's port.
    pub port: u16,
    /// Normal path.
    pub path: &'a str,
    /// Query without `?`; empty where the request has none.
    pub query: &'a str,
}

/// A [`Redirect`], compiled.
#[derive(Clone, Debug)]
pub struct Redirector {
    redirect: Redirect,
    path: Option<Rewriter>,
}

impl Redirector {
    /// Compiles a redirect of the paths that `matched`, the path condition of the same rule, lets through.
    ///
    /// # Errors
    /// When a regular expression is refused.
    pub fn compile(redirect: &Redirect, matched: Option<&PathMatch>) -> Result<Self, RegexError> {
        let path = redirect.path.as_ref().map(|path| Rewriter::compile(path, matched)).transpose()?;
        Ok(Self { redirect: redirect.clone(), path })
    }

    /// 301, 302, 303, 307 or 308.
    pub fn status(&self) -> u16 {
        self.redirect.status
    }

    /// The value of `location`: an absolute URI, without the port where it is the scheme's usual one; only path and query
    /// where neither request nor redirect has a host. ASCII without blanks and control characters.
    ///
    /// # Errors
    /// When the path cannot be rewritten, or the value would be too long.
    pub fn location(&self, from: &Target<'_>) -> Result<String, RewriteError> {
        let Redirect { scheme, host, port, path: _, status: _ } = &self.redirect;
        let path = match &self.path {
            Some(rewriter) => rewriter.apply(from.path)?,
            None => Cow::Borrowed(from.path),
        };
        let new_scheme = scheme.as_deref().unwrap_or(from.scheme);
        let usual = if new_scheme == "https" { 443 } else { 80 };
        let port = port.unwrap_or(if scheme.is_some() { usual } else { from.port });
        let host = host.as_deref().unwrap_or(from.host);
        let mut location = String::new();
        if !host.is_empty() {
            location.extend([new_scheme, "://", host]);
            if port != usual {
                // Writing to a string cannot fail.
                let _ = write!(location, ":{port}");
            }
        }
        if path != "*" {
            location.push_str(&path);
        }
        if !from.query.is_empty() {
            location.push('?');
            for byte in from.query.bytes() {
                if byte.is_ascii_graphic() {
                    location.push(char::from(byte));
                } else {
                    let _ = write!(location, "%{byte:02X}");
                }
            }
        }
        if location.len() > MAX_LOCATION { Err(RewriteError::LongLocation) } else { Ok(location) }
    }
}
