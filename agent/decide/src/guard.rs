//! The policy between a call and the service, at one level.

use std::sync::Arc;

use brattice_iam::{self as iam, Mode};

/// What stands at a level.
#[derive(Clone, Debug, Default)]
pub enum Guard {
    /// Nothing: `authType` is `NONE`; a role without a policy.
    #[default]
    Open,
    /// `AWS_IAM`, and no policy: all is refused.
    Missing,
    /// This policy.
    Policy(Arc<iam::Compiled>),
}

impl Guard {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// The policy, in whatever mode.
    pub fn policy(&self) -> Option<&iam::Policy> {
        match self {
            Self::Open | Self::Missing => None,
            Self::Policy(policy) => Some(policy.policy()),
        }
    }

    /// Whether it could refuse a request: a policy in audit mode does not.
    pub(crate) fn refuses(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Missing => true,
            Self::Policy(policy) => policy.mode() == Mode::Enforce,
        }
    }

    pub(crate) fn per_connection(&self) -> bool {
        match self {
            Self::Open | Self::Missing => true,
            Self::Policy(policy) => policy.per_connection(),
        }
    }

    pub(crate) fn named<'g>(&'g self, name: &'g str) -> iam::Guard<'g> {
        match self {
            Self::Open => iam::Guard::Open,
            Self::Missing => iam::Guard::Missing(name),
            Self::Policy(policy) => iam::Guard::Policy(policy),
        }
    }
}
