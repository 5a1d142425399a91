//! `Principal` and `NotPrincipal`.

use super::Reader;
use crate::finding::{Finding, Mark, nearest, quote};
use crate::principal::Named;
use crate::tree::{Content, Tree};

const CLASSES: [&str; 3] = ["AWS", "Service", "Federated"];

impl Reader {
    /// The principals named; with `NotPrincipal` everyone must not be among them.
    pub(super) fn named(&mut self, tree: &Tree, negated: bool) -> Option<(Vec<Named>, Vec<Mark>)> {
        let (mut names, mut marks) = (Vec::new(), Vec::new());
        match &tree.content {
            Content::String(text) if text == "*" => {
                names.push(Named::Everyone);
                marks.push(tree.at);
            }
            Content::String(text) => {
                let finding = Finding::error(tree.at, format!("{} is no principal", quote(text)));
                self.report(finding.expected("`*`, or an object such as {\"AWS\": …}"));
                return None;
            }
            Content::Map(entries) => {
                if entries.is_empty() {
                    self.report(
                        Finding::error(tree.at, "no principal is named")
                            .expected("`*`, or an object such as {\"AWS\": …}"),
                    );
                }
                for (class, value) in entries {
                    let parse = match class.text.as_str() {
                        "AWS" => Named::parse_aws,
                        "Service" => Named::parse_service,
                        "Federated" => Named::parse_federated,
                        other => {
                            let finding =
                                Finding::error(class.at, format!("unknown kind of principal {}", quote(other)));
                            self.report(match nearest(other, CLASSES) {
                                Some(near) => finding.nearest(Some(near)),
                                None => finding.expected("AWS, Service or Federated"),
                            });
                            continue;
                        }
                    };
                    for item in self.one_or_more(value, "a principal") {
                        let Some(text) = self.string(item, "a principal") else { continue };
                        match parse(text) {
                            Ok(named) => {
                                names.push(named);
                                marks.push(item.at);
                            }
                            Err((why, expected)) => {
                                let message = format!("{}: {why}", quote(text));
                                self.report(Finding::error(item.at, message).expected(expected));
                            }
                        }
                    }
                }
            }
            _ => {
                self.wrong(tree, "`*`, or an object such as {\"AWS\": …}");
                return None;
            }
        }
        if negated && names.contains(&Named::Everyone) {
            let message = "`NotPrincipal` with `*` exempts everyone, so the statement would never apply";
            self.report(
                Finding::error(tree.at, message).help("name the principals to exempt, or remove the statement"),
            );
        }
        Some((names, marks))
    }
}
