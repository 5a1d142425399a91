//! Makes faults of the code that stands below guards' markers.
//!
//! All faults of a file are put into it at once, each with a condition: one build has them all, and one of them is switched
//! on when it runs (in eBPF, when it is built). Text is only inserted (and a `?` replaced), so that faults of nested code do not meet.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use anyhow::{Context, Result, bail};
use syn::{
    Arm, Expr, Pat, Stmt,
    spanned::Spanned as _,
    visit::{self, Visit},
};

use super::guards::Operator;

/// Begins a marker.
const MARKER: &str = "// guard: ";

/// A marker.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Mark {
    pub(super) name: String,
    /// Line of the code that it marks, from 1.
    pub(super) line: usize,
}

/// All markers of a file.
pub(super) fn marks(text: &str) -> Vec<Mark> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let is_comment = |line: &&str| line.is_empty() || line.starts_with("//") && !line.starts_with("///");
    let marks = lines.iter().enumerate().filter_map(|(index, line)| Some((index, line.strip_prefix(MARKER)?)));
    marks
        .map(|(index, name)| {
            let comments = lines[index..].iter().take_while(|line| is_comment(line)).count();
            Mark { name: name.trim().to_owned(), line: index + comments + 1 }
        })
        .collect()
}

/// A file with the faults of all its guards. `faults` has, by name, what is done and an expression of type `bool` that says
/// whether it is switched on.
///
/// # Errors
/// When a marker is not known, or marks nothing that its operator can change.
pub(super) fn plant(text: &str, faults: &BTreeMap<&str, (Operator, String)>) -> Result<String> {
    let file = syn::parse_file(text).context("it cannot be parsed")?;
    let mut edits = Vec::new();
    for mark in marks(text) {
        let (operator, on) =
            faults.get(mark.name.as_str()).with_context(|| format!("guard {} is in no table", mark.name))?;
        let mut finder = Finder { line: mark.line, found: None };
        finder.visit_file(&file);
        let node = finder.found.with_context(|| format!("guard {} marks no statement and no match arm", mark.name))?;
        edits.extend(node.edits(*operator, on).with_context(|| format!("guard {}, {operator}", mark.name))?);
    }
    // From the end, so that places before stay where they are.
    edits.sort_by_key(|edit| Reverse(edit.at.start));
    let mut text = text.to_owned();
    for edit in edits {
        text.replace_range(edit.at, &edit.text);
    }
    Ok(text)
}

/// A change of the text.
struct Edit {
    at: Range<usize>,
    text: String,
}

/// Code before and behind a range.
fn around(range: &Range<usize>, before: String, behind: &str) -> Vec<Edit> {
    vec![
        Edit { at: range.start..range.start, text: before },
        Edit { at: range.end..range.end, text: behind.to_owned() },
    ]
}

/// What a marker marks.
enum Node<'ast> {
    Statement(&'ast Stmt),
    /// A match arm, and whether one behind it takes everything.
    Arm(&'ast Arm, bool),
}

impl Node<'_> {
    fn edits(&self, operator: Operator, on: &str) -> Result<Vec<Edit>> {
        Ok(match operator {
            Operator::Never | Operator::Always => {
                let condition = self.condition()?;
                let range = condition.span().byte_range();
                match (operator, lets(condition)) {
                    (Operator::Always, true) => bail!("a condition with `let` cannot always hold"),
                    (Operator::Always, false) => around(&range, format!("{on} || ("), ")"),
                    // `let` stands in no parentheses, and beside no `||`.
                    (_, true) => around(&range, format!("!{on} && "), ""),
                    (_, false) => around(&range, format!("!{on} && ("), ")"),
                }
            }
            Operator::True => around(&self.value()?, format!("({on} || ("), "))"),
            Operator::False => around(&self.value()?, format!("(!{on} && ("), "))"),
            Operator::Default => around(&self.value()?, format!("if {on} {{ Default::default() }} else {{ "), " }"),
            Operator::Dropped => match self {
                Self::Statement(statement) => around(&statement.span().byte_range(), format!("if !{on} {{ "), " }"),
                Self::Arm(arm, true) => match &arm.guard {
                    Some((_, guard)) => around(&guard.span().byte_range(), format!("!{on} && ("), ")"),
                    None => around(&arm.pat.span().byte_range(), String::new(), &format!(" if !{on}")),
                },
                Self::Arm(arm, false) => around(&arm.body.span().byte_range(), format!("{{ if !{on} {{ "), " } }"),
            },
            Operator::Passed => {
                let Self::Statement(statement) = self else { bail!("there is no `?`") };
                let mut tries = Tries(None);
                tries.visit_stmt(statement);
                let tried = tries.0.context("there is no `?`")?;
                let mut edits = around(&tried.expr.span().byte_range(), "(match ".to_owned(), "");
                edits.push(Edit {
                    at: tried.question_token.span.byte_range(),
                    text: format!(
                        " {{ Ok(value) => value, Err(_) if {on} => return Ok(Default::default()), \
                         Err(error) => return Err(error.into()) }})"
                    ),
                });
                edits
            }
        })
    }

    fn condition(&self) -> Result<&Expr> {
        let mut conditions = Conditions(None);
        match self {
            Self::Statement(statement) => conditions.visit_stmt(statement),
            Self::Arm(arm, _) => conditions.visit_arm(arm),
        }
        conditions.0.context("there is no condition")
    }

    /// Where the value of a `let` or an expression stands.
    fn value(&self) -> Result<Range<usize>> {
        match self {
            Self::Statement(Stmt::Local(local)) => {
                Ok(local.init.as_ref().context("the `let` has no value")?.expr.span().byte_range())
            }
            Self::Statement(Stmt::Expr(expr, _)) => Ok(expr.span().byte_range()),
            _ => bail!("there is no value"),
        }
    }
}

/// Whether a condition has a `let` outside of its calls.
fn lets(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(binary) => lets(&binary.left) || lets(&binary.right),
        _ => false,
    }
}

/// Finds the outermost statement or match arm that begins in a line.
struct Finder<'ast> {
    line: usize,
    found: Option<Node<'ast>>,
}

impl<'ast> Visit<'ast> for Finder<'ast> {
    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if self.found.is_none() && statement.span().start().line == self.line {
            self.found = Some(Node::Statement(statement));
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        for (index, arm) in expr.arms.iter().enumerate() {
            if self.found.is_none() && arm.span().start().line == self.line {
                let mut behind = expr.arms[index + 1..].iter();
                let covered = behind.any(|arm| matches!(arm.pat, Pat::Wild(_)) && arm.guard.is_none());
                self.found = Some(Node::Arm(arm, covered));
            }
        }
        visit::visit_expr_match(self, expr);
    }
}

/// Finds the first condition.
struct Conditions<'ast>(Option<&'ast Expr>);

impl<'ast> Visit<'ast> for Conditions<'ast> {
    fn visit_expr_if(&mut self, expr: &'ast syn::ExprIf) {
        self.0.get_or_insert(&expr.cond);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.0.get_or_insert(guard);
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "then_some" || call.method == "then" {
            let receiver = &*call.receiver;
            self.0.get_or_insert(if let Expr::Paren(paren) = receiver { &paren.expr } else { receiver });
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        self.0.get_or_insert(&closure.body);
    }
}

/// Finds the first `?`.
struct Tries<'ast>(Option<&'ast syn::ExprTry>);

impl<'ast> Visit<'ast> for Tries<'ast> {
    fn visit_expr_try(&mut self, expr: &'ast syn::ExprTry) {
        visit::visit_expr_try(self, expr);
        self.0.get_or_insert(expr);
    }
}
