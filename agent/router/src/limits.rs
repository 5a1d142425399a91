//! Every bound of rules, in one place; Lattice's own beside it. Going over one is an error that names the bound.

/// Most rules of a listener; Lattice: 10 (a quota).
pub const MAX_RULES: usize = 10_000;
/// Longest path of a condition or a rewrite, bytes; Lattice: 200.
pub const MAX_PATH: usize = 1_024;
/// Longest host of a condition, bytes (RFC 1035).
pub const MAX_HOST: usize = 253;
/// Longest method of a condition, bytes; Lattice: 16.
pub const MAX_METHOD: usize = 64;
/// Most conditions on headers of a rule, and most on query parameters; Lattice: 5 on headers.
pub const MAX_FIELDS: usize = 32;
/// Longest name of a header field or query parameter in a condition, bytes; Lattice: 100.
pub const MAX_NAME: usize = 256;
/// Longest value in a condition, bytes; Lattice: 200.
pub const MAX_VALUE: usize = 1_024;
/// Longest regular expression, bytes; App Mesh: 255.
pub const MAX_REGEX: usize = 1_024;
/// Largest compiled regular expression, bytes.
pub const MAX_REGEX_SIZE: usize = 64 * 1024;
/// Deepest nesting of groups in a regular expression.
pub const MAX_REGEX_DEPTH: u32 = 64;
/// Most memory that a regular expression keeps between requests, bytes, per thread that uses it.
pub const MAX_REGEX_CACHE: usize = 128 * 1024;
/// Most regular expressions of a listener, those of rewrites not counted.
pub const MAX_REGEXES: usize = 1_000;
/// Longest path after a rewrite, bytes.
pub const MAX_REWRITTEN: usize = 8 * 1024;
/// Longest `location` of a redirect, bytes.
pub const MAX_LOCATION: usize = 16 * 1024;
/// Most bytes of a value that an explanation repeats.
pub const MAX_SHOWN: usize = 256;
