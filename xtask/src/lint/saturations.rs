//! Conversions of integers that give another number in silence: `u32::try_from(n).unwrap_or(0)` and the like.
//!
//! Such a number is a bug that nothing reports. A conversion that cannot fail says why (`expect`), one that can is an error, and where the
//! nearest number is right, a comment says why: `// saturates: ...` on the lines of the conversion, or on the two before.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result};
use syn::{
    Attribute, Expr, ExprMethodCall, ImplItemFn, ItemFn, ItemImpl, ItemMod, Token,
    punctuated::Punctuated,
    spanned::Spanned as _,
    visit::{self, Visit},
};

use super::structure::{end, list};
use crate::{lint::exceptions, paths, run};

/// The comment that allows one, before its reason.
const REASON: &str = "// saturates: ";
/// Lines above a conversion on which its reason may stand.
const ABOVE: usize = 2;
/// What puts another number in the place of one that does not fit.
const REPLACES: [&str; 3] = ["unwrap_or", "unwrap_or_default", "map_or"];
const INTEGERS: [&str; 12] = ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"];

/// Conversions say what happens to numbers that do not fit.
///
/// # Errors
/// When a file that is no known exception has a conversion without a reason; each is printed.
pub(super) fn saturations() -> Result<()> {
    let listed = run::capture(run::git().args(["ls-files", "--", "*/src/*.rs"]))?;
    let mut found = BTreeSet::new();
    for name in listed.lines().filter(|name| is_checked(name)) {
        // A file that was removed is listed until that is committed.
        let Ok(text) = fs::read_to_string(paths::root().join(name)) else { continue };
        for line in of(&text).with_context(|| name.to_owned())? {
            println!("    {name}:{line}: what happens to a number that does not fit?");
            found.insert(name.to_owned());
        }
    }
    end(&exceptions::judge(&list()?, "saturates", &found), "with conversions that saturate in silence")
}

fn is_checked(name: &str) -> bool {
    !name.starts_with("tests/") && !name.ends_with("/tests.rs") && !name.contains("/tests/")
}

/// Lines of the conversions without a reason.
pub(super) fn of(text: &str) -> Result<Vec<usize>> {
    let file = syn::parse_file(text)?;
    let mut finder = Finder { lines: text.lines().collect(), found: Vec::new() };
    finder.visit_file(&file);
    Ok(finder.found)
}

struct Finder<'t> {
    lines: Vec<&'t str>,
    found: Vec<usize>,
}

impl Finder<'_> {
    fn has_reason(&self, call: &ExprMethodCall) -> bool {
        let first = call.span().start().line.saturating_sub(1 + ABOVE);
        let last = call.method.span().end().line;
        let lines = self.lines.iter().take(last).skip(first);
        lines.filter_map(|line| line.split_once(REASON)).any(|(_, reason)| !reason.trim().is_empty())
    }
}

impl<'a> Visit<'a> for Finder<'_> {
    fn visit_expr_method_call(&mut self, call: &'a ExprMethodCall) {
        if REPLACES.iter().any(|name| call.method == name) && converts(&call.receiver) && !self.has_reason(call) {
            self.found.push(call.method.span().start().line);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, mac: &'a syn::Macro) {
        // Of macros that take expressions, such as `format!`.
        if let Ok(arguments) = mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) {
            for argument in &arguments {
                // Its nodes live as long as this call, not as the file.
                Finder::visit_own(self, argument);
            }
        }
    }

    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'a ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }
}

impl Finder<'_> {
    fn visit_own(&mut self, expression: &Expr) {
        let mut inner = Finder { lines: std::mem::take(&mut self.lines), found: Vec::new() };
        inner.visit_expr(expression);
        self.found.extend(inner.found);
        self.lines = inner.lines;
    }
}

/// `u32::try_from(..)` or `.try_into()`, with or without `.ok()`.
fn converts(expression: &Expr) -> bool {
    match expression {
        Expr::Paren(inner) => converts(&inner.expr),
        Expr::MethodCall(call) if call.method == "ok" => converts(&call.receiver),
        Expr::MethodCall(call) => call.method == "try_into",
        Expr::Call(call) => {
            let Expr::Path(path) = &*call.func else { return false };
            let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            matches!(&names[..], [.., of, what] if what == "try_from" && INTEGERS.contains(&of.as_str()))
        }
        _ => false,
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let cfg = attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test");
        attribute.path().is_ident("test") || (attribute.path().is_ident("cfg") && cfg)
    })
}
