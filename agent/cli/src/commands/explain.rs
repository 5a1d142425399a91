//! `brattice explain`: what happens to a request, and why.

use brattice_wire::api::{Recalled, Request, Subject};

use super::route::{by_agent, by_documents, question, show};
use crate::arguments::ExplainArguments;
use crate::{Failure, Outcome, client};

pub(crate) fn run(arguments: &ExplainArguments) -> Outcome {
    let basis = &arguments.basis;
    let explanation = match (&arguments.from, &arguments.service, &basis.policies) {
        (Some(from), Some(service), policies) => {
            let about = Subject::MadeUp(question(from, service, &arguments.request)?);
            match policies {
                Some(directory) => by_documents(directory, basis, |world| brattice_explain::explain(world, &about))?,
                None => by_agent(basis, &Request::Explain { about: Box::new(about) })?,
            }
        }
        (.., Some(_)) => {
            let text = "--policies is for a made-up request: say --from and --to. What was sent is remembered by the engine, \
                        so leave --policies out to ask about it";
            return Err(Failure::new(text).code(2));
        }
        _ => {
            let (what, missing) = match (&arguments.request_id, &arguments.flow) {
                (Some(id), _) => (
                    Recalled::Request(id.clone()),
                    format!(
                        "the engine does not remember the request {id:?}: each worker keeps its latest 4,096; is the id right? The access log has older ones"
                    ),
                ),
                (None, flow) => {
                    let flow = flow.clone().unwrap_or_default();
                    let missing = format!(
                        "there is no connection {flow:?} with a request that is remembered; brattice flows lists those that live"
                    );
                    (Recalled::Flow(flow), missing)
                }
            };
            let past = client::recall(&basis.run_dir, what).map_err(|failure| failure.code(2))?;
            let past = past.ok_or_else(|| Failure::new(missing).code(2))?;
            by_agent(basis, &Request::Explain { about: Box::new(Subject::Past(Box::new(past))) })?
        }
    };
    show(&explanation, basis.output, brattice_explain::render)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Verb};

    #[test]
    fn a_request_that_was_sent_is_not_explained_by_other_documents() {
        let text = |words: &[&str]| {
            let words = [&["brattice", "explain", "--run-dir", "/nowhere"], words].concat();
            let Verb::Explain(arguments) = Arguments::try_parse_from(words).unwrap().verb else { panic!() };
            run(&arguments).unwrap_err().text
        };
        for words in [["r-1"].as_slice(), &["--flow", "7"]] {
            let refused = text(&[words, &["--policies", "/tmp"]].concat());
            assert!(refused.contains("--policies is for a made-up request"), "{refused}");
            let control = text(words);
            assert!(!control.contains("--policies"), "{control}");
        }
    }
}
