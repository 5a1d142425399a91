//! Findings that may be wrong because documents of another owner have errors.

use std::collections::BTreeSet;

use brattice_model::yaml::{Content, read};
use brattice_model::{Diagnostic, Owner, Source};

/// Owners whose documents have errors, and what their documents are called.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    owners: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Broken {
    /// An owner's documents have errors; `sources` are those that can be read at all.
    pub(crate) fn add(&mut self, owner: &Owner, sources: &[Source]) {
        self.owners.insert(owner.to_string());
        for source in sources {
            let (documents, _) = read(&source.text, &mut 0);
            let field = |content: &Content, wanted: &str| -> Option<usize> {
                let Content::Map(fields) = content else { return None };
                fields.iter().position(|(key, _)| key.name == wanted)
            };
            for document in documents {
                let Some(metadata) = field(&document.content, "metadata") else { continue };
                let Content::Map(fields) = document.content else { continue };
                let Some((_, metadata)) = fields.into_iter().nth(metadata) else { continue };
                let Some(name) = field(&metadata.content, "name") else { continue };
                let Content::Map(fields) = metadata.content else { continue };
                if let Some((_, node)) = fields.into_iter().nth(name)
                    && let Content::Scalar { text, .. } = node.content
                {
                    self.names.insert(text);
                }
            }
        }
    }

    /// Whether a finding about another owner's documents misses something that may be in these.
    pub(crate) fn may_cause(&self, owner: &Owner, finding: &Diagnostic) -> bool {
        if self.owners.is_empty() || self.owners.contains(&owner.to_string()) {
            return false;
        }
        let Some((_, missing)) = finding.message.split_once("there is no ") else { return false };
        let Some(name) = missing.split('`').nth(1) else { return false };
        match name.split_once('/') {
            Some((account, _)) if !name.contains(':') => self.owners.contains(account),
            // Ids and ARNs do not tell whose they are.
            _ => name.contains(':') || is_id(name) || self.names.contains(name),
        }
    }

    /// Names of the owners whose documents have errors, for people.
    pub(crate) fn owners(&self) -> String {
        self.owners.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

fn is_id(name: &str) -> bool {
    ["sn-", "svc-", "tg-", "vpc-", "listener-", "rule-"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use brattice_model::Position;

    use super::*;

    #[test]
    fn only_what_the_broken_documents_may_hold_is_uncertain() {
        let mut broken = Broken::default();
        let (platform, shop) = (Owner::Account("platform".into()), Owner::Account("shop".into()));
        let at = Position { file: "accounts/shop/a.yaml".into(), line: 1, column: 1, length: 1 };
        let finding = |message: &str| Diagnostic::error(&at, message);
        let missing = finding("there is no service network `platform/retail`");
        assert!(!broken.may_cause(&shop, &missing), "nothing is broken");
        let text = "kind: ServiceNetwork\nmetadata: {name: retail}\nspec: {sharedWiht: [shop]}\n";
        broken.add(&platform, &[Source { path: "accounts/platform/n.yaml".into(), text: text.into() }]);
        for message in [
            "there is no service network `platform/retail`",
            "not associated: there is no service network `retail`",
            "there is no service `svc-0123456789abcdef0`",
            "there is no service network `arn:aws:vpc-lattice:local:111111111111:servicenetwork/sn-1`",
        ] {
            assert!(broken.may_cause(&shop, &finding(message)), "{message}");
            assert!(!broken.may_cause(&platform, &finding(message)), "its own: {message}");
        }
        for message in [
            "there is no service network `shop/retail`",
            "there is no target group `orders-v9`",
            "`retail` is not what was expected",
        ] {
            assert!(!broken.may_cause(&shop, &finding(message)), "{message}");
        }
    }
}
