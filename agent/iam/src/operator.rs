//! Condition operators: their names and how they treat what is missing.

use std::cmp::Ordering;
use std::fmt;

use crate::finding::nearest;

/// What an operator compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    String,
    Numeric,
    Date,
    Bool,
    Binary,
    IpAddress,
    Arn,
    Null,
}

/// How it compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// The same; for `StringEquals` and all families without order.
    Equal,
    /// The same without regard to case.
    IgnoreCase,
    /// With wildcards.
    Like,
    /// Ordered: which outcomes of comparing request with policy fit.
    Ordered(&'static [Ordering]),
}

/// Over which of the request's values it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// No prefix.
    Plain,
    /// `ForAnyValue:`.
    Any,
    /// `ForAllValues:`.
    All,
}

/// A condition operator, with prefix and suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    base: &'static Base,
    pub(crate) set: Set,
    pub(crate) if_exists: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Base {
    name: &'static str,
    pub(crate) family: Family,
    pub(crate) comparison: Comparison,
    pub(crate) negated: bool,
}

const fn base(name: &'static str, family: Family, comparison: Comparison, negated: bool) -> Base {
    Base { name, family, comparison, negated }
}

const EQUAL: Comparison = Comparison::Ordered(&[Ordering::Equal]);
const LESS: Comparison = Comparison::Ordered(&[Ordering::Less]);
const LESS_EQUAL: Comparison = Comparison::Ordered(&[Ordering::Less, Ordering::Equal]);
const GREATER: Comparison = Comparison::Ordered(&[Ordering::Greater]);
const GREATER_EQUAL: Comparison = Comparison::Ordered(&[Ordering::Greater, Ordering::Equal]);

static BASES: [Base; 27] = [
    base("StringEquals", Family::String, Comparison::Equal, false),
    base("StringNotEquals", Family::String, Comparison::Equal, true),
    base("StringEqualsIgnoreCase", Family::String, Comparison::IgnoreCase, false),
    base("StringNotEqualsIgnoreCase", Family::String, Comparison::IgnoreCase, true),
    base("StringLike", Family::String, Comparison::Like, false),
    base("StringNotLike", Family::String, Comparison::Like, true),
    base("NumericEquals", Family::Numeric, EQUAL, false),
    base("NumericNotEquals", Family::Numeric, EQUAL, true),
    base("NumericLessThan", Family::Numeric, LESS, false),
    base("NumericLessThanEquals", Family::Numeric, LESS_EQUAL, false),
    base("NumericGreaterThan", Family::Numeric, GREATER, false),
    base("NumericGreaterThanEquals", Family::Numeric, GREATER_EQUAL, false),
    base("DateEquals", Family::Date, EQUAL, false),
    base("DateNotEquals", Family::Date, EQUAL, true),
    base("DateLessThan", Family::Date, LESS, false),
    base("DateLessThanEquals", Family::Date, LESS_EQUAL, false),
    base("DateGreaterThan", Family::Date, GREATER, false),
    base("DateGreaterThanEquals", Family::Date, GREATER_EQUAL, false),
    base("Bool", Family::Bool, Comparison::Equal, false),
    base("BinaryEquals", Family::Binary, Comparison::Equal, false),
    base("IpAddress", Family::IpAddress, Comparison::Like, false),
    base("NotIpAddress", Family::IpAddress, Comparison::Like, true),
    base("ArnEquals", Family::Arn, Comparison::Like, false),
    base("ArnLike", Family::Arn, Comparison::Like, false),
    base("ArnNotEquals", Family::Arn, Comparison::Like, true),
    base("ArnNotLike", Family::Arn, Comparison::Like, true),
    base("Null", Family::Null, Comparison::Equal, false),
];

/// Why a text names no operator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Operator {
    pub(crate) fn parse(text: &str) -> Result<Self, Unknown> {
        let quoted = crate::finding::quote(text);
        let (set, rest) = match text.split_once(':') {
            Some(("ForAnyValue", rest)) => (Set::Any, rest),
            Some(("ForAllValues", rest)) => (Set::All, rest),
            Some((prefix, _)) => {
                let help = nearest(prefix, ["ForAnyValue", "ForAllValues"]);
                let help = help.map(|near| format!("did you mean `{near}:`?"));
                return Err(Unknown { message: format!("unknown set operator in {quoted}"), help });
            }
            None => (Set::Plain, text),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let Some(base) = BASES.iter().find(|base| base.name == name) else {
            let help = nearest(name, BASES.iter().map(|base| base.name)).map(|near| format!("did you mean `{near}`?"));
            return Err(Unknown { message: format!("unknown condition operator {quoted}"), help });
        };
        if base.family == Family::Null && (if_exists || set != Set::Plain) {
            let message = format!("{quoted} does not exist: Null has no suffix and no prefix");
            return Err(Unknown { message, help: Some("write `Null`".into()) });
        }
        Ok(Self { base, set, if_exists })
    }

    /// Whether it wants no particular value: another than those named, or one below or above.
    pub(crate) fn is_range(self) -> bool {
        self.base.negated
            || matches!(self.base.comparison, Comparison::Ordered(orders) if orders != [Ordering::Equal].as_slice())
    }

    /// The operator without its prefix and suffix.
    pub(crate) const fn base(self) -> &'static Base {
        self.base
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.set {
            Set::Plain => "",
            Set::Any => "ForAnyValue:",
            Set::All => "ForAllValues:",
        })?;
        f.write_str(self.base.name)?;
        f.write_str(if self.if_exists { "IfExists" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_is_read_and_written_again() {
        for base in &BASES {
            for prefix in ["", "ForAnyValue:", "ForAllValues:"] {
                for suffix in ["", "IfExists"] {
                    let text = format!("{prefix}{}{suffix}", base.name);
                    let read = Operator::parse(&text);
                    if base.name == "Null" && text != "Null" {
                        assert!(read.unwrap_err().message.contains("does not exist"), "{text}");
                    } else {
                        assert_eq!(read.unwrap().to_string(), text);
                    }
                }
            }
        }
    }

    #[test]
    fn negated_ones_are_those_with_not_in_their_name() {
        for base in &BASES {
            assert_eq!(base.negated, base.name.contains("Not"), "{}", base.name);
        }
    }

    #[test]
    fn what_is_no_operator_says_what_was_meant() {
        let help = |text: &str| Operator::parse(text).unwrap_err().help;
        assert_eq!(help("StringEqual").unwrap(), "did you mean `StringEquals`?");
        assert_eq!(help("ForAllValue:StringEquals").unwrap(), "did you mean `ForAllValues:`?");
        assert_eq!(help("stringLikeIfExists").unwrap(), "did you mean `StringLike`?");
        assert_eq!(help("x"), None);
    }
}
