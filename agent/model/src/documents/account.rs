//! `Account`.

use super::common::{Metadata, Tags};
use crate::diagnostic::{Located, quote};
use crate::ids::{IdKind, Identifier, OPERATOR_ACCOUNT_ID};
use crate::limits::MAX_ACCOUNT_GRANTS;
use crate::names;
use crate::yaml::{Decoder, Fields};

/// Maps an account's name to its id and says what it may do.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountDocument {
    /// Name and labels.
    pub metadata: Metadata,
    /// 12 digits.
    pub id: Located<String>,
    /// `o-…/r-…/ou-…/`, for policies.
    pub organization_path: Option<String>,
    /// Domains its services may claim: `a.b` and all beneath it, or `*.a.b`.
    pub domains: Vec<Located<String>>,
    /// VPCs its target groups may lie in, besides its own.
    pub vpcs: Vec<Located<Identifier>>,
    /// Tags.
    pub tags: Tags,
}

pub(super) fn decode(d: &mut Decoder<'_>, metadata: Option<Metadata>, mut spec: Fields<'_>) -> Option<AccountDocument> {
    let id = spec.need(d, "id").and_then(|node| {
        let id = d.located(node, "the account's id of 12 digits, in quotes")?;
        if id.len() != 12 || !id.bytes().all(|b| b.is_ascii_digit()) {
            let diagnostic = d.error(node.mark, format!("{} is no account id", quote(&id)));
            d.report(diagnostic.expected("12 digits in quotes, like \"123456789012\""));
            return None;
        }
        if id.value == OPERATOR_ACCOUNT_ID {
            let diagnostic = d.error(node.mark, format!("the account id {OPERATOR_ACCOUNT_ID} is the operator's"));
            d.report(diagnostic);
            return None;
        }
        Some(id)
    });
    let organization_path = spec.take(d, "organizationPath").and_then(|node| {
        let path = d.string(node, "the account's path in its organization, like o-abc/r-def/ou-ghi/")?;
        let ok = path.starts_with("o-")
            && path.len() <= 1024
            && path.split('/').all(|part| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        if !ok {
            let diagnostic = d.error(node.mark, format!("{} is no organization path", quote(path)));
            d.report(diagnostic.expected("parts of letters, digits and hyphens, like o-abc/r-def/ou-ghi/"));
        }
        Some(path.to_owned())
    });
    let mut domains: Vec<Located<String>> = Vec::new();
    if let Some(node) = spec.take(d, "domains") {
        for item in d.list(node, 0..=MAX_ACCOUNT_GRANTS, "domains").unwrap_or_default() {
            let Some(text) = d.string(item, "a domain like shop.internal or *.shop.internal") else { continue };
            let (star, parent) = text.strip_prefix("*.").map_or(("", text), |parent| ("*.", parent));
            match names::domain(parent) {
                Ok(name) => {
                    let domain = Located { value: format!("{star}{name}"), at: d.at(item.mark) };
                    if d.unseen(&domains, &domain, "domain") {
                        domains.push(domain);
                    }
                }
                Err(why) => {
                    let diagnostic = d.error(item.mark, format!("{} is no domain: {why}", quote(text)));
                    d.report(diagnostic);
                }
            }
        }
    }
    let mut vpcs: Vec<Located<Identifier>> = Vec::new();
    if let Some(node) = spec.take(d, "vpcs") {
        for item in d.list(node, 0..=MAX_ACCOUNT_GRANTS, "VPCs").unwrap_or_default() {
            if let Some(vpc) = d.identifier(item, IdKind::Vpc, names::VPC)
                && d.unseen(&vpcs, &vpc, "VPC")
            {
                vpcs.push(vpc);
            }
        }
    }
    let tags = d.spec_tags(&mut spec);
    spec.read_only(d, &["arn", "status", "createdAt", "lastUpdatedAt"]);
    spec.finish(d);
    Some(AccountDocument { metadata: metadata?, id: id?, organization_path, domains, vpcs, tags })
}
