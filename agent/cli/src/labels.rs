//! Label selectors, as kubectl's `-l`: `team=shop`, `team!=shop`, `team` and `!team`, all of them to be met, with commas between.

use std::collections::BTreeMap;

/// What labels must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    Lacks(String),
}

impl std::str::FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let wrong = || format!("{text:?}: write label=value, label!=value, label or !label, with commas between them");
    let (key, made): (&str, &dyn Fn(String) -> Requirement) = if let Some((key, value)) = text.split_once("!=") {
        (key, &|key| Requirement::IsNot(key, value.trim().to_owned()))
    } else if let Some((key, value)) = text.split_once('=') {
        (key, &|key| Requirement::Is(key, value.strip_prefix('=').unwrap_or(value).trim().to_owned()))
    } else if let Some(key) = text.trim().strip_prefix('!') {
        (key, &Requirement::Lacks)
    } else {
        (text, &Requirement::Has)
    };
    let key = key.trim();
    if key.is_empty() || key.contains(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '!' | '=')) {
        return Err(wrong());
    }
    Ok(made(key.to_owned()))
}

impl Selector {
    /// Whether these labels meet all of it.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Is(key, value) => labels.get(key) == Some(value),
            Requirement::IsNot(key, value) => labels.get(key) != Some(value),
            Requirement::Has(key) => labels.contains_key(key),
            Requirement::Lacks(key) => !labels.contains_key(key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_selected_as_kubectl_does() {
        let labels = BTreeMap::from([("team".to_owned(), "shop".to_owned()), ("tier".to_owned(), "front".to_owned())]);
        for (text, selected) in [
            ("team=shop", true),
            ("team==shop", true),
            ("team = shop", true),
            ("team=rival", false),
            ("team!=rival", true),
            ("team!=shop", false),
            ("other!=shop", true),
            ("team", true),
            ("other", false),
            ("!other", true),
            ("!team", false),
            ("team=shop,tier=front", true),
            ("team=shop,tier=back", false),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().selects(&labels), selected, "{text}");
        }
        for wrong in ["", "=shop", "team=shop,", "team in (shop, rival)", "!", "!=x"] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
    }
}
