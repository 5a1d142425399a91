//! Identity, enforcement and revocation over loopback: the world of the tests in `http`, with policies.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]

// Requests and policies as texts, random ones, and the evaluator that follows the language's definition: the policy
// engine's own tests have them.
#[path = "../../../iam/tests/common/mod.rs"]
mod common;
#[path = "../../../iam/tests/differential/generate.rs"]
#[allow(dead_code, reason = "requests are made otherwise here")]
mod generate;
#[path = "../http/log.rs"]
#[allow(dead_code, reason = "these tests need a part of it")]
mod log;
#[path = "../../../iam/tests/differential/naive.rs"]
mod naive;
#[path = "../http/support.rs"]
#[allow(dead_code, reason = "these tests need a part of it")]
mod support;

mod decided;
mod enforced;
mod identity_fields;
mod property;
mod relayed;
mod revoked;
mod scene;
mod spellings;
