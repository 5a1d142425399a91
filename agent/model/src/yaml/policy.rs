//! Policies of AWS's language inside a document: as YAML, or as JSON text in a string.

use brattice_iam as iam;

use super::decoder::scalar_type;
use super::{Content, Decoder, Inside, Mark, Node};
use crate::diagnostic::{Diagnostic, Position, Severity};

impl Decoder<'_> {
    /// The tree of a policy; errors in JSON text are reported at their place in the file.
    pub(crate) fn policy_tree(&mut self, node: &Node) -> Option<iam::Tree> {
        if let Content::Scalar { text, plain } = &node.content
            && (!plain || scalar_type(text) == "string")
        {
            return match iam::json::parse(text) {
                Ok(mut tree) => {
                    tree.place(&|mark| placed(mark, node));
                    Some(tree)
                }
                Err(mut finding) => {
                    let at = finding.at;
                    if node.inside == Inside::Unknown {
                        finding.message =
                            format!("line {}, column {} of the policy: {}", at.line, at.column, finding.text());
                        finding.first = None;
                    }
                    finding.at = placed(at, node);
                    finding.first = finding.first.map(|first| placed(first, node));
                    let diagnostic = diagnostic(&self.at(node.mark), &finding);
                    self.report(diagnostic);
                    None
                }
            };
        }
        if !matches!(node.content, Content::Map(_)) {
            let diagnostic = self.error(node.mark, "the policy is neither a mapping nor JSON text");
            self.report(diagnostic.expected("the elements of a policy (Version, Statement), or JSON text in a string"));
            return None;
        }
        tree(node)
    }
}

/// A place inside a scalar's text as a place in the file.
fn placed(mark: iam::Mark, node: &Node) -> iam::Mark {
    match node.inside {
        // Every line is indented as the first is, so a column counts from the same margin on each.
        Inside::Lines { line, column } => {
            iam::Mark { line: line + mark.line - 1, column: column + mark.column - 1, length: mark.length }
        }
        Inside::Unknown => iam::Mark { line: node.mark.line, column: node.mark.column, length: node.mark.length },
    }
}

/// A finding of the policy language as one about a document; its place is in the file of `within`.
pub(crate) fn diagnostic(within: &Position, finding: &iam::Finding) -> Diagnostic {
    let iam::Mark { line, column, length } = finding.at;
    let at = Position { line, column, length, ..within.clone() };
    let diagnostic = Diagnostic::error(&at, finding.text());
    Diagnostic {
        expected: finding.expected.clone(),
        help: finding.help.clone(),
        severity: if finding.is_error() { Severity::Error } else { Severity::Warning },
        ..diagnostic
    }
}

/// `None` where something was refused, which has been reported.
fn tree(node: &Node) -> Option<iam::Tree> {
    let content = match &node.content {
        Content::Scalar { text, plain: false } => iam::Content::String(text.clone()),
        Content::Scalar { text, plain: true } => match scalar_type(text) {
            "null" => iam::Content::Null,
            "boolean" => iam::Content::Bool(text.eq_ignore_ascii_case("true")),
            "number" => iam::Content::Number(text.clone()),
            _ => iam::Content::String(text.clone()),
        },
        Content::List(items) => iam::Content::List(items.iter().map(tree).collect::<Option<_>>()?),
        Content::Map(entries) => {
            let member = |(key, value): &(super::tree::Key, Node)| {
                Some((iam::Name { text: key.name.clone(), at: mark(key.mark) }, tree(value)?))
            };
            iam::Content::Map(entries.iter().map(member).collect::<Option<_>>()?)
        }
        Content::Refused => return None,
    };
    Some(iam::Tree { at: mark(node.mark), content })
}

const fn mark(mark: Mark) -> iam::Mark {
    iam::Mark { line: mark.line, column: mark.column, length: mark.length }
}
