//! The two questions: what happens to a request, and which rule it meets.

use brattice_wire::api::Subject;
use brattice_wire::explain::{Explanation, Question};

use crate::case::{Case, Gone};
use crate::find::{self, Error};
use crate::judge::judge;
use crate::past;
use crate::request::Asked;
use crate::world::World;

/// What happens to a request and why.
///
/// # Errors
/// When a name stands for nothing, or for more than one thing.
pub fn explain(world: &World<'_>, subject: &Subject) -> Result<Explanation, Error> {
    match subject {
        Subject::MadeUp(question) => Ok(judge(world, made_up(world, question)?, true)),
        Subject::Past(past) => past::explain(world, past),
    }
}

/// Which rule a request meets; its policies are left out.
///
/// # Errors
/// As [`explain`].
pub fn route(world: &World<'_>, question: &Question) -> Result<Explanation, Error> {
    Ok(judge(world, made_up(world, question)?, false))
}

fn made_up<'w>(world: &World<'w>, question: &Question) -> Result<Case<'w>, Error> {
    let found = find::caller(world, &question.from)?;
    let service = find::service(world.model, &question.service)?;
    let mut asked = Asked::of(question);
    if question.port.is_none() {
        asked.port = match &service.listeners[..] {
            [only] => only.port,
            _ => 80,
        };
    }
    if asked.host.is_empty() {
        asked.host = service.domains.first().unwrap_or(&service.generated_name).clone();
    }
    Ok(Case { gone: found.departed.map(Gone::departed), found, service, asked, unread: false })
}
