//! Denials in words: for the caller as Lattice says them, for the operator with the place that decided.

use crate::chain::{Cause, Chain, Denial, Guard};
use crate::finding::printable;
use crate::request::Request;

impl Denial {
    /// What Lattice tells the caller, with status 403. It names no policy and no place.
    pub fn client_message(&self, request: &Request<'_>) -> String {
        let action = request.action().name();
        let level = self.level.word();
        let why = match self.cause {
            Cause::Statement(_) => format!("with an explicit deny in a {level}-based policy"),
            _ => format!("because no {level}-based policy allows the {action} action"),
        };
        let why = if level == "identity" { why.replace(" a identity", " an identity") } else { why };
        let resource: String = request.resource().chars().map(printable).collect();
        format!(
            "AccessDeniedException: User: {} is not authorized to perform: {action} on resource: {resource} {why}",
            request.caller.display()
        )
    }

    /// An id for logs and metrics: the statement's place, with its Sid, or the default denial's own id.
    pub fn id(&self, chain: &Chain<'_>) -> String {
        let level = self.level.word();
        if let (Cause::Statement(position), Some((compiled, _))) = (self.cause, chain.statement(self)) {
            return compiled.policy().statement_id(position as usize);
        }
        let name = match chain.guard(self.level, self.network) {
            Some(Guard::Policy(compiled)) => compiled.name(),
            Some(Guard::Missing(name)) => name,
            _ => "",
        };
        match self.cause {
            Cause::NoPolicy => format!("no-policy:{level}:{name}"),
            Cause::NoNetwork => "no-network".into(),
            _ => format!("default-deny:{level}:{name}"),
        }
    }
}
