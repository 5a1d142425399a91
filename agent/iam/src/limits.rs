//! Every bound of policies, in one place. Going over one is an error that names the bound.

/// Longest policy, bytes: as written where it is JSON text, as compact JSON where it is YAML (the API's own bound).
pub const MAX_POLICY_BYTES: usize = 100 * 1024;
/// AWS's quota for auth policies, bytes as compact JSON; going over it is a warning, as AWS would refuse the policy.
pub const AWS_POLICY_BYTES: usize = 10 * 1024;
/// Deepest nesting of objects and lists; the language itself needs five levels.
pub const MAX_DEPTH: usize = 16;
/// Longest `Sid` and `Id`, characters.
pub const MAX_SID: usize = 256;
/// Most findings reported of one policy; the rest is a number.
pub const MAX_FINDINGS: usize = 100;
/// Most near misses in an explanation, per policy.
pub const MAX_NEAR_MISSES: usize = 10;
/// Most values of a condition, and of a request, that an explanation repeats.
pub const MAX_SHOWN_VALUES: usize = 5;
/// Most values of a key that a remedy keeps apart one by one, each with a statement: of a call with more values, one with
/// fewer of the same passes as well.
pub const MAX_PINNED_VALUES: usize = 8;
