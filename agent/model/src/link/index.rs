//! Finding entities by any kind of identifier.

use std::collections::HashMap;

use crate::at::At;
use crate::documents::OPERATOR;
use crate::ids::Identifier;

/// Positions of entities of one kind in their list.
pub(super) struct Index<T> {
    by_name: HashMap<String, At<T>>,
    by_id: HashMap<String, At<T>>,
    by_arn: HashMap<String, At<T>>,
    /// Name without account → positions.
    by_short: HashMap<String, Vec<At<T>>>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), by_id: HashMap::new(), by_arn: HashMap::new(), by_short: HashMap::new() }
    }
}

impl<T> Index<T> {
    pub(super) fn insert(&mut self, position: usize, qualified: &str, id: &str, arn: &str) {
        let (short, position) = (short(qualified), At::new(position));
        self.by_name.insert(qualified.to_owned(), position);
        self.by_id.insert(id.to_owned(), position);
        self.by_arn.insert(arn.to_owned(), position);
        self.by_short.entry(short.to_owned()).or_default().push(position);
    }

    /// The entity an identifier means when an account (or the operator: `None`) says it. `account_name` maps account
    /// ids to names.
    pub(super) fn resolve<'n>(
        &self,
        identifier: &Identifier,
        home: Option<&str>,
        account_name: impl Fn(&str) -> Option<&'n str>,
    ) -> Option<At<T>> {
        let by_name = |name: &str| self.by_name.get(name).copied();
        match identifier {
            Identifier::Id(id) => self.by_id.get(id).copied(),
            Identifier::Arn(arn) => self.by_arn.get(arn).copied(),
            Identifier::Qualified(account, name) if account == OPERATOR => by_name(name),
            Identifier::Qualified(account, name) => {
                by_name(&format!("{}/{name}", account_name(account).unwrap_or(account)))
            }
            Identifier::Name(name) => match home {
                // Unqualified names without an account are the operator's.
                Some(account) => by_name(&format!("{account}/{name}")).or_else(|| by_name(name)),
                // The operator may leave the account out where only one has the name.
                None => by_name(name).or_else(|| match self.by_short.get(name).map(Vec::as_slice) {
                    Some([only]) => Some(*only),
                    _ => None,
                }),
            },
        }
    }

    /// All entities of a name, in whatever account.
    pub(super) fn namesakes(&self, short: &str) -> &[At<T>] {
        self.by_short.get(short).map_or(&[], Vec::as_slice)
    }
}

/// The name without the account.
pub(super) fn short(qualified: &str) -> &str {
    qualified.split_once('/').map_or(qualified, |(_, name)| name)
}

/// The name probably meant, as the owner should write it. `visible` are the qualified names the owner may know of.
pub(super) fn suggestion<'n>(
    identifier: &Identifier,
    home: Option<&str>,
    visible: impl Iterator<Item = &'n str> + Clone,
) -> Option<String> {
    let written = |qualified: &str| match (qualified.split_once('/'), home) {
        (Some((account, name)), Some(home)) if account == home => name.to_owned(),
        _ => qualified.to_owned(),
    };
    match identifier {
        Identifier::Name(name) => {
            crate::nearest::nearest(name, visible.clone().map(short)).and_then(|near| {
                // The first with this name; the owner's own before others'.
                let own = home.map(|home| format!("{home}/{near}"));
                visible
                    .clone()
                    .find(|v| own.as_deref() == Some(*v))
                    .or_else(|| visible.clone().find(|v| short(v) == near))
            })
        }
        Identifier::Qualified(..) => crate::nearest::nearest(&identifier.to_string(), visible),
        Identifier::Id(_) | Identifier::Arn(_) => None,
    }
    .map(written)
}
