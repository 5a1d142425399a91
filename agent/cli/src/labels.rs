//! Label selectors, as kubectl's `-l`: `team=shop`, `team!=shop`, `team` and `!team`, all of them to be met, with commas between.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::guess;

/// What labels must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    requirements: Vec<Requirement>,
    /// As it was typed.
    text: String,
}

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
        let requirements = text.split(',').map(requirement).collect::<Result<_, _>>()?;
        Ok(Self { requirements, text: text.to_owned() })
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
        self.requirements.iter().all(|requirement| requirement.is_met(labels))
    }

    /// Why it selects none of those that have these labels, with the nearest that is there.
    pub(crate) fn nothing<'a>(&self, kind: &str, all: impl Iterator<Item = &'a BTreeMap<String, String>>) -> String {
        let all: Vec<_> = all.collect();
        let unmet = self.requirements.iter().find(|requirement| !all.iter().any(|labels| requirement.is_met(labels)));
        let labels = || all.iter().flat_map(|labels| labels.iter());
        let guess = match unmet {
            Some(Requirement::Is(key, value)) => {
                let there: BTreeSet<String> = labels().map(|(key, value)| format!("{key}={value}")).collect();
                guess(&format!("{key}={value}"), there.iter().map(String::as_str))
            }
            Some(Requirement::Has(key)) => {
                let there: BTreeSet<&str> = labels().map(|(key, _)| key.as_str()).collect();
                guess(key, there)
            }
            _ => String::new(),
        };
        format!("no {kind} is selected by -l {}{guess}", self.text)
    }
}

impl Requirement {
    fn is_met(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Is(key, value) => labels.get(key) == Some(value),
            Self::IsNot(key, value) => labels.get(key) != Some(value),
            Self::Has(key) => labels.contains_key(key),
            Self::Lacks(key) => !labels.contains_key(key),
        }
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
        let selector: Selector = "team=shpo".parse().unwrap();
        assert_eq!(
            selector.nothing("service", [&labels].into_iter()),
            "no service is selected by -l team=shpo; did you mean team=shop?"
        );
        let selector: Selector = "taem,tier=front".parse().unwrap();
        assert!(selector.nothing("service", [&labels].into_iter()).ends_with("; did you mean team?"));
        for wrong in ["", "=shop", "team=shop,", "team in (shop, rival)", "!", "!=x"] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
    }
}
