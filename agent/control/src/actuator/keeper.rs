//! Keeps on disk what must survive the agent.

use tracing::error;

use crate::planner::Planner;
use crate::state::{State, StateDirectory};

/// The state directory, and what is in it.
pub struct Keeper {
    directory: StateDirectory,
    saved: State,
    /// Why the state is not on disk.
    unsaved: Option<String>,
}

impl Keeper {
    /// With what is on disk.
    pub fn new(directory: StateDirectory, saved: State) -> Self {
        Self { directory, saved, unsaved: None }
    }

    /// Why the state is not on disk, if it is not.
    pub fn unsaved(&self) -> Option<&String> {
        self.unsaved.as_ref()
    }

    /// Writes the state, if it changed.
    pub fn save(&mut self, planner: &Planner) {
        let state = State { aliases: planner.aliases.save(), ..planner.state.clone() };
        if state == self.saved {
            self.unsaved = None;
            return;
        }
        match self.directory.save(&state) {
            Ok(()) => {
                self.saved = state;
                self.unsaved = None;
            }
            Err(e) => {
                error!(error = %e, "the state cannot be written; a restart now would forget aliases and revisions");
                let why = self.directory.refusal(&e);
                self.unsaved = Some(format!(
                    "the state directory keeps neither aliases nor revisions, and a restart now would forget them: {why}"
                ));
            }
        }
    }
}
